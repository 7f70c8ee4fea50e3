"""Histograms of oriented gradients as ONNX operators: which way edges run, in cells, normalised over blocks of cells.

N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", CVPR 2005: nine unsigned orientations,
blocks of 2 x 2 cells, L2-Hys. Numbers are those of scikit-image's `hog`: central differences that are zero at the rim,
a pixel's colour channel with the steepest gradient, each pixel in one bin, no interpolation between bins or cells.
"""

from __future__ import annotations

import numpy as np

from tellapart.learn.draft import Draft

__all__ = ["ORIENTATIONS", "blocks", "votes"]

ORIENTATIONS = 9
_BLOCK = 2
_CLIP = 0.2
_EPS = 1e-5


def votes(draft: Draft, planes: str, channels: int) -> str:
    """Return [N, 9, S, S] for pixels [N, channels, S, S] in 0..255: the gradient's size, as often as the angle is past.

    Plane 0 holds the size of each pixel's gradient; plane k holds it where the orientation is k * 20 degrees or more,
    and 0 elsewhere. So a bin is the difference of two planes, which is taken after pooling, on far fewer numbers. The
    bins are found by the signs of products with eight directions: no arc tangent, and exact at 0 degrees.
    """
    difference = np.tile(np.array([-1.0, 0.0, 1.0]), (channels, 1))
    down = draft.op("Conv", planes, draft.floats(difference[:, None, :, None]), group=channels)
    down = draft.op("Pad", down, draft.ints(0, 0, 1, 0, 0, 0, 1, 0))
    across = draft.op("Conv", planes, draft.floats(difference[:, None, None, :]), group=channels)
    across = draft.op("Pad", across, draft.ints(0, 0, 0, 1, 0, 0, 0, 1))
    square = draft.op("Add", draft.op("Mul", across, across), draft.op("Mul", down, down))
    if channels > 1:
        steepest = draft.op("ArgMax", square, axis=1, keepdims=1)
        across, down, square = (draft.op("GatherElements", value, steepest, axis=1) for value in (across, down, square))
    # Both ends of an edge are one orientation: turned so that it points down, or to the right where it is level.
    towards = draft.op("Sign", draft.op("Add", draft.op("Mul", down, draft.floats(1024.0)), across))
    gradient = draft.op("Mul", draft.op("Concat", across, down, axis=1), towards)
    angles = np.deg2rad(180 / ORIENTATIONS * np.arange(1, ORIENTATIONS))
    beyond = draft.pixels(np.stack([-np.sin(angles), np.cos(angles)], axis=1), gradient)
    past = draft.to_floats(draft.op("GreaterOrEqual", beyond, draft.floats(0.0)))
    size = draft.op("Sqrt", square)
    return draft.op("Concat", size, draft.op("Mul", past, size), axis=1)


def blocks(draft: Draft, voted: str, side_px: int, cells: int) -> tuple[str, int]:
    """Return the descriptor [N, 36, cells - 1, cells - 1] of `votes`, with its length flattened.

    The 36 numbers of a block are those of its cells, row by row, nine orientations each.
    """
    cumulated = draft.means(voted, side_px // cells)
    histogram = draft.pixels(np.eye(ORIENTATIONS) - np.eye(ORIENTATIONS, k=1), cumulated)
    across = cells - _BLOCK + 1
    parts = [
        draft.op("Slice", histogram, draft.ints(i, j), draft.ints(i + across, j + across), draft.ints(2, 3))
        for i in range(_BLOCK)
        for j in range(_BLOCK)
    ]
    block = draft.op("Concat", *parts, axis=1)
    block = _normalised(draft, draft.op("Min", _normalised(draft, block), draft.floats(_CLIP)))
    return block, ORIENTATIONS * _BLOCK**2 * across**2


def _normalised(draft: Draft, block: str) -> str:
    energy = draft.op("ReduceSumSquare", block, axes=[1], keepdims=1)
    return draft.op("Div", block, draft.op("Sqrt", draft.op("Add", energy, draft.floats(_EPS**2))))
