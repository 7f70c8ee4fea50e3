"""Whether a changed picture still is one of its class: asked of the training pictures, out of fold. numpy alone."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.rungs import IntArray

__all__ = ["FEWEST", "Survival", "survival"]

FEWEST = 16  # pictures: with fewer there is nothing to ask
_TOLERANCE = 0.03  # accuracy that may be lost, besides what chance explains
_ERRORS = (
    2.5  # standard errors of a paired difference that count as chance: 1 in 160, and eight changes are asked about
)
_RIDGE = 0.1

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class Survival:
    """What became of `n` pictures: the share told right as they are, and changed, in [0, 1].

    `learned` says whether the model of the changed ones had learned from changed ones too; `beside` is then its share
    of the pictures as they are, else that of the plain model. `survives` is the verdict, `surely` a stricter one.
    """

    n: int
    plain: float
    changed: float
    beside: float
    learned: bool
    survives: bool
    surely: bool

    @property
    def words(self) -> str:
        """The evidence in a few words."""
        beside = f", and {self.beside:.0%} of the plain ones beside them" if self.learned else ""
        return f"{self.plain:.0%} right as they are, {self.changed:.0%} changed{beside}"


def survival(plain: Floats, changed: Floats, targets: IntArray, learned: bool) -> Survival:
    """Return whether pictures changed in one way stay in their class.

    `plain` and `changed` float [n, F] are features of the same pictures, `targets` int64 [n] their classes. Ridge
    regression with a Gaussian kernel is fitted on every other picture of each class and asked about the rest, and the
    other way round, both as they are and changed. With `learned` it was shown changed ones of the pictures that it
    learned from too: then it is asked not whether it is robust, but whether the class can still be told. A change that
    leads from one class into another, or takes away what tells them apart, fails both ways. What is lost must exceed
    what chance explains: two and a half standard errors of the paired difference.
    """
    place = np.empty(len(targets), dtype=np.int64)
    place[np.argsort(targets, kind="stable")] = np.arange(len(targets))
    half = place % 2 == 0
    right: dict[str, Flags] = {name: np.zeros(len(targets), bool) for name in ("plain", "changed", "beside")}
    with one_blas_thread():
        for learn, ask in (
            (np.flatnonzero(half), np.flatnonzero(~half)),
            (np.flatnonzero(~half), np.flatnonzero(half)),
        ):
            truth = targets[ask]
            (right["plain"][ask], moved) = _right([plain[learn]], targets[learn], [plain[ask], changed[ask]], truth)
            right["changed"][ask], right["beside"][ask] = moved, right["plain"][ask]
            if learned:
                shown, both = [plain[learn], changed[learn]], [changed[ask], plain[ask]]
                right["changed"][ask], right["beside"][ask] = _right(shown, np.tile(targets[learn], 2), both, truth)
    lost, error = _paired(right["plain"], right["changed"])
    beside, beside_error = _paired(right["plain"], right["beside"])
    allowed = lost <= _TOLERANCE + _ERRORS * error and beside <= _TOLERANCE + _ERRORS * beside_error
    enough = len(targets) >= FEWEST
    surely = lost + _ERRORS * error <= _TOLERANCE and beside + _ERRORS * beside_error <= _TOLERANCE
    shares = {name: float(flags.mean()) for name, flags in right.items()}
    knows = shares["plain"] >= 0.5 + 0.5 * float(np.bincount(targets).max() / len(targets))
    return Survival(
        len(targets),
        shares["plain"],
        shares["changed"],
        shares["beside"],
        learned,
        enough and allowed,
        enough and allowed and surely and knows,
    )


def _paired(before: Flags, after: Flags) -> tuple[float, float]:
    """Return the accuracy that is lost and its standard error."""
    gaps = before.astype(np.float64) - after.astype(np.float64)
    return float(gaps.mean()), float(gaps.std() / np.sqrt(len(gaps)))


def _right(shown: list[Floats], targets: IntArray, asked: list[Floats], truth: IntArray) -> list[Flags]:
    """Return, for each array of `asked`, which rows kernel ridge regression that learned from `shown` tells right."""
    learned = np.concatenate(shown).astype(np.float64)
    middle, spread = learned.mean(0), learned.std(0)
    spread = np.where(spread > 1e-6 * max(float(spread.max()), 1e-30), spread, np.inf)  # what never moves says nothing
    design = (learned - middle) / spread
    far = _distances(design, design)
    width = max(float(np.median(far[np.triu_indices_from(far, 1)])), 1e-12)
    codes = np.eye(int(max(targets.max(), truth.max())) + 1)[targets]
    gram = np.exp(-far / width)
    gram[np.diag_indices_from(gram)] += _RIDGE
    dual = np.linalg.solve(gram, codes - codes.mean(0))
    kernels = [np.exp(-_distances((one - middle) / spread, design) / width) for one in asked]
    return [(kernel @ dual + codes.mean(0)).argmax(1) == truth for kernel in kernels]


def _distances(one: Floats, other: Floats) -> NDArray[np.float64]:
    """Return the squared distances of rows, float64 [n, m]."""
    lengths = np.square(one).sum(1)[:, None] + np.square(other).sum(1)[None]
    far: NDArray[np.float64] = np.maximum(lengths - 2.0 * one @ other.T, 0.0)
    return far
