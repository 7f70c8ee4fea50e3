"""Whether answers hang on the border of the picture, where a class is told by a mark and not by what it is."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.maps import mass, ring_share
from tellapart.judge.paired import paired_accuracy

__all__ = ["Borders", "borders", "difference_map"]

_LEAST_PICTURES = 12
_LEAST_OF_A_CLASS = 2
_FAR_ABOVE = 1.25  # times the share of the area
_DRAWS, _LOWER_END = 400, 0.01  # of five regions: 5 % for all of them
_CORNER = 1 / 3
_CORNERS = ("upper left", "upper right", "lower left", "lower right")


@dataclasses.dataclass(frozen=True, slots=True)
class Borders:
    """What `n` pictures say of the border ring, and `words` of warning where it is what answers hang on, else empty.

    `ring_moves` and `middle_moves` count the pictures that took the answer of another when its border ring, or as large
    a middle, was put in place of theirs. `ring_mass` is the share of the map of differences that lies in the ring,
    `corner_mass` in the corner of `corner` (a third of a side); None without maps. `ring_area` and `corner_area` are
    their shares of the picture.
    """

    n: int
    ring_moves: int
    middle_moves: int
    ring_area: float
    words: str
    ring_mass: float | None = None
    ring_mass_low: float | None = None
    corner: str | None = None
    corner_mass: float | None = None
    corner_mass_low: float | None = None
    corner_area: float = _CORNER**2

    @property
    def warned(self) -> bool:
        """Whether answers seem to hang on the border."""
        return bool(self.words)


def borders(
    ring_moved: NDArray[np.bool_],
    middle_moved: NDArray[np.bool_],
    ring_area: float,
    evidence: NDArray[np.floating] | None = None,
    answers: NDArray[np.int64] | None = None,
) -> Borders | None:
    """Return what exchanged borders and maps say; None for fewer than 12 pictures.

    `ring_moved` and `middle_moved` bool [n] tell whether a picture took the answer of the other whose ring or middle it
    got. `evidence` [m, K, h, w] and `answers` int [m] are the maps of the classes and the likeliest class of m
    pictures. It is a warning when more answers move with the ring than with as large a middle beyond doubt (McNemar's
    exact test), or when what tells the answers apart lies in the ring or in one corner clearly more than its share of
    the area (the 1 % end of a bootstrap over pictures above 1.25 times it).
    """
    n = len(ring_moved)
    if n < _LEAST_PICTURES:
        return None
    ring, middle = int(ring_moved.sum()), int(middle_moved.sum())
    words = []
    if ring > middle and paired_accuracy(ring_moved, middle_moved).clear:
        words.append(
            f"given the border of a picture that is answered otherwise, {ring} of {n} pictures take its answer, and "
            f"{middle} given as large a part of its middle"
        )
    found = Borders(n, ring, middle, ring_area, "")
    if evidence is not None and answers is not None and len(answers) >= _LEAST_PICTURES:
        found, more = _by_maps(found, evidence, answers)
        words += more
    if not words:
        return found
    return dataclasses.replace(
        found,
        words="Its answers may hang on a shortcut at the border of the picture, a frame, a mark or the background: "
        f"{'; '.join(words)}. Photograph the classes before like backgrounds, and crop what is the same for one class.",
    )


def difference_map(evidence: NDArray[np.floating], answers: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return where evidence [m, K, h, w] for a class differs between pictures answered so and others, [h, w].

    Averaged over the classes by how often they are answered; what all pictures share, such as the edge that a network's
    padding leaves, drops out. None where no class is answered twice and not always.
    """
    total: NDArray[np.float64] | None = None
    for label in np.unique(answers).tolist():
        mine = answers == label
        if min(mine.sum(), (~mine).sum()) < _LEAST_OF_A_CLASS:
            continue
        part = evidence[:, label].astype(np.float64)
        differs = mine.mean() * (part[mine].mean(axis=0) - part[~mine].mean(axis=0))
        total = differs if total is None else total + differs
    return total


def _by_maps(found: Borders, evidence: NDArray[np.floating], answers: NDArray[np.int64]) -> tuple[Borders, list[str]]:
    shares = _shares(evidence, answers)
    if shares is None:
        return found, []
    random = np.random.default_rng(len(answers))
    draws = [random.integers(0, len(answers), len(answers)) for _ in range(_DRAWS)]
    again = [part for rows in draws if (part := _shares(evidence[rows], answers[rows])) is not None]
    low = np.quantile(again, _LOWER_END, axis=0) if again else np.zeros_like(shares)
    corner = int(shares[1:].argmax())
    ring_area = ring_share(np.full(evidence.shape[2:], 1 / np.prod(evidence.shape[2:])))[1]
    found = dataclasses.replace(
        found,
        ring_mass=float(shares[0]),
        ring_mass_low=float(low[0]),
        corner=_CORNERS[corner],
        corner_mass=float(shares[1 + corner]),
        corner_mass_low=float(low[1 + corner]),
    )
    words = []
    if low[0] > _FAR_ABOVE * ring_area:
        words.append(
            f"{shares[0]:.0%} of what tells them apart lies in a border ring of {ring_area:.0%} of the picture"
        )
    if low[1 + corner] > _FAR_ABOVE * found.corner_area:
        words.append(
            f"{shares[1 + corner]:.0%} of what tells them apart lies in the {found.corner} corner, "
            f"{found.corner_area:.0%} of the picture"
        )
    return found, words


def _shares(evidence: NDArray[np.floating], answers: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return the share of the map of differences in the ring, then in each corner, float64 [5]."""
    differs = difference_map(evidence, answers)
    spread = None if differs is None else mass(differs)
    if spread is None:
        return None
    down, across = (_outer_third(cells) for cells in spread.shape)
    corners = [
        float((spread * rows[:, None] * columns[None]).sum())
        for rows in (down, down[::-1])
        for columns in (across, across[::-1])
    ]
    return np.array([ring_share(spread)[0], *corners])


def _outer_third(cells: int) -> NDArray[np.float64]:
    """Return how much of each of `cells` lies in the first third, as a share of the cell."""
    edges = np.linspace(0.0, 1.0, cells + 1)
    return np.asarray(np.diff(np.clip(edges, 0.0, _CORNER)) * cells)
