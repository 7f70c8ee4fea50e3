"""Channels that tell next to nothing on the user's pictures are left out; what they give on average goes into a bias.

A channel between two convolutions is worth what it moves in the second one: its variance times its weights squared.
Networks that were trained on much have many that move next to nothing on pictures of a few classes: cut off at 0, or
constant. What is left out is less than what rounding to 8 bits changes anyway.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Progress, Steps
from tellapart.learn.rungs import FloatArray
from tellapart.runtime.session import Session
from tellapart.ship.observe import Convolution, convolutions, showing

if TYPE_CHECKING:
    import onnx

__all__ = ["slimmed"]

_SHARE = 2e-3  # of the variance of what a convolution gives, added up over all of them: what may go missing
_MOST = 0.03  # of the numbers that convolutions keep: about what scales and biases take beside 8 bits
_BLOCK = 16  # channels: what processors take at once
_KEEPING = frozenset({"Clip", "Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Elu", "Gelu"})


def slimmed(model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> Steps[onnx.ModelProto]:
    """Return a graph with the inputs and outputs of `model` and fewer channels inside, its weights changed to match.

    `pictures` uint8 [n, S, S, 3] are prepared. The graph is `model` itself where nothing can go.
    """
    from onnx import ModelProto, numpy_helper

    result: onnx.ModelProto = ModelProto.FromString(model.SerializeToString())
    arrays = {array.name: array for array in result.graph.initializer}
    chains = _chains(result)
    if not chains:
        return model

    def put(name: str, values: NDArray[np.floating]) -> None:
        arrays[name].CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))

    def got(name: str) -> FloatArray:
        return numpy_helper.to_array(arrays[name])

    moments = yield from _moments(model, [chain.last.node.input[0] for chain in chains], pictures)
    numbers = sum(layer.weight.size for layer in convolutions(model))
    every = _gone(chains, [variance for _, variance in moments], numbers)
    for chain, (mean, _), gone in zip(chains, moments, every, strict=True):
        if not gone.any():
            continue
        weight, bias = (got(name) for name in chain.last.node.input[1:3])
        kept = ~gone
        put(chain.last.node.input[1], weight[:, kept])
        put(chain.last.node.input[2], bias + weight[:, gone, 0, 0].astype(np.float64) @ mean[gone])
        for layer in (chain.first, *chain.middle):
            for name in layer.node.input[1:]:
                put(name, got(name)[kept])
        for layer in chain.middle:
            [group] = [item for item in layer.node.attribute if item.name == "group"]
            group.i = int(kept.sum())
    return result


@dataclasses.dataclass(frozen=True, eq=False)
class _Chain:
    """Convolutions between which nothing else looks: the `middle` ones see each channel alone, the last one pixel."""

    first: Convolution
    middle: tuple[Convolution, ...]
    last: Convolution

    @property
    def numbers(self) -> int:
        """How many are kept for each channel between."""
        return sum(int(layer.weight[0].size) for layer in (self.first, *self.middle)) + len(self.last.weight)


def _chains(model: onnx.ModelProto) -> list[_Chain]:
    graph = model.graph
    layers = {layer.node.output[0]: layer for layer in convolutions(model)}
    made = {output: node for node in graph.node for output in node.output}
    uses: dict[str, int] = {value.name: 2 for value in graph.output}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1

    def alone(layer: Convolution) -> bool:
        return all(uses[name] == 1 for name in layer.node.input[1:])

    found = []
    for last in layers.values():
        if last.groups != 1 or last.weight.shape[2:] != (1, 1) or any(last.pads) or len(last.node.input) < 3:
            continue
        middle: list[Convolution] = []
        name = last.node.input[0]
        while alone(last) and uses[name] == 1 and name in made:
            layer = layers.get(name)
            if layer is None and made[name].op_type in _KEEPING:
                pass
            elif layer is None or not alone(layer):
                break
            elif layer.groups == 1:
                found.append(_Chain(layer, tuple(middle), last))
                break
            elif layer.groups == len(layer.weight) and layer.weight.shape[1] == 1:
                middle.append(layer)
            else:
                break
            name = made[name].input[0]
    return found


def _moments(
    model: onnx.ModelProto, names: Sequence[str], pictures: NDArray[np.uint8]
) -> Steps[list[tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Return mean and variance, float64 [C] each, of each named value's channels."""
    session = Session(showing(model, list(names)))
    sums: list[Any] = [0.0 for _ in names]
    squares: list[Any] = [0.0 for _ in names]
    for done, picture in enumerate(pictures, 1):
        values = session.run(picture[None], names)
        for number, name in enumerate(names):
            flat = values[name][0].reshape(values[name].shape[1], -1)
            sums[number] += flat.mean(axis=1, dtype=np.float64) / len(pictures)
            squares[number] += np.einsum("cp,cp->c", flat, flat, dtype=np.float64) / (flat.shape[1] * len(pictures))
        yield Progress("find idle channels", done, len(pictures))
    return [(mean, np.maximum(square - mean**2, 0.0)) for mean, square in zip(sums, squares, strict=True)]


def _gone(chains: Sequence[_Chain], variances: Sequence[NDArray[np.float64]], numbers: int) -> list[NDArray[np.bool_]]:
    """Return for each chain which channels go, bool [C]: those that cost least for the numbers they take, in blocks.

    `numbers` are those that all convolutions keep.
    """
    blocks = []
    gone = [np.zeros(len(variance), bool) for variance in variances]
    for number, (chain, variance) in enumerate(zip(chains, variances, strict=True)):
        cost = variance * np.square(chain.last.weight[:, :, 0, 0].astype(np.float64)).sum(axis=0)
        cost /= max(float(cost.sum()), 1e-30)
        order = np.argsort(cost, kind="stable")
        ends = range(len(order) % _BLOCK or _BLOCK, len(order), _BLOCK)
        for begin, end in zip((0, *ends), ends, strict=False):
            lost = float(cost[order[begin:end]].sum())
            blocks.append((lost / (chain.numbers * (end - begin)), number, begin, lost, order[begin:end]))
    total, left = 0.0, _MOST * numbers
    for _, number, _, lost, block in sorted(blocks, key=lambda one: one[:3]):
        total += lost
        left -= chains[number].numbers * len(block)
        if total > _SHARE or left < 0:
            break
        gone[number][block] = True
    return gone
