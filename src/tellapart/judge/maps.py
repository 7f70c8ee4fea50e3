"""Numbers about maps of evidence: how alike two are, where one lies, and whether what it marks is what counts."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

__all__ = ["RING", "Place", "area_under", "mass", "place", "rank_correlation", "ring_share", "ssim"]

Floats = NDArray[np.floating]

RING = 1 / 8  # the width of the border ring, as a share of the side
_HALF = 0.5
_SPREAD = 0.4  # of the picture's area: half of the map in more than this is nowhere in particular
_WINDOW = 7
_ROWS, _COLUMNS = ("upper", "", "lower"), ("left", "", "right")


def mass(evidence: Floats) -> NDArray[np.float64] | None:
    """Return the part of a map [h, w] that speaks for the class (above 0), made to add up to 1; None for none."""
    for_it = np.maximum(np.asarray(evidence, dtype=np.float64), 0.0)
    total = float(for_it.sum())
    return for_it / total if np.isfinite(total) and total > 0 else None


def rank_correlation(one: Floats, other: Floats) -> float:
    """Return Spearman's correlation of two maps [h, w], ties sharing their mean rank; 0 where one is constant."""
    first, second = _ranks(one), _ranks(other)
    spread = float(first.std() * second.std())
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else 0.0


def _ranks(values: Floats) -> NDArray[np.float64]:
    _, place, counts = np.unique(np.ravel(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], dtype=np.float64)


def ssim(one: Floats, other: Floats) -> float:
    """Return the structural similarity of two maps [h, w] with values in [0, 1]; 1 for equal ones.

    The mean over windows of up to 7 x 7, with sample variances and the usual constants (Wang et al., "Image quality
    assessment: from error visibility to structural similarity", 2004).
    """
    side = min(_WINDOW, *one.shape)
    windows = [
        np.lib.stride_tricks.sliding_window_view(np.asarray(map_, dtype=np.float64), (side, side)).reshape(-1, side**2)
        for map_ in (one, other)
    ]
    (a, b), count = windows, side**2
    mean_a, mean_b = a.mean(axis=1), b.mean(axis=1)
    bessel = count / max(1, count - 1)
    var_a, var_b = bessel * a.var(axis=1), bessel * b.var(axis=1)
    both = bessel * ((a * b).mean(axis=1) - mean_a * mean_b)
    c1, c2 = 0.01**2, 0.03**2
    alike = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(alike.mean())


def area_under(shares: Floats, values: Floats) -> NDArray[np.float64]:
    """Return the mean height of curves [..., P] over `shares` [P], which rise from 0 to 1 (trapezoids)."""
    wide = np.asarray(values, dtype=np.float64)
    return np.asarray(((wide[..., 1:] + wide[..., :-1]) / 2 * np.diff(shares)).sum(axis=-1))


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where half of a map lies: in `area` of the picture lies the share `mass` of it, both in [0, 1].

    `words` say where that is, such as `upper left`, or that it is nowhere in particular.
    """

    words: str
    mass: float
    area: float

    @property
    def sentence(self) -> str:
        """All of it in words."""
        return f"{self.words}, {self.mass:.0%} of the map in {self.area:.0%} of the picture"


def place(of_map: NDArray[np.float64]) -> Place:
    """Return where a map [h, w] that adds up to 1 lies: the fewest cells that hold half of it."""
    order = np.argsort(-of_map, axis=None, kind="stable")
    held = np.cumsum(of_map.ravel()[order])
    count = int(np.searchsorted(held, _HALF - 1e-9)) + 1
    height, width = of_map.shape
    area = count / of_map.size
    if area > _SPREAD:
        return Place("spread over the picture", float(held[count - 1]), area)
    cells = order[:count]
    weight = of_map.ravel()[cells] / held[count - 1]
    down = float(weight @ ((cells // width + 0.5) / height))
    across = float(weight @ ((cells % width + 0.5) / width))
    words = " ".join(filter(None, (_ROWS[min(2, int(3 * down))], _COLUMNS[min(2, int(3 * across))])))
    return Place(words or "in the middle", float(held[count - 1]), area)


def ring_share(of_map: NDArray[np.float64], width: float = RING) -> tuple[float, float]:
    """Return the share of a map [h, w] in the border ring, and the ring's share of the area; a cell's mass is even.

    The ring is `width` of a side wide on every side.
    """
    inner = [_inner(cells, width) for cells in of_map.shape]
    inside = inner[0][:, None] * inner[1][None]
    return float(1.0 - (of_map * inside).sum()), float(1.0 - inside.mean())


def _inner(cells: int, width: float) -> NDArray[np.float64]:
    """Return how much of each of `cells` lies between `width` and 1 - `width`, as a share of the cell."""
    edges = np.linspace(0.0, 1.0, cells + 1)
    return np.asarray(np.diff(np.clip(edges, width, 1.0 - width)) * cells)
