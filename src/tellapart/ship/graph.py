"""A trunk and a head become one ONNX graph, whose bytes are a function of weights and recipe alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.errors import GateError, MissingExtraError
from tellapart.learn.rungs import GraphHead, Head
from tellapart.runtime.onnx_bytes import DOMAINS

if TYPE_CHECKING:
    import onnx

__all__ = ["OUTPUTS", "compose", "head_of", "trunk_of"]

OUTPUTS = ("logits", "embedding", "feature_map")
_IR_VERSION = 10  # the newest that onnxruntime 1.21, the oldest allowed, reads
_PROSE = ("doc_string", "metadata_props", "denotation")  # where exporters leave paths of their machine
_REPORT = "Please report it."
_PRODUCER = ("producer_name", "producer_version", "domain", "model_version")


def compose(trunk: bytes, head: Head | GraphHead, image_size: int) -> bytes:
    """Return ONNX bytes: `image` uint8 [n, S, S, 3] to `logits` [n, K], `embedding` [n, D], `feature_map` if any.

    `trunk` is as `Fitted` says; `head` is tempered already, so that softmax of the logits is the calibrated
    probability. Functions are inlined; docstrings, metadata and producers are left out.
    Raises MissingExtraError without onnx, and GateError (`graph`) when the result is not a valid graph.
    """
    try:
        import onnx
        import onnx.inliner
    except ImportError:
        raise MissingExtraError("train", "Writing a model") from None
    model = onnx.load_model_from_string(trunk)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _strip(model)
    model.ir_version = min(model.ir_version, _IR_VERSION)
    # Exporters import domains that no node uses; a bundle may only name standard ones.
    opsets = {
        "" if opset.domain == "ai.onnx" else opset.domain: opset.version
        for opset in model.opset_import
        if opset.domain in DOMAINS
    }
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    model.graph.name = "tellapart"
    del model.graph.value_info[:]
    _append_head(model, head)
    _declare(model.graph, head, image_size)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise GateError("graph", f"The model is not a valid ONNX graph ({reason}).", _REPORT) from None
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def trunk_of(model: bytes) -> bytes:
    """Return the graph of a bundle without its head: `image` to `embedding`, and `feature_map` where there is one.

    `compose` of it with the head that was taken off gives the bytes of `model` again. Raises MissingExtraError.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("train", "Changing a model") from None
    whole = onnx.load_model_from_string(model)
    graph = whole.graph
    outputs = [value for value in graph.output if value.name != "logits"]
    needed = {value.name for value in outputs}
    nodes = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    arrays = [array for array in graph.initializer if array.name in needed]
    for field, kept in (("output", outputs), ("node", nodes[::-1]), ("initializer", arrays)):
        values = [type(value).FromString(value.SerializeToString()) for value in kept]
        del getattr(graph, field)[:]
        getattr(graph, field).extend(values)
    content: bytes = whole.SerializeToString(deterministic=True)
    return content


def head_of(model: bytes) -> Head | None:
    """Return the linear head that a graph is kept with, in 32 bits or in 8; None where it has another one."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(model).graph
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    if "head_levels" in arrays:
        arrays["head_weight"] = arrays["head_levels"].astype(np.float32) * arrays["head_steps"]
    if "head_weight" not in arrays or not any("head_weight" in node.input[1:2] for node in graph.node):
        return None
    return Head(arrays["head_weight"], arrays["head_bias"])


def _append_head(model: onnx.ModelProto, head: Head | GraphHead) -> None:
    """Put the head behind the embedding; the names of a graph's own values get a prefix, but for its two ends."""
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    taken = {name for node in graph.node for name in node.output} | {array.name for array in graph.initializer}
    if reserved := sorted(name for name in taken if name == "logits" or name.startswith("head_")):
        raise GateError("graph", f"The trunk has a value named {reserved[0]}, which the head needs.", _REPORT)
    if isinstance(head, Head):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(head.weight, np.float32), "head_weight"))
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(head.bias, np.float32), "head_bias"))
        graph.node.append(helper.make_node("Gemm", ["embedding", "head_weight", "head_bias"], ["logits"], name="head"))
        return
    own = onnx.load_model_from_string(head.graph)
    _strip(own)
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    for opset in own.opset_import:
        if opsets.setdefault(opset.domain, opset.version) < opset.version:
            raise GateError("graph", f"The head needs operators of version {opset.version}.", _REPORT)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))

    def renamed(name: str) -> str:
        return name if name in ("", "embedding", "logits") else f"head_{name}"

    for node in own.graph.node:
        node.input[:], node.output[:] = map(renamed, list(node.input)), map(renamed, list(node.output))
        node.name = ""
        graph.node.append(node)
    for array in own.graph.initializer:
        array.name = renamed(array.name)
        graph.initializer.append(array)


def _declare(graph: onnx.GraphProto, head: Head | GraphHead, image_size: int) -> None:
    """State the input and the outputs in the contract's order, with the number of pictures free."""
    from onnx import TensorProto, helper

    inner = {value.name: [*value.type.tensor_type.shape.dim][1:] for value in graph.output}
    width, num_classes = head.shape
    shapes: dict[str, list[Any]] = {"logits": ["n", num_classes], "embedding": ["n", width]}
    if "feature_map" in inner:
        shapes["feature_map"] = ["n", *(size.dim_value if size.dim_value else None for size in inner["feature_map"])]
    del graph.output[:], graph.input[:]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", image_size, image_size, 3]))
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in shapes)


def _strip(message: Any) -> None:
    """Clear prose and producers in a message and in every message below it."""
    for name in (*_PROSE, *_PRODUCER):
        field = message.DESCRIPTOR.fields_by_name.get(name)
        # A node's domain is not prose: it says what the operator means.
        if field is not None and (name in _PROSE or message.DESCRIPTOR.name == "ModelProto"):
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        for item in value if field.is_repeated else (value,):
            _strip(item)
