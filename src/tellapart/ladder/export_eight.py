"""A graph in 8 bits that still answers alike: the layers that hurt stay in 32, as few as it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tellapart.events import Decision, Progress, Steps
from tellapart.ladder.export_gate import Judged
from tellapart.ladder.export_sample import Sample
from tellapart.learn.rungs import FloatArray
from tellapart.ship.observe import Convolution, convolutions, observe, outputs_of
from tellapart.ship.quantize import quantize
from tellapart.ship.slim import slimmed

__all__ = ["EightBits", "eight_bits"]

_TO_RANK = 16  # pictures
_MOST_IN_FLOAT = 0.5


@dataclasses.dataclass(frozen=True)
class EightBits:
    """The graph as bytes, and the outputs of the convolutions that stay in 32 bits."""

    model: bytes
    in_float: tuple[str, ...]


def eight_bits(
    plain: bytes, pictures: Sample, before: tuple[FloatArray, FloatArray], judge: Callable[[FloatArray], Judged]
) -> Steps[EightBits | str]:
    """Return `plain` in 8 bits, or why there is no such form.

    `before` are logits and embeddings of the pictures that judge, by the model as it is. The first layers, which see
    pixels, stay in 32 bits: they have few numbers and bring most. Where the rest in 8 bits is refused, layers return
    to 32 bits, up to half of them: first those that bring the embeddings closest to what they were for what they cost,
    the products that they add up. If that is not enough the last one is returned, for the table.
    """
    import onnx

    graph = onnx.load_model_from_string(plain)
    if not convolutions(graph):
        return "the model has no convolutions that could be in 8 bits"
    graph = yield from slimmed(graph, pictures.calibrate)
    layers, first = _layers(convolutions(graph))
    observed = yield from observe(graph, pictures.calibrate, len(pictures.calibrate))
    model = quantize(graph, observed, first)
    found = judge(outputs_of(model, pictures.judge)[0])
    if found.refused is None:
        return EightBits(model, first)
    some = pictures.calibrate[:_TO_RANK]
    meant = outputs_of(plain, some)[1]
    base = float(np.square(outputs_of(model, some)[1] - meant).sum())
    worth = []
    for done, layer in enumerate(layers, 1):
        left = float(np.square(outputs_of(quantize(graph, observed, [*first, layer]), some)[1] - meant).sum())
        worth.append((base - left) / observed.products[layer])
        yield Progress("rank layers", done, len(layers), "layers")
    order = [layers[place] for place in np.argsort(-np.array(worth), kind="stable").tolist()]
    kept = first
    for count in _counts(max(1, int(_MOST_IN_FLOAT * len(layers)))):
        kept = (*first, *order[:count])
        model = quantize(graph, observed, kept)
        found = judge(outputs_of(model, pictures.judge)[0])
        yield Decision("in_float", len(kept), found.refused or "that is enough")
        if found.refused is None:
            break
    return EightBits(model, kept)


def _layers(every: Sequence[Convolution]) -> tuple[list[str], tuple[str, ...]]:
    """Return the layers that may be in 8 bits, and the first ones: up to where channels are mixed again."""
    mixing = [number for number, layer in enumerate(every) if layer.groups == 1]
    start = mixing[1] if mixing[:1] == [0] and len(mixing) > 1 else 0
    names = [layer.node.output[0] for layer in every]
    return names[start:], tuple(names[:start])


def _counts(most: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12 and so on: half as many more each time."""
    steps = [1, *(base << power for power in range(most.bit_length()) for base in (2, 3))]
    return [count for count in steps if count <= most]
