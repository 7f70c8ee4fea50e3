"""Convolutions in 8 bits: weights per channel, activations per tensor, written so that any ONNX runtime takes them.

The graph says what is meant by pairs of QuantizeLinear and DequantizeLinear, operators of the standard domain; runtimes
compute what lies between them in whole numbers. What is not a convolution or a sum of such stays as it is.
The rest is kept short too: the scale of a channel as a logarithm in 8 bits, biases in 16, a linear head in 8 with a
scale for each class. Runtimes bring that to 32 bits once, when they load the graph.
A layer's bias makes up for what rounding its weights changes on average (Nagel et al., "Data-free quantization through
weight equalization and bias correction", 2019); without that, a MobileNetV2 lost 1.5 points instead of 0.3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.learn.rungs import FloatArray
from tellapart.ship.observe import Convolution, Observed, convolutions

if TYPE_CHECKING:
    import onnx

__all__ = ["quantize"]

_LEVELS = 255
_WEIGHT_LEVELS = 127  # on either side of 0
_SPAN = 4096.0  # the largest scale of a channel to the least: channels of next to nothing need no more steps
_LARGEST = 65504.0  # in 16 bits


def quantize(model: onnx.ModelProto, observed: Observed, in_float: Collection[str] = ()) -> bytes:
    """Return the bytes of `model` with its convolutions in 8 bits, but for those whose outputs are named `in_float`.

    A linear head is in 8 bits too: `ship.graph.head_of` tells what it then is.
    """
    return _Writer(model, observed, frozenset(in_float)).written()


@dataclasses.dataclass(frozen=True, slots=True)
class _Scale:
    step: np.float32
    zero: np.uint8

    @classmethod
    def of(cls, low: float, high: float) -> _Scale:
        """Return the scale on which 0 is exact and `low` <= 0 <= `high` are just held."""
        step = np.float32(max(high - low, 1e-6) / _LEVELS)
        return cls(step, np.uint8(np.clip(np.rint(-low / step), 0, _LEVELS)))


class _Writer:
    """Copies a graph node by node; where a tensor is to be in 8 bits, what reads it reads the rounded one."""

    def __init__(self, model: onnx.ModelProto, observed: Observed, in_float: frozenset[str]) -> None:
        self._model = model
        self._observed = observed
        layers = [layer for layer in convolutions(model) if layer.node.output[0] not in in_float]
        self._layers = {layer.node.output[0]: layer for layer in layers}
        self._steps = _Steps.of([_finest(layer) for layer in layers])
        self._biases: list[NDArray[np.float64]] = []
        self._arrays = {array.name: array for array in model.graph.initializer}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._shown = {value.name for value in model.graph.output}
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, bytes], str] = {}
        self._rounded: dict[str, str] = {}
        self._scales: dict[str, _Scale] = {}

    def written(self) -> bytes:
        from onnx import ModelProto

        for node in self._model.graph.node:
            if node.op_type == "Gemm" and node.input[1] == "head_weight":
                self._head(node)
            elif node.output[0] in self._layers:
                self._convolution(self._layers[node.output[0]])
            elif node.op_type == "Add" and self._in_eight_bits(node):
                inputs = [self._read(name) for name in node.input]
                self._copy(node, inputs)
                self._round(node.output[0])
            elif node.op_type in ("Clip", "Relu") and self._is_cut_by_rounding(node):
                self._rounded[node.output[0]] = self._rounded[node.input[0]]
                self._scales[node.output[0]] = self._scales[node.input[0]]
            else:
                self._copy(node, [self._rounded.get(name, name) for name in node.input])
        self._keep_outputs()
        self._unpack()
        result = ModelProto.FromString(self._model.SerializeToString())
        used = {name for node in self._nodes for name in node.input}
        arrays = [array for name, array in {**self._arrays, **self._made}.items() if name in used]
        del result.graph.node[:], result.graph.initializer[:]
        result.graph.node.extend(self._nodes)
        result.graph.initializer.extend(arrays)
        _shorten(result.graph)
        content: bytes = result.SerializeToString(deterministic=True)
        return content

    def _convolution(self, layer: Convolution) -> None:
        from onnx import numpy_helper

        node, key, place = layer.node, layer.node.output[0], len(self._biases)
        levels, lacking = _rounded_weights(layer, self._steps.values[place], self._observed.means[key])
        weight = self._array(f"{key}.w", levels)
        bias = numpy_helper.to_array(self._arrays[node.input[2]]) if len(node.input) > 2 else np.zeros(len(levels))
        taken = [self._read(node.input[0]), self._dequantized(f"{key}.wf", weight, f"steps.{place}", axis=0)]
        self._biases.append(bias + lacking)
        self._copy(node, [*taken, f"biases.{place}"])
        # What a layer gives is rounded after it was cut off, where it is cut: that cut then costs nothing.
        users = self._users.get(key, [])
        cut = users[0] if len(users) == 1 and users[0].op_type in ("Clip", "Relu") and key not in self._shown else None
        last = cut.output[0] if cut is not None and self._fits(cut) else key
        self._round(key, self._observed.ranges[last])

    def _unpack(self) -> None:
        """Put what brings scales and biases of channels to 32 bits before all else."""
        from onnx import TensorProto, helper

        if not self._biases:
            return
        sizes = self._array("sizes", np.array([len(bias) for bias in self._biases], np.int64))
        biases = np.concatenate(self._biases).astype(np.float32)
        short = bool((np.abs(biases) < _LARGEST).all())
        codes = self._array("steps.codes", self._steps.codes)
        ratio, least = self._array("steps.ratio", self._steps.ratio), self._array("steps.least", self._steps.least)
        given = self._array("biases.given", biases.astype(np.float16) if short else biases)
        self._nodes[:0] = [
            # What is cast and multiplied at once OpenVINO takes for weights in 8 bits, and leaves so.
            helper.make_node("Cast", [codes], ["steps.whole"], to=TensorProto.FLOAT),
            helper.make_node("Pow", [ratio, "steps.whole"], ["steps.times"]),
            helper.make_node("Mul", ["steps.times", least], ["steps"]),
            helper.make_node("Split", ["steps", sizes], [f"steps.{place}" for place in range(len(self._biases))]),
            helper.make_node("Cast", [given], ["biases"], to=TensorProto.FLOAT),
            helper.make_node("Split", ["biases", sizes], [f"biases.{place}" for place in range(len(self._biases))]),
        ]

    def _head(self, node: onnx.NodeProto) -> None:
        """Write a linear head in 8 bits; `head_weight` is what it stands for."""
        from onnx import TensorProto, helper, numpy_helper

        weight, bias = (numpy_helper.to_array(self._arrays.pop(name)) for name in ("head_weight", "head_bias"))
        steps = np.maximum(np.abs(weight).max(axis=0) / _WEIGHT_LEVELS, 1e-12).astype(np.float32)
        levels = np.rint(weight / steps)
        missed = (weight - levels * steps).astype(np.float64)
        self._array("head_bias", (bias + self._observed.embedding @ missed).astype(np.float32))
        given = self._array("head_levels", levels.astype(np.int8)), self._array("head_steps", steps)
        # Not by DequantizeLinear, before which onnxruntime would round the embedding as well.
        self._nodes.append(helper.make_node("Cast", [given[0]], ["head_whole"], to=TensorProto.FLOAT))
        self._nodes.append(helper.make_node("Mul", ["head_whole", given[1]], ["head_weight"]))
        self._copy(node, [node.input[0], "head_weight", "head_bias"])

    def _fits(self, cut: onnx.NodeProto) -> bool:
        """Whether cutting to the range that is held does what the node does."""
        if cut.op_type == "Relu":
            return True
        least, most = (self._constant(name) for name in [*cut.input[1:3], "", ""][:2])
        return least == 0.0 and most is not None

    def _is_cut_by_rounding(self, node: onnx.NodeProto) -> bool:
        name = node.input[0]
        return name in self._layers and name in self._rounded and len(self._users[name]) == 1 and self._fits(node)

    def _constant(self, name: str) -> float | None:
        from onnx import numpy_helper

        return float(numpy_helper.to_array(self._arrays[name])) if name in self._arrays else None

    def _in_eight_bits(self, node: onnx.NodeProto) -> bool:
        return all(name in self._rounded for name in node.input)

    def _read(self, name: str) -> str:
        """Return the rounded form of a tensor, made if need be."""
        if name not in self._rounded:
            self._round(name)
        return self._rounded[name]

    def _round(self, name: str, held: tuple[float, float] | None = None) -> None:
        from onnx import helper

        scale = _Scale.of(*(held or self._observed.ranges[name]))
        step, zero = self._array(f"{name}.s", scale.step), self._array(f"{name}.z", scale.zero)
        self._nodes.append(helper.make_node("QuantizeLinear", [name, step, zero], [f"{name}.q"]))
        self._scales[name] = scale
        self._rounded[name] = self._dequantized(f"{name}.d", f"{name}.q", step, zero)

    def _dequantized(self, name: str, *inputs: str, axis: int | None = None) -> str:
        from onnx import helper

        given: dict[str, Any] = {} if axis is None else {"axis": axis}
        self._nodes.append(helper.make_node("DequantizeLinear", list(inputs), [name], **given))
        return name

    def _array(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        array = numpy_helper.from_array(np.asarray(values), name)
        if array.dims:
            self._made[name] = array
            return name
        known = self._known.setdefault((str(array.data_type), array.raw_data), name)
        if known == name:
            self._made[name] = array
        return known

    def _copy(self, node: onnx.NodeProto, inputs: list[str]) -> None:
        from onnx import NodeProto

        copy = NodeProto.FromString(node.SerializeToString())
        copy.input[:] = inputs
        self._nodes.append(copy)

    def _keep_outputs(self) -> None:
        """Give outputs that are rounded, or that nothing makes any more, their names."""
        from onnx import helper

        for name in self._shown & self._rounded.keys():
            made = {output for node in self._nodes for output in node.output}
            if name not in made:
                self._nodes.append(helper.make_node("Identity", [self._rounded[name]], [name]))


def _shorten(graph: onnx.GraphProto) -> None:
    """Give values short names, but for those that others know: inputs, outputs and what belongs to the head."""
    known = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {}

    def short(name: str) -> str:
        if not name or name in known or name.startswith("head_"):
            return name
        return names.setdefault(name, f"v{len(names)}")

    for array in graph.initializer:
        array.name = short(array.name)
    for node in graph.node:
        node.name = ""
        node.input[:], node.output[:] = map(short, list(node.input)), map(short, list(node.output))


@dataclasses.dataclass(frozen=True, eq=False)
class _Steps:
    """What a level of each channel's weights stands for: `least` times `ratio` ** code, `values` layer by layer.

    Steps are rounded up: the largest weight still fits, and levels are rounded by the step as it is kept.
    """

    codes: NDArray[np.uint8]
    ratio: np.float32
    least: np.float32
    values: list[FloatArray]

    @classmethod
    def of(cls, finest: list[NDArray[np.float64]]) -> _Steps:
        """Return the steps that are next above the `finest` ones float64 [O] of each layer."""
        if not finest:
            return cls(np.zeros(0, np.uint8), np.float32(1), np.float32(1), [])
        every = np.concatenate(finest)
        every = np.log(np.maximum(every, every.max() / _SPAN))
        unit = max(float(np.ptp(every)) / _LEVELS, 1e-6)
        codes = np.clip(np.ceil((every - every.min()) / unit), 0, _LEVELS).astype(np.uint8)
        ratio, least = np.float32(np.exp(unit)), np.float32(np.exp(every.min()))
        values = (ratio ** codes.astype(np.float32)) * least
        return cls(codes, ratio, least, np.split(values, np.cumsum([len(layer) for layer in finest])[:-1]))


def _finest(layer: Convolution) -> NDArray[np.float64]:
    """Return the finest step of each output channel float64 [O] with which its weights fit 8 bits."""
    flat = np.abs(layer.weight.reshape(len(layer.weight), -1)).max(axis=1).astype(np.float64)
    return np.asarray(np.maximum(flat / _WEIGHT_LEVELS, 1e-12))


def _rounded_weights(
    layer: Convolution, steps: FloatArray, means: NDArray[np.float64]
) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Return int8 levels in the weight's shape, of `steps` float32 [O] each, and what each channel lacks.

    `means` is the mean of what the layer weighs; what is lacking goes to the bias: no channel is off on average.
    """
    flat = layer.weight.reshape(len(layer.weight), -1)
    levels = np.clip(np.rint(flat / steps[:, None]), -_WEIGHT_LEVELS, _WEIGHT_LEVELS)
    missed = (flat - levels * steps[:, None]).reshape(layer.groups, -1, flat.shape[1])
    lacking = np.einsum("gop,gp->go", missed, means).reshape(-1)
    return levels.astype(np.int8).reshape(layer.weight.shape), lacking
