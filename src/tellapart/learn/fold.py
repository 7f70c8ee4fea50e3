"""A graph that computes the same with fewer and faster operators."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import BundleError
from tellapart.runtime.onnx_bytes import DOMAINS
from tellapart.runtime.session import Session, onnxruntime_module

if TYPE_CHECKING:
    import onnx

__all__ = ["folded"]

_ALIKE = 1e-4  # of the largest number of an output
_LINEAR = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


def folded(model: bytes, image_size: int, *, compared: bool = True) -> bytes:
    """Return a graph that gives the same for pictures of `image_size`, with fewer operators where that is possible.

    Exporters leave the arithmetic of shapes and paddings in a graph, which then runs for each picture. onnxruntime's
    basic optimisations do it once, for one picture. Pixels are normalised plane by plane. A graph that does not give
    the same for several pictures, or is not of standard operators alone, is not taken: `model` is returned. Whoever
    compares it with something better leaves that out (`compared`). Needs the package onnx.
    """
    import onnx

    ort = onnxruntime_module()
    graph = onnx.load_model_from_string(model)
    _normalise_by_planes(graph)
    free = {value.name: value.type.tensor_type.shape.dim[0].dim_param for value in _ends(graph)}
    for value in _ends(graph):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
        options.optimized_model_filepath = str(Path(folder) / "model.onnx")
        try:
            ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
            small = onnx.load_model_from_string(Path(options.optimized_model_filepath).read_bytes())
        except Exception:  # onnxruntime has several kinds; then the graph stays as it is
            return model
    if any(node.domain not in DOMAINS for node in small.graph.node):
        return model
    for value in _ends(small):
        value.type.tensor_type.shape.dim[0].dim_param = free[value.name]
    kept = [opset for opset in small.opset_import if any(opset.domain == other.domain for other in graph.opset_import)]
    del small.opset_import[:]
    small.opset_import.extend(kept)
    for name in ("producer_name", "producer_version", "doc_string", "metadata_props"):
        small.ClearField(name)
    small.ir_version, small.graph.name = graph.ir_version, graph.graph.name
    del small.graph.value_info[:]
    content: bytes = small.SerializeToString(deterministic=True)
    return content if not compared or _same(model, content, image_size) else model


def _normalise_by_planes(model: onnx.ModelProto) -> None:
    """Scale and shift pixels in one step, by an operator that onnxruntime does not move to before the transposition.

    It moves single steps there, where channels lie side by side: 0.8 of 4.3 ms of a MobileNetV2.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    image = graph.input[0].name
    found, scale, shift = _linear_start(graph)
    if [node.op_type for node in found].count("Transpose") != 1 or len(found) < 3:
        return
    arrays = {
        "pixel_scale": scale,
        "pixel_shift": shift,
        "pixel_zero": np.zeros(3),
        "pixel_one": np.ones(3),
    }
    steps = [
        helper.make_node("Transpose", [image], ["pixel_planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["pixel_planes"], ["pixel_levels"], to=TensorProto.FLOAT),
        helper.make_node("BatchNormalization", ["pixel_levels", *arrays], [found[-1].output[0]], epsilon=0.0),
    ]
    replaced = {node.output[0] for node in found}
    kept = [node for node in graph.node if node.output[0] not in replaced]
    del graph.node[:]
    graph.node.extend([*steps, *kept])
    graph.initializer.extend(numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items())


def _linear_start(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], NDArray[np.float64], NDArray[np.float64]]:
    """Return the first nodes, as far as they only move, cast, scale and shift channels, with scale and shift [3]."""
    from onnx import TensorProto, numpy_helper

    arrays = {array.name: array for array in graph.initializer}
    arrays |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    ends = {value.name for value in graph.output}
    black, white = np.zeros(3), np.ones(3)
    found: list[onnx.NodeProto] = []
    name, by_planes = graph.input[0].name, False
    while name not in ends:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1:
            break
        node = users[0]
        if node.op_type == "Transpose" and not by_planes and list(node.attribute[0].ints) == [0, 3, 1, 2]:
            by_planes = True
        elif node.op_type in _LINEAR and len(node.input) == 2:
            other = node.input[1] if node.input[0] == name else node.input[0]
            value = numpy_helper.to_array(arrays[other]).astype(np.float64) if other in arrays else np.zeros(0)
            wanted = (3, 1, 1) if by_planes else (3,)
            if (value.size != 1 and value.shape[-len(wanted) :] != wanted) or value.size not in (1, 3):
                break
            flat, first = value.reshape(-1), node.input[0] == name
            step = _LINEAR[node.op_type]
            black, white = (step(end, flat) if first else step(flat, end) for end in (black, white))
        elif node.op_type != "Cast" or node.attribute[0].i != TensorProto.FLOAT:
            break
        found.append(node)
        name = node.output[0]
    if not (np.isfinite(black).all() and np.isfinite(white).all()):
        return [], black, white
    return found, np.broadcast_to(white - black, 3), np.broadcast_to(black, 3)


def _ends(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output]


def _same(model: bytes, other: bytes, image_size: int) -> bool:
    pictures = np.random.default_rng(0).integers(0, 256, (3, image_size, image_size, 3), dtype=np.uint8)
    try:
        first, second = Session(model).run(pictures), Session(other).run(pictures)
    except (BundleError, RuntimeError, ValueError):
        return False
    return all(
        second[name].shape == value.shape
        and np.abs(second[name] - value).max() <= _ALIKE * max(1.0, np.abs(value).max())
        for name, value in first.items()
    )
