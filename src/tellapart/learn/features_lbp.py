"""Uniform local binary patterns as ONNX operators: which neighbours of a pixel are as bright, counted in cells.

T. Ojala, M. Pietikainen, T. Maenpaa, "Multiresolution gray-scale and rotation invariant texture classification with
local binary patterns", PAMI 24 (2002). Eight neighbours on a circle, between pixels by bilinear interpolation, black
beyond the rim; the codes are those of scikit-image's `local_binary_pattern(method="uniform")`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tellapart.learn.draft import Draft

__all__ = ["CODES", "codes", "texture"]

_NEIGHBOURS = 8
CODES = _NEIGHBOURS + 2
# What rounding may leave of the difference of equal grey levels. In float64, scikit-image decides such ties by the
# rounding itself; here they count as equal.
_TIE = 1e-3


def codes(draft: Draft, grey: str, radius_px: int) -> str:
    """Return [N, 1, S, S]: how many neighbours of 8 are as bright, 9 where they alternate more than once.

    `grey` is [N, 1, S, S], whole numbers in 0..255.
    """
    kernels = _kernels(radius_px)
    rim = kernels.shape[-1] // 2
    differences = draft.op("Conv", grey, draft.floats(kernels), pads=[rim] * 4)
    brighter = draft.to_floats(draft.op("GreaterOrEqual", differences, draft.floats(-_TIE)))
    turned = draft.op("Gather", brighter, draft.ints(*range(1, _NEIGHBOURS), 0), axis=1)
    changes = draft.op("ReduceSum", draft.op("Abs", draft.op("Sub", brighter, turned)), draft.ints(1), keepdims=1)
    count = draft.op("ReduceSum", brighter, draft.ints(1), keepdims=1)
    uniform = draft.op("LessOrEqual", changes, draft.floats(2.0))
    return draft.op("Where", uniform, count, draft.floats(float(_NEIGHBOURS + 1)))


def texture(draft: Draft, code: str, side_px: int, cells: int) -> tuple[str, int]:
    """Return the roots of the codes' shares in each cell, [N, 10, cells, cells], with its length flattened.

    Roots make the Euclidean distance of two histograms the Hellinger distance: R. Arandjelovic and A. Zisserman,
    "Three things everyone should know to improve object retrieval", CVPR 2012.
    """
    planes = draft.op("Equal", code, draft.floats(np.arange(CODES)[:, None, None]))
    return draft.op("Sqrt", draft.means(draft.to_floats(planes), side_px // cells)), CODES * cells**2


def _kernels(radius_px: int) -> NDArray[np.float64]:
    """Return [8, 1, k, k]: each neighbour's interpolated level minus the middle's."""
    side = 2 * radius_px + 1
    kernels = np.zeros((_NEIGHBOURS, 1, side, side))
    for number in range(_NEIGHBOURS):
        turn = 2 * math.pi * number / _NEIGHBOURS
        row, column = round(-radius_px * math.sin(turn), 5), round(radius_px * math.cos(turn), 5)
        top, left = math.floor(row), math.floor(column)
        for i, share in ((top, 1 - (row - top)), (top + 1, row - top)):
            for j, part in ((left, 1 - (column - left)), (left + 1, column - left)):
                if share * part:
                    kernels[number, 0, radius_px + i, radius_px + j] += share * part
        kernels[number, 0, radius_px, radius_px] -= 1.0
    return kernels
