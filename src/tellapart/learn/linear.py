"""Multinomial logistic regression, swept over penalties by cross-validation. numpy alone; the bias is not penalised.

    objective(W, b) = sum_i w_i * log_loss(softmax(x_i W + b), y_i) / sum_i w_i  +  penalty / 2 * ||W||^2

with features centred and scaled to unit variance, which the returned head undoes. Solved by L-BFGS (Nocedal and Wright,
Numerical Optimization, algorithm 7.4) in the eigenbasis of the features' covariance, where Boehning's bound on the
Hessian (Annals of the Institute of Statistical Mathematics 44, 1992: at most half the covariance) is diagonal and
serves as the initial metric. All folds are solved side by side, so that one matrix product serves them all, and no
fold copies the features: a row that is held out has weight zero.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Progress, Steps
from tellapart.learn.rungs import FloatArray, Head, IntArray

__all__ = ["GRID", "LinearFit", "Point", "cross_validate", "fit_linear", "fit_path"]

DoubleArray = NDArray[np.float64]

GRID: tuple[float, ...] = tuple(float(10.0 ** (2 - step / 2)) for step in range(17))
"""Penalties from strong to weak: 100 to 1e-6, two to a decade."""

_MAX_ROWS = 4_000  # up to here features are rotated once; beyond, they are only ever multiplied with
_MAX_ELEMENTS = 4_000_000  # of logits [rows, folds, classes] at a time
_HISTORY = 8
_LOOSE, _TIGHT = 1e-4, 1e-6  # share of the objective still to gain: for choosing a penalty, for the head that ships
_NOISE = 1e-7  # what float32 logits leave in a loss of about 1 nat: gains below it are not looked for
_MAX_STEPS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One penalty of the sweep and its out-of-fold log loss in nats (weighted as the fit is)."""

    penalty: float
    log_loss: float


@dataclasses.dataclass(frozen=True)
class LinearFit:
    """A head, the penalty that cross-validation chose, every penalty tried (strong to weak), and what it rests on.

    `out_of_fold` float32 [n, K] holds logits for the pictures `rows` int64 [n], those with a fold.
    """

    head: Head
    penalty: float
    sweep: tuple[Point, ...]
    rows: IntArray
    out_of_fold: FloatArray


def fit_path(
    X: FloatArray,
    targets: IntArray,
    num_classes: int,
    penalties: Sequence[float],
    weights: DoubleArray | None = None,
) -> Steps[list[Head]]:
    """Return a head for each penalty, in the order given (strong to weak is fastest: each starts from the last).

    `X` float32 [N, D]; `targets` int [N] in [0, num_classes); `weights` float [N] >= 0, None for equal ones.
    """
    rows = _Rows.of(X, targets, num_classes, np.full(len(X), -1, dtype=np.int64), weights, views=1)
    solver = _Solver(_Design.of(X, rows.weights), rows, [-1])
    heads = []
    for penalty in penalties:
        yield from solver.solve(penalty, _TIGHT)
        heads.append(solver.head())
    return heads


def cross_validate(
    X: FloatArray,
    targets: IntArray,
    num_classes: int,
    folds: IntArray,
    penalties: Sequence[float],
    weights: DoubleArray | None = None,
    views: int = 1,
) -> Steps[FloatArray]:
    """Return out-of-fold logits float32 [penalties, n, K]; rows of fold -1 are zero.

    `X` float32 [views * n, D]: the n pictures, then the same pictures in other views (mirrored), which are trained on
    and never scored. `targets`, `folds`, `weights` are [n].
    """
    rows = _Rows.of(X, targets, num_classes, folds, weights, views)
    return (yield from _each(_Design.of(X, rows.weights), rows, penalties))


def fit_linear(
    X: FloatArray,
    targets: IntArray,
    num_classes: int,
    folds: IntArray,
    weights: DoubleArray | None = None,
    views: int = 1,
    seed: int = 0,
    max_rows: int = _MAX_ROWS,
) -> Steps[LinearFit]:
    """Choose a penalty by out-of-fold log loss, fit a head with it on every row; arguments as in `cross_validate`.

    With more than `max_rows` rows the sweep runs on a stratified sample of about that many, and the penalty it chooses
    is divided by the growth of the data (a fixed prior on the weights counts for less among more pictures); the
    out-of-fold logits are of all pictures in any case. Without folds (all -1) the middle of the grid is taken.
    """
    n = len(targets)
    rows = _Rows.of(X, targets, num_classes, folds, weights, views)
    scored = np.flatnonzero(folds >= 0)
    sampled = _stratified(targets, max(1, max_rows // views), seed)
    small = rows if len(sampled) == n else rows.only(sampled)
    design = _Design.of(small.X, small.weights)
    penalty, sweep, logits = GRID[len(GRID) // 2], (), np.zeros((n, num_classes), dtype=np.float32)
    if len(scored):
        penalty, sweep, kept = yield from _sweep(design, small)
        if small is rows:
            logits = kept
    if small is not rows:
        penalty *= len(sampled) / n
        design = design.over(X, rows.weights)
        (logits,) = yield from _each(design, rows, [penalty])
    solver = _Solver(design, rows, [-1])
    yield from solver.solve(penalty, _TIGHT)
    return LinearFit(solver.head(), penalty, sweep, scored.astype(np.int64), logits[scored])


def _sweep(design: _Design, rows: _Rows) -> Steps[tuple[float, tuple[Point, ...], FloatArray]]:
    """Walk the grid from strong to weak until it is clearly past the best, then look on both sides of the best."""
    solvers = _solvers(design, rows)
    points: list[Point] = []
    best, best_logits = Point(float("nan"), float("inf")), np.zeros(0, dtype=np.float32)

    def add(penalty: float) -> Steps[None]:
        nonlocal best, best_logits
        logits = yield from _out_of_fold(solvers, rows, penalty)
        points.append(Point(penalty, rows.log_loss(logits)))
        if points[-1].log_loss < best.log_loss:
            best, best_logits = points[-1], logits

    for penalty in GRID:
        yield from add(penalty)
        last = [point.log_loss for point in points[-2:]]
        if min(last) > best.log_loss * 1.02 + 1e-4 and last[-1] > last[0]:
            break
    half_step = (GRID[0] / GRID[1]) ** 0.5
    for penalty in (best.penalty / half_step, best.penalty * half_step):
        yield from add(penalty)
    points.sort(key=lambda point: -point.penalty)
    return best.penalty, tuple(points), best_logits


def _each(design: _Design, rows: _Rows, penalties: Sequence[float]) -> Steps[FloatArray]:
    solvers = _solvers(design, rows)
    logits = np.zeros((len(penalties), rows.n, rows.num_classes), dtype=np.float32)
    for position, penalty in enumerate(penalties):
        logits[position] = yield from _out_of_fold(solvers, rows, penalty)
    return logits


def _solvers(design: _Design, rows: _Rows) -> list[_Solver]:
    """Return solvers that share the folds out, each taking as many as memory allows at a time."""
    folds = sorted({int(fold) for fold in rows.folds if fold >= 0})
    together = max(1, _MAX_ELEMENTS // (len(rows.targets) * rows.num_classes))
    return [_Solver(design, rows, folds[start : start + together]) for start in range(0, len(folds), together)]


def _out_of_fold(solvers: Sequence[_Solver], rows: _Rows, penalty: float) -> Steps[FloatArray]:
    logits = np.zeros((rows.n, rows.num_classes), dtype=np.float32)
    for solver in solvers:
        yield from solver.solve(penalty, _LOOSE)
        solver.write_held_out(logits)
    return logits


@dataclasses.dataclass(frozen=True)
class _Rows:
    """What is fitted: all views of n pictures; `targets`, `folds`, `weights` are as long as `X`."""

    X: FloatArray
    targets: IntArray
    folds: IntArray
    weights: DoubleArray
    num_classes: int
    views: int

    @classmethod
    def of(
        cls,
        X: FloatArray,
        targets: IntArray,
        num_classes: int,
        folds: IntArray,
        weights: DoubleArray | None,
        views: int,
    ) -> _Rows:
        assert len(X) == views * len(targets) == views * len(folds), "X is [views * n, D], targets and folds [n]"
        each = np.ones(len(targets)) if weights is None else np.asarray(weights, dtype=np.float64)
        return cls(X, np.tile(targets, views), np.tile(folds, views), np.tile(each, views), num_classes, views)

    @property
    def n(self) -> int:
        return len(self.targets) // self.views

    def only(self, pictures: IntArray) -> _Rows:
        """Return a copy with some of the pictures, in every view."""
        at = np.concatenate([pictures + view * self.n for view in range(self.views)])
        return _Rows(self.X[at], self.targets[at], self.folds[at], self.weights[at], self.num_classes, self.views)

    def log_loss(self, logits: FloatArray) -> float:
        """Return the weighted mean log loss in nats of logits [n, K], over the pictures that have a fold."""
        at = np.flatnonzero(self.folds[: self.n] >= 0)
        losses = _log_sum_exp(logits[at]) - logits[at, self.targets[at]]
        return float(np.average(losses, weights=self.weights[at]))


@dataclasses.dataclass(frozen=True)
class _Design:
    """Features, centred, scaled and rotated to the eigenvectors of their covariance, with a constant column last.

    `rotated` holds them where there are few; else they are multiplied with as they lie in `X`. `curvature` float64
    [r + 1] are the eigenvalues, 1 for the constant.
    """

    X: FloatArray
    rotated: FloatArray | None
    centre: FloatArray
    scale: FloatArray
    vectors: FloatArray
    curvature: DoubleArray

    @classmethod
    def of(cls, X: FloatArray, weights: DoubleArray) -> _Design:
        """Return the design of features that are few enough to be copied."""
        share = (weights / weights.sum()).astype(np.float32)
        centre = np.asarray(share @ X, dtype=np.float32)
        scaled = X - centre
        spread = np.sqrt(share @ np.square(scaled))
        # A feature that never moves says nothing; dividing by its rounding noise would make it say a lot.
        scale = np.where(spread > 1e-6 * max(float(spread.max(initial=0.0)), 1e-30), spread, np.inf).astype(np.float32)
        scaled /= scale
        half = scaled * np.sqrt(share)[:, None]
        if len(X) < X.shape[1]:
            values, left = np.linalg.eigh((half @ half.T).astype(np.float64))
            kept = values > 1e-7 * values[-1]
            vectors = (half.T @ left[:, kept].astype(np.float32)) / np.sqrt(values[kept]).astype(np.float32)
            values = values[kept]
        else:
            values, full = np.linalg.eigh((half.T @ half).astype(np.float64))
            vectors = full.astype(np.float32)
        curvature = np.append(np.maximum(values, 0.0), 1.0)
        return cls(X, scaled @ vectors, centre, scale, np.ascontiguousarray(vectors), curvature)

    def over(self, X: FloatArray, weights: DoubleArray) -> _Design:
        """Return the design of many features, in the basis of these few and without a copy."""
        width = X.shape[1]
        if self.vectors.shape[1] < width:  # the few do not span the space: stay in the coordinates of the features
            share = (weights / weights.sum()).astype(np.float32)
            centre = np.asarray(share @ X, dtype=np.float32)
            identity = np.eye(width, dtype=np.float32)
            return _Design(X, None, centre, self.scale, identity, np.ones(width + 1))
        return dataclasses.replace(self, X=X, rotated=None)

    def logits(self, parameters: DoubleArray) -> FloatArray:
        """Return float32 [N, C] for parameters [r + 1, C]."""
        inner, bias = parameters[:-1].astype(np.float32), parameters[-1].astype(np.float32)
        if self.rotated is not None:
            product = self.rotated @ inner
            product += bias
            return product
        outer = (self.vectors @ inner) / self.scale[:, None]
        product = self.X @ outer
        product += bias - self.centre @ outer
        return product

    def gradient(self, residuals: FloatArray) -> DoubleArray:
        """Return float64 [r + 1, C]: the transposed features times residuals float32 [N, C]."""
        total = residuals.sum(axis=0, dtype=np.float64)
        if self.rotated is not None:
            inner = self.rotated.T @ residuals
        else:
            outer = self.X.T @ residuals - np.outer(self.centre, total).astype(np.float32)
            inner = self.vectors.T @ (outer / self.scale[:, None])
        return np.concatenate([inner.astype(np.float64), total[None]])

    def head(self, parameters: DoubleArray) -> Head:
        """Return the head on the features as they are, from parameters [r + 1, K]."""
        outer = (self.vectors.astype(np.float64) @ parameters[:-1]) / self.scale[:, None].astype(np.float64)
        bias = parameters[-1] - self.centre.astype(np.float64) @ outer
        return Head(outer.astype(np.float32), bias.astype(np.float32))


class _Solver:
    """L-BFGS on several folds side by side; what it found for one penalty is where it starts for the next."""

    def __init__(self, design: _Design, rows: _Rows, folds: Sequence[int]) -> None:
        self._design, self._rows, self._folds = design, rows, list(folds)
        trained = np.where((rows.folds[:, None] == np.array(self._folds)) & (rows.folds >= 0)[:, None], 0.0, 1.0)
        shares = rows.weights[:, None] * trained
        self._shares = (shares / shares.sum(axis=0)).astype(np.float32)
        self._shape = (len(design.curvature), len(self._folds), rows.num_classes)
        self._parameters = np.zeros(self._shape)
        self._logits = np.zeros((len(rows.targets), *self._shape[1:]), dtype=np.float32)

    def head(self) -> Head:
        """Return the head of the first (or only) fold."""
        return self._design.head(self._parameters[:, 0, :])

    def write_held_out(self, logits: FloatArray) -> None:
        """Write the logits of each fold's held-out pictures into [n, K]."""
        of_picture = self._rows.folds[: self._rows.n]
        for position, fold in enumerate(self._folds):
            at = np.flatnonzero(of_picture == fold)
            logits[at] = self._logits[at, position]

    def solve(self, penalty: float, tolerance: float) -> Steps[None]:
        """Move to the minimum for `penalty`, within about `tolerance` of its value, or `_MAX_STEPS` steps."""
        ridge = np.full((self._shape[0], 1, 1), penalty)
        ridge[-1] = 0.0
        history: list[tuple[DoubleArray, DoubleArray, DoubleArray]] = []
        loss, residuals = self._loss(self._logits)
        value = loss + _dots(self._parameters, ridge * self._parameters) / 2
        slope = self._gradient(residuals) + ridge * self._parameters
        metric = 1.0 / (self._design.curvature[:, None, None] * self._doubt() + ridge)
        shown = time.monotonic()
        for _ in range(_MAX_STEPS):
            direction = -_two_loop(slope, history, metric)
            decrement = -_dots(slope, direction)
            live = decrement / 2 > np.maximum(tolerance * value, _NOISE)
            if not live.any():
                return
            if time.monotonic() - shown > 0.1:
                yield Progress("fit", 0, None, "steps")
                shown = time.monotonic()
            along = self._design.logits(direction.reshape(self._shape[0], -1)).reshape(self._logits.shape)
            step = np.where(live, 1.0, 0.0)
            for _ in range(30):
                moved = self._parameters + step[:, None] * direction
                logits = self._logits + step.astype(np.float32)[:, None] * along
                loss, residuals = self._loss(logits)
                reached = loss + _dots(moved, ridge * moved) / 2
                too_far = live & (reached > value - 1e-4 * step * decrement + _NOISE * (1 + value))
                if not too_far.any():
                    break
                step[too_far] *= 0.4
            new_slope = self._gradient(residuals) + ridge * moved
            _remember(history, moved - self._parameters, new_slope - slope)
            self._parameters, self._logits, value, slope = moved, logits, reached, new_slope

    def _loss(self, logits: FloatArray) -> tuple[DoubleArray, FloatArray]:
        """Return the mean log loss of each fold, float64 [F], and what flows back to the logits, float32 [N, F, K]."""
        at = np.arange(len(logits)), slice(None), self._rows.targets
        highest = logits.max(axis=2, keepdims=True)
        probs = np.exp(logits - highest)
        total = probs.sum(axis=2, keepdims=True)
        losses = np.log(total[..., 0]) + highest[..., 0] - logits[at]
        probs *= self._shares[:, :, None] / total
        probs[at] -= self._shares
        return np.einsum("nf,nf->f", self._shares, losses, dtype=np.float64), probs

    def _doubt(self) -> DoubleArray:
        """Return the mean of p (1 - p) of each fold and class, [1, F, K]: the curvature of the loss at the logits."""
        probs = np.exp(self._logits - self._logits.max(axis=2, keepdims=True))
        probs /= probs.sum(axis=2, keepdims=True)
        probs *= 1.0 - probs
        mean = np.einsum("nf,nfk->fk", self._shares, probs, dtype=np.float64)
        return np.maximum(mean, 1e-9)[None]

    def _gradient(self, residuals: FloatArray) -> DoubleArray:
        return self._design.gradient(residuals.reshape(len(residuals), -1)).reshape(self._shape)


def _two_loop(
    slope: DoubleArray, history: Sequence[tuple[DoubleArray, DoubleArray, DoubleArray]], metric: DoubleArray
) -> DoubleArray:
    """Return the inverse Hessian, as far as it is known, times `slope` [r + 1, F, K]; folds do not mix."""
    result = slope.copy()
    taken = []
    for moved, change, curvature in reversed(history):
        amount = _dots(moved, result) * curvature
        result -= amount[:, None] * change
        taken.append(amount)
    result *= metric
    if history:
        moved, change, curvature = history[-1]
        length = _dots(change, metric * change) * curvature
        result *= np.where(length > 0, 1.0 / np.where(length > 0, length, 1.0), 1.0)[:, None]
    for (moved, change, curvature), amount in zip(history, reversed(taken), strict=True):
        result += (amount - _dots(change, result) * curvature)[:, None] * moved
    return result


def _remember(
    history: list[tuple[DoubleArray, DoubleArray, DoubleArray]], moved: DoubleArray, change: DoubleArray
) -> None:
    """Keep a pair of step and change of slope; where it shows no curvature (a fold at rest) it counts for nothing."""
    curved = _dots(moved, change)
    usable = curved > 1e-14
    history.append((moved, change, np.where(usable, 1.0 / np.where(usable, curved, 1.0), 0.0)))
    del history[:-_HISTORY]


def _dots(first: DoubleArray, second: DoubleArray) -> DoubleArray:
    """Return the inner product of each fold, float64 [F], of arrays [r + 1, F, K]."""
    return np.einsum("rfk,rfk->f", first, second)


def _log_sum_exp(logits: FloatArray) -> DoubleArray:
    highest = logits.max(axis=1)
    total: DoubleArray = np.log(np.exp((logits - highest[:, None]).astype(np.float64)).sum(axis=1)) + highest
    return total


def _stratified(targets: IntArray, size: int, seed: int) -> IntArray:
    """Return at most about `size` indices, sorted, with the classes' shares kept and some of each class."""
    n = len(targets)
    if n <= size:
        return np.arange(n, dtype=np.int64)
    order = np.random.Generator(np.random.Philox(key=seed)).permutation(n)
    by_class = order[np.argsort(targets[order], kind="stable")]
    starts = np.searchsorted(targets[by_class], targets[by_class])
    rank = np.arange(n) - starts
    counts = np.bincount(targets)[targets[by_class]]
    wanted = np.maximum(np.ceil(counts * (size / n)), np.minimum(counts, 10))
    return np.sort(by_class[rank < wanted]).astype(np.int64)
