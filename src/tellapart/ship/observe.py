"""What the convolutions of a graph see on real pictures: ranges of tensors, the mean of what each one weighs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Progress, Steps
from tellapart.learn.rungs import FloatArray
from tellapart.runtime.session import Runs, Session

if TYPE_CHECKING:
    import onnx

__all__ = ["Convolution", "Observed", "best_range", "convolutions", "observe", "outputs_by", "outputs_of", "showing"]

_POSITIONS = 64  # of a picture, at each layer
_SOME = 1024  # values of a tensor, from each picture
_LEVELS = 255
_FACTORS = np.linspace(1.0, 0.3, 36)


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution: its node, weight float32 [O, I/groups, kh, kw], and what says where it looks."""

    node: onnx.NodeProto
    weight: FloatArray
    groups: int
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]

    def mean_patch(self, values: FloatArray) -> NDArray[np.float64]:
        """Return the mean [groups, I/groups * kh * kw] of what it weighs at some positions of `values` [1, C, H, W]."""
        if self.weight.shape[2:] == (1, 1) and not any(self.pads):
            return np.asarray(values[0].mean(axis=(1, 2), dtype=np.float64).reshape(self.groups, -1))
        top, left, bottom, right = self.pads
        padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
        spread = tuple((n - 1) * step + 1 for n, step in zip(self.weight.shape[2:], self.dilations, strict=True))
        seen = np.lib.stride_tricks.sliding_window_view(padded, spread, axis=(1, 2))
        seen = seen[:, :: self.strides[0], :: self.strides[1], :: self.dilations[0], :: self.dilations[1]]
        places = np.unique(np.linspace(0, seen.shape[1] * seen.shape[2] - 1, _POSITIONS).astype(np.int64))
        some = seen[:, places // seen.shape[2], places % seen.shape[2]]
        return np.asarray(some.mean(axis=1, dtype=np.float64).reshape(self.groups, -1))


@dataclasses.dataclass(frozen=True, eq=False)
class Observed:
    """`ranges`: the least and the largest value of each tensor, with 0 within; `means`: the mean of what a convolution
    weighs, float64 [groups, I/groups * kh * kw], and `products`: how many it adds up for a picture, by the name of its
    output. `embedding`: its mean, float64 [D].
    """

    ranges: Mapping[str, tuple[float, float]]
    means: Mapping[str, NDArray[np.float64]]
    products: Mapping[str, int]
    embedding: NDArray[np.float64]


def convolutions(model: onnx.ModelProto) -> list[Convolution]:
    """Return the two-dimensional convolutions whose weights and bias are constants, in the graph's order."""
    from onnx import helper, numpy_helper

    arrays = {array.name: array for array in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or not set(node.input[1:]) <= arrays.keys():
            continue
        weight = numpy_helper.to_array(arrays[node.input[1]])
        given: dict[str, Any] = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        if weight.ndim != 4 or weight.dtype != np.float32 or given.get("auto_pad", b"NOTSET") != b"NOTSET":
            continue
        strides, dilations = given.get("strides", (1, 1)), given.get("dilations", (1, 1))
        pads, groups = given.get("pads", (0, 0, 0, 0)), int(given.get("group", 1))
        found.append(Convolution(node, weight, groups, tuple(strides), tuple(pads), tuple(dilations)))
    return found


def observe(model: onnx.ModelProto, pictures: Iterable[NDArray[np.uint8]], total: int) -> Steps[Observed]:
    """Run `model` on prepared pictures, uint8 [S, S, 3] each, `total` of them, and return what its convolutions see."""
    layers = convolutions(model)
    names = _tensors(model, layers)
    session = Session(showing(model, list(dict.fromkeys([*names, "embedding"]))))
    embedding: Any = 0.0
    ends = dict.fromkeys(names, (0.0, 0.0))
    some: dict[str, list[FloatArray]] = {name: [] for name in names}
    sums: dict[str, NDArray[np.float64]] = {}
    products: dict[str, int] = {}
    for done, picture in enumerate(pictures, 1):
        values = session.run(picture[None])
        embedding = embedding + values["embedding"][0].astype(np.float64) / total
        for name in names:
            value = values[name]
            low, high = ends[name]
            ends[name] = min(low, float(value.min())), max(high, float(value.max()))
            flat = value.reshape(-1)
            some[name].append(flat[:: max(1, len(flat) // _SOME) | 1].copy())
        for layer in layers:
            key = layer.node.output[0]
            products[key] = layer.weight.size * int(np.prod(values[key].shape[2:]))
            sums[key] = sums.get(key, 0.0) + layer.mean_patch(values[layer.node.input[0]])
        yield Progress("calibrate", done, total)
    ranges = {name: best_range(np.concatenate(some[name]), *ends[name]) for name in names}
    return Observed(ranges, {key: value / total for key, value in sums.items()}, products, embedding)


def best_range(values: FloatArray, low: float, high: float) -> tuple[float, float]:
    """Return the range whose 255 steps hold `values` with the least squared error: `low` to `high`, or less.

    What lies outside is cut off, which pays where a few values lie far out.
    """
    errors = []
    for factor in _FACTORS:
        step = max(factor * (high - low) / _LEVELS, 1e-9)
        zero = np.rint(-factor * low / step)
        levels = np.clip(np.rint(values / step) + zero, 0, _LEVELS)
        errors.append(float(np.square((levels - zero) * step - values).mean(dtype=np.float64)))
    best = float(_FACTORS[int(np.argmin(errors))])
    return best * low, best * high


def outputs_of(model: bytes, pictures: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
    """Return logits float32 [N, K] and embeddings float32 [N, D] of prepared pictures uint8 [N, S, S, 3], N > 0."""
    return outputs_by(Session(model), pictures)


def outputs_by(session: Runs, pictures: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
    """Return the same of a graph that is loaded already."""
    values = [session.run(picture[None], ("logits", "embedding")) for picture in pictures]
    logits = np.concatenate([value["logits"] for value in values])
    return logits, np.concatenate([value["embedding"] for value in values])


def _tensors(model: onnx.ModelProto, layers: list[Convolution]) -> list[str]:
    """Return the names of all that convolutions and additions take and give, and of what is cut off from that."""
    constants = {array.name for array in model.graph.initializer}
    kept = {layer.node.output[0] for layer in layers}
    found: dict[str, None] = {}
    for node in model.graph.node:
        if node.op_type == "Add" or (node.op_type == "Conv" and node.output[0] in kept):
            found.update(dict.fromkeys([*node.input, *node.output]))
        elif node.op_type in ("Clip", "Relu") and node.input[0] in found:
            found[node.output[0]] = None
    return [name for name in found if name and name not in constants]


def showing(model: onnx.ModelProto, names: list[str]) -> bytes:
    """Return the bytes of `model` with the values `names` as its outputs."""
    from onnx import ModelProto, TensorProto, helper

    shown = ModelProto.FromString(model.SerializeToString())
    del shown.graph.output[:]
    shown.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    content: bytes = shown.SerializeToString()
    return content
