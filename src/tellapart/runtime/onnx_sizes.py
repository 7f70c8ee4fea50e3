"""What a graph takes of memory and time must not depend on what a picture shows: then one run tells it for all.

Sizes may come from weights and from the shapes of values, never from the values themselves. So a graph that is small
for the pictures of its self-test cannot be a bomb for another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tellapart.errors import BundleError

__all__ = ["Node", "check_sizes"]

# Operators of the standard domains (opset 1 to 25) whose inputs at these places decide the shape of what they give.
_SIZES: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (1, 2),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "Tile": (1, 2),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
# Those that give as much as their first input's values say, or run what they say.
_BY_VALUE = frozenset(
    {"Compress", "If", "ImageDecoder", "NonMaxSuppression", "NonZero", "StringSplit", "TfIdfVectorizer", "Unique"}
)
# Those that give what depends on the shape of their input alone.
_OF_THE_SHAPE = frozenset({"Shape", "Size"})


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph, or of a graph within it, with the names of what it takes and gives."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]


def check_sizes(nodes: Sequence[Node], pictures: Sequence[str]) -> None:
    """Refuse nodes that make the shape of a value from the values of the inputs named in `pictures`.

    The order of the nodes does not matter. Raises BundleError (`bundle_model`).
    """
    seen = {name for name in pictures if name}
    users: dict[str, list[Node]] = {}
    for node in nodes:
        if node.operator not in _OF_THE_SHAPE:
            for name in node.inputs:
                users.setdefault(name, []).append(node)
    waiting = list(seen)
    while waiting:
        for node in users.get(waiting.pop(), []):
            fresh = {name for name in node.outputs if name} - seen
            seen |= fresh
            waiting += fresh
    for node in nodes:
        places = range(len(node.inputs)) if node.operator in _BY_VALUE else _SIZES.get(node.operator, ())
        deciding = [node.inputs[place] for place in places if place < len(node.inputs)]
        if not seen.isdisjoint(deciding):
            raise BundleError(
                "bundle_model",
                f"The model is refused: what its operator {node.operator} costs depends on what a picture shows.",
                "Take a fresh copy from somewhere you trust.",
            )
