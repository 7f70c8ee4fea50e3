"""Colour histograms as ONNX operators: how much of each colour, and of each lightness, in cells.

On opponent axes, which part colour from lightness: M. J. Swain and D. H. Ballard, "Color indexing", IJCV 7 (1991).
A pixel counts for the two nearest bins of an axis, each by its nearness: no histogram jumps at the edge of a bin.
"""

from __future__ import annotations

import numpy as np

from tellapart.learn.draft import Draft

__all__ = ["COLOURS", "LIGHTNESSES", "OPPONENT", "WHOLE_BINS", "colour", "colour_of_whole", "layout"]

COLOURS, LIGHTNESSES = 5, 8  # bins of each colour axis, and of lightness
WHOLE_BINS = 7  # of each axis, where colours are counted over all of a picture
_WHOLE_PX = 64  # the side at which they are
_FURTHEST = 0.4  # colours further from grey than this share of the axis count as this far
OPPONENT = ((1.0, -1.0, 0.0), (0.5, 0.5, -1.0), (1 / 3, 1 / 3, 1 / 3))  # red-green, yellow-blue, lightness


def colour(draft: Draft, planes: str, side_px: int, cells: int, channels: int) -> tuple[str, int]:
    """Return the roots of the shares in each cell, [N, B, cells, cells], with its length flattened.

    `planes` are [N, channels, S, S] in 0..255. B is 8 bins of lightness, after 5 x 5 of the two colour axes where there
    are colours. The roots are for the Hellinger distance, as in `features_lbp.texture`.
    """
    if channels == 1:
        counted = _soft(draft, draft.op("Mul", planes, draft.floats(1 / 255)), 0.0, 1.0, LIGHTNESSES)
        bins = LIGHTNESSES
    else:
        axes = draft.pixels(np.array(OPPONENT) / 255, planes)
        red_green, yellow_blue, light = draft.split("Split", axes, axis=1, num_outputs=3)
        one = _soft(draft, red_green, -_FURTHEST, _FURTHEST, COLOURS)
        other = _soft(draft, yellow_blue, -_FURTHEST, _FURTHEST, COLOURS)
        both = draft.op("Mul", draft.op("Unsqueeze", one, draft.ints(2)), draft.op("Unsqueeze", other, draft.ints(1)))
        pairs = draft.op("Reshape", both, draft.ints(0, COLOURS**2, side_px, side_px))
        counted = draft.op("Concat", pairs, _soft(draft, light, 0.0, 1.0, LIGHTNESSES), axis=1)
        bins = COLOURS**2 + LIGHTNESSES
    return draft.op("Sqrt", draft.means(counted, side_px // cells)), bins * cells**2


def colour_of_whole(draft: Draft, planes: str, side_px: int) -> tuple[str, int]:
    """Return the roots of the shares of each colour at each lightness in all of a picture, [N, 49, 7], and 343.

    `planes` are [N, 3, S, S] in 0..255. Where things are does not matter: what suits things that lie anywhere.
    """
    cell = max(1, side_px // _WHOLE_PX)
    side = side_px // cell
    small = draft.means(planes, cell) if cell > 1 else planes
    axes = draft.pixels(np.array(OPPONENT) / 255, small)
    red_green, yellow_blue, light = draft.split("Split", axes, axis=1, num_outputs=3)
    one = _soft(draft, red_green, -_FURTHEST, _FURTHEST, WHOLE_BINS)
    other = _soft(draft, yellow_blue, -_FURTHEST, _FURTHEST, WHOLE_BINS)
    both = draft.op("Mul", draft.op("Unsqueeze", one, draft.ints(2)), draft.op("Unsqueeze", other, draft.ints(1)))
    pairs = draft.op("Reshape", both, draft.ints(0, WHOLE_BINS**2, side * side))
    lights = draft.op("Reshape", _soft(draft, light, 0.0, 1.0, WHOLE_BINS), draft.ints(0, WHOLE_BINS, side * side))
    counted = draft.op("MatMul", pairs, draft.op("Transpose", lights, perm=[0, 2, 1]))
    # Rounding must not make a share negative.
    shares = draft.op("Relu", draft.op("Mul", counted, draft.floats(1 / side**2)))
    return draft.op("Sqrt", shares), WHOLE_BINS**3


def layout(draft: Draft, planes: str, side_px: int, cells: int, channels: int) -> tuple[str, int]:
    """Return the picture in small, [N, channels, cells, cells] in 0..1, with its length flattened."""
    return draft.op("Mul", draft.means(planes, side_px // cells), draft.floats(1 / 255)), channels * cells**2


def _soft(draft: Draft, axis: str, low: float, high: float, bins: int) -> str:
    """Return [N, bins, S, S]: a pixel's share in each bin of `axis` [N, 1, S, S], 1 in all."""
    centres = np.linspace(low, high, bins)
    within = draft.op("Clip", axis, draft.floats(low), draft.floats(high))
    distance = draft.op("Abs", draft.op("Sub", within, draft.floats(centres[:, None, None])))
    nearness = draft.op("Mul", distance, draft.floats(-1 / (centres[1] - centres[0])))
    return draft.op("Relu", draft.op("Add", nearness, draft.floats(1.0)))
