"""Several networks as one graph, which looks at a picture once for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.errors import MissingExtraError

if TYPE_CHECKING:
    import onnx

__all__ = ["merged", "scales_of"]


def merged(trunks: Sequence[bytes], scales: Sequence[float]) -> bytes:
    """Return one trunk, whose `embedding` is those of `trunks` side by side, each times its scale (> 0).

    All take pictures of one size. Where each has a `feature_map` of the same height and width, theirs stand side by
    side too, at the same scales: what is the mean of its map remains so. Raises MissingExtraError without onnx.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError:
        raise MissingExtraError("train", "Joining models") from None
    models = [_opened(trunk) for trunk in trunks]
    newest = max(_version(model) for model in models)
    models = [
        model if _version(model) == newest else onnx.version_converter.convert_version(model, newest)
        for model in models
    ]
    mapped = len({_map_size(model) for model in models} - {None}) == 1 and all(map(_map_size, models))
    ends = ["embedding", "feature_map"] if mapped else ["embedding"]
    whole = onnx.ModelProto()
    whole.ir_version = max(model.ir_version for model in models)
    opsets = {opset.domain: opset.version for model in models for opset in model.opset_import}
    whole.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    graph = whole.graph
    graph.name = "together"
    graph.input.append(models[0].graph.input[0])
    parts: dict[str, list[str]] = {end: [] for end in ends}
    for number, (model, scale) in enumerate(zip(models, scales, strict=True)):
        prefix = f"m{number}_"
        _renamed(model.graph, prefix)
        graph.node.extend(model.graph.node)
        graph.initializer.extend(model.graph.initializer)
        graph.initializer.append(
            helper.make_tensor(f"{prefix}scale", TensorProto.FLOAT, [], [float(np.float32(scale))])
        )
        for end in ends:
            scaled = f"{prefix}scaled_{end}"
            graph.node.append(helper.make_node("Mul", [f"{prefix}{end}", f"{prefix}scale"], [scaled]))
            parts[end].append(scaled)
    for end in ends:
        graph.node.append(helper.make_node("Concat", parts[end], [end], axis=1))
        inner = [_shape(model, end) for model in models]
        widths = [shape[1] for shape in inner]
        shape: list[Any] = ["n", sum(widths) if all(widths) else None, *inner[0][2:]]
        graph.output.append(helper.make_tensor_value_info(end, TensorProto.FLOAT, shape))
    content: bytes = whole.SerializeToString(deterministic=True)
    return content


def scales_of(model: bytes) -> list[float]:
    """Return the scales in a graph that is, or begins with, what `merged` made; none in any other.

    Raises MissingExtraError without onnx.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise MissingExtraError("train", "Changing a model") from None

    arrays = {array.name: array for array in onnx.load_model_from_string(model).graph.initializer}
    found: list[float] = []
    while (array := arrays.get(f"m{len(found)}_scale")) is not None and not array.dims:
        found.append(float(numpy_helper.to_array(array)))
    return found


def _opened(trunk: bytes) -> onnx.ModelProto:
    import onnx
    import onnx.inliner
    import onnx.version_converter

    model = onnx.load_model_from_string(trunk)
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def _version(model: onnx.ModelProto) -> int:
    return int(max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")))


def _shape(model: onnx.ModelProto, end: str) -> list[int]:
    """Return the sizes of an output, 0 for those that are free."""
    value = next(value for value in model.graph.output if value.name.endswith(end))
    return [size.dim_value for size in value.type.tensor_type.shape.dim]


def _map_size(model: onnx.ModelProto) -> tuple[int, ...] | None:
    if not any(value.name == "feature_map" for value in model.graph.output):
        return None
    size = tuple(_shape(model, "feature_map")[2:])
    return size if len(size) == 2 and all(size) else None


def _renamed(graph: onnx.GraphProto, prefix: str, outer: frozenset[str] = frozenset({"image", ""})) -> None:
    """Put a prefix before every value's name but those of `outer`, in the graphs inside nodes as well."""

    def new(name: str) -> str:
        return name if name in outer else f"{prefix}{name}"

    for node in graph.node:
        node.input[:], node.output[:] = map(new, list(node.input)), map(new, list(node.output))
        node.name = ""
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _renamed(inner, prefix, outer)
    for array in graph.initializer:
        array.name = new(array.name)
    for value in graph.output:
        value.name = new(value.name)
