"""Support vector machines with a Gaussian kernel: tuned, calibrated out of fold, and written as an ONNX graph.

C. Cortes and V. Vapnik, "Support-vector networks", Machine Learning 20 (1995), one machine a pair of classes; their
decisions, averaged for each class, are calibrated by multinomial logistic regression on predictions out of fold (after
J. Platt, "Probabilistic outputs for support vector machines", 1999). scikit-learn fits them, in a thread of its own, so
that a run can end meanwhile.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Progress, Steps
from tellapart.learn.balancing import Balancing
from tellapart.learn.draft import Draft
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import FloatArray, GraphHead, IntArray

__all__ = ["KernelFit", "Machine", "drawn_scores", "fit_kernel_machine", "fit_machine"]

FEWEST = 40  # pictures: with fewer there is nothing to tune by
_TUNED_ON = 1_000
_MOST_OUT_OF_FOLD = 3_000
_MOST = 6_000
_GAMMAS = (1.0, 0.5, 2.0)  # the features' variances sum to 1
_COSTS = (4.0, 1.0, 16.0)


@dataclasses.dataclass(frozen=True)
class Machine:
    """Scores float [N, K] = kernel(x, `vectors` [V, D]) @ `weight` [V, K] + `bias` [K]; kernel exp(-gamma |x - v|^2).

    A class that was not there to learn from has the lowest score.
    """

    vectors: FloatArray
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    gamma: float

    def scores(self, X: FloatArray) -> FloatArray:
        """Return float32 [N, K]."""
        found = np.empty((len(X), self.weight.shape[1]), dtype=np.float32)
        lengths = np.square(self.vectors).sum(axis=1)
        for start in range(0, len(X), 1024):
            part = X[start : start + 1024]
            far = np.square(part).sum(axis=1)[:, None] + lengths - 2 * part @ self.vectors.T
            found[start : start + 1024] = np.exp(-self.gamma * np.maximum(far, 0.0)) @ self.weight + self.bias
        return found

    def tempered(self, temperature: float) -> Machine:
        """Return the machine whose scores are divided by `temperature` (> 0)."""
        return dataclasses.replace(self, weight=self.weight / temperature, bias=self.bias / temperature)


@dataclasses.dataclass(frozen=True)
class KernelFit:
    """The head, what it was tuned to, and logits out of fold float32 [n, K] for the pictures `rows` int64 [n].

    The head's logits are the scores of `calibrated`.
    """

    head: GraphHead
    calibrated: Machine
    gamma: float
    cost: float
    num_vectors: int
    rows: IntArray
    out_of_fold: FloatArray


def fit_kernel_machine(
    X: FloatArray,
    targets: IntArray,
    num_classes: int,
    folds: IntArray,
    way: Balancing,
    seconds: Callable[[], float],
    mirrored: FloatArray | None = None,
) -> Steps[KernelFit | None]:
    """Return a machine on features float32 [n, D], or None where `seconds()` of time, or the pictures, are too few.

    `way` is how uneven classes are balanced. `mirrored` float32 [n, D] are the same pictures mirrored, which are
    trained on and never scored.
    Width and cost are chosen on at most 1,000 pictures, by log loss on two folds; out-of-fold scores come from at most
    3,000 pictures a fold and the machine from at most 6,000, fewer where time is short: it grows with their square.
    """
    scored = np.flatnonzero(folds >= 0)
    if len(X) < FEWEST or len(np.unique(folds[scored])) < 2:
        return None
    weighted = way.weights is not None
    few = _part(targets, np.arange(len(X), dtype=np.int64), _TUNED_ON)
    began, num_fits = time.monotonic(), 0
    best: tuple[float, float, float] = (np.inf, _GAMMAS[0], _COSTS[0])
    tried: set[tuple[float, float]] = set()
    for gamma, cost in [*((gamma, _COSTS[0]) for gamma in _GAMMAS), *((None, cost) for cost in _COSTS[1:])]:
        width = best[1] if gamma is None else gamma
        if (width, cost) not in tried:
            seen = None if mirrored is None else mirrored[few]
            loss = yield from _tried(X[few], seen, targets[few], num_classes, folds[few], width, cost, weighted)
            tried.add((width, cost))
            num_fits += 2
            best = min(best, (loss, width, cost))
    _, width, cost = best
    num_folds = int(folds.max()) + 1
    each = (time.monotonic() - began) / num_fits / (0.8 * len(few)) ** 2  # seconds, times pictures squared
    affordable = (0.6 * seconds() / (num_folds + 4) / max(each, 1e-12)) ** 0.5
    if affordable < 0.5 * len(few):
        return None
    scores = np.zeros((len(X), num_classes), dtype=np.float32)
    for fold in range(num_folds):
        rows = _part(targets, np.flatnonzero(folds != fold), int(min(_MOST_OUT_OF_FOLD, affordable)))
        machine = yield from fit_machine(*_views(X, mirrored, targets, rows), num_classes, width, cost, weighted)
        held_out = np.flatnonzero(folds == fold)
        scores[held_out] = machine.scores(X[held_out])
    part = way.of(scored)
    calibration = yield from fit_linear(scores[scored], targets[scored], num_classes, folds[scored], part.weights)
    calibration = part.applied(calibration)
    rows = _part(targets, np.arange(len(X), dtype=np.int64), int(min(_MOST, 2 * affordable)))
    machine = yield from fit_machine(*_views(X, mirrored, targets, rows), num_classes, width, cost, weighted)
    weight = machine.weight @ calibration.head.weight.astype(np.float64)
    bias = machine.bias @ calibration.head.weight.astype(np.float64) + calibration.head.bias
    calibrated = dataclasses.replace(machine, weight=weight, bias=bias)
    head = GraphHead(_graph(calibrated), (X.shape[1], num_classes))
    return KernelFit(
        head, calibrated, width, cost, len(machine.vectors), scored[calibration.rows], calibration.out_of_fold
    )


def fit_machine(
    X: FloatArray, targets: IntArray, num_classes: int, gamma: float, cost: float, balanced: bool = False
) -> Steps[Machine]:
    """Return the machine of features float32 [n, D] of two classes or more; `balanced` weights them by frequency."""
    from sklearn.svm import SVC

    machine = SVC(
        C=cost,
        gamma=gamma,
        decision_function_shape="ovo",
        class_weight="balanced" if balanced else None,
        cache_size=300,
    )
    yield from _in_a_thread(lambda: machine.fit(X, targets))
    return _averaged(machine, num_classes, gamma)


def _averaged(machine: Any, num_classes: int, gamma: float) -> Machine:
    """Return the mean of each class's decisions against the others, which is linear in the kernel, as arrays."""
    present = machine.classes_.astype(np.int64)
    ends = np.cumsum(machine.n_support_)
    parts = [slice(end - count, end) for end, count in zip(ends, machine.n_support_, strict=True)]
    dual, offsets = np.asarray(machine.dual_coef_, dtype=np.float64), np.asarray(machine.intercept_, dtype=np.float64)
    if len(present) == 2:  # scikit-learn turns the one decision of two classes round
        dual, offsets = -dual, -offsets
    weight, bias = np.zeros((len(machine.support_vectors_), num_classes)), np.zeros(num_classes)
    pair = 0
    for first in range(len(present)):
        for second in range(first + 1, len(present)):
            decision = np.zeros(len(weight))
            decision[parts[first]] = dual[second - 1, parts[first]]
            decision[parts[second]] = dual[first, parts[second]]
            for label, sign in ((present[first], 1.0), (present[second], -1.0)):
                weight[:, label] += sign * decision / (len(present) - 1)
                bias[label] += sign * offsets[pair] / (len(present) - 1)
            pair += 1
    absent = np.setdiff1d(np.arange(num_classes), present)
    bias[absent] = -2.0
    return Machine(machine.support_vectors_.astype(np.float32), weight, bias, gamma)


def _views(
    X: FloatArray, mirrored: FloatArray | None, targets: IntArray, rows: IntArray
) -> tuple[FloatArray, IntArray]:
    """Return features and targets of `rows`, in both views where there are two."""
    if mirrored is None:
        return X[rows], targets[rows]
    return np.concatenate([X[rows], mirrored[rows]]), np.tile(targets[rows], 2)


def _tried(
    X: FloatArray,
    mirrored: FloatArray | None,
    targets: IntArray,
    num_classes: int,
    folds: IntArray,
    gamma: float,
    cost: float,
    balanced: bool,
) -> Steps[float]:
    """Return the log loss on two folds of a machine at its best temperature."""
    scores, asked = [], []
    for fold in (0, 1):
        learn, ask = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if not len(ask) or len(np.unique(targets[learn])) < 2:
            continue
        machine = yield from fit_machine(*_views(X, mirrored, targets, learn), num_classes, gamma, cost, balanced)
        scores.append(machine.scores(X[ask]))
        asked.append(targets[ask])
    if not scores:
        return float("inf")
    logits, truth = np.concatenate(scores), np.concatenate(asked)
    temperature = judge.fit_temperature(logits, truth)
    losses = -judge.log_softmax(logits / np.float32(temperature))[np.arange(len(truth)), truth]
    if not balanced:
        return float(losses.mean())
    return float(np.mean([losses[truth == label].mean() for label in np.unique(truth)]))


def _part(targets: IntArray, rows: IntArray, most: int) -> IntArray:
    """Return at most about `most` of `rows`, evenly spaced within each class, two of each at the least."""
    if len(rows) <= most:
        return rows
    kept = []
    for label in np.unique(targets[rows]):
        own = rows[targets[rows] == label]
        count = min(len(own), max(2, round(len(own) * most / len(rows))))
        kept.append(own[np.linspace(0, len(own) - 1, count).astype(np.int64)])
    return np.sort(np.concatenate(kept))


def _graph(machine: Machine) -> bytes:
    draft = Draft()
    logits = drawn_scores(draft, machine)
    given: tuple[str, str, list[int | str]] = ("embedding", "FLOAT", ["N", machine.vectors.shape[1]])
    return draft.model(given, {"logits": (logits, ["N", machine.weight.shape[1]])}, "head")


def drawn_scores(draft: Draft, machine: Machine) -> str:
    """Add a machine to a graph; return the name of its scores [N, K] of `embedding` [N, D]."""
    lengths = np.square(machine.vectors.astype(np.float64)).sum(axis=1)
    own = draft.op("ReduceSumSquare", "embedding", axes=[1], keepdims=1)
    cross = draft.op("Gemm", "embedding", draft.floats(-2.0 * machine.vectors.T), draft.floats(lengths))
    far = draft.op("Relu", draft.op("Add", cross, own))
    kernel = draft.op("Exp", draft.op("Mul", far, draft.floats(-machine.gamma)))
    return draft.op("Gemm", kernel, draft.floats(machine.weight), draft.floats(machine.bias))


def _in_a_thread(work: Callable[[], object]) -> Steps[None]:
    """Wait for `work`, yielding; where the wait ends early the thread is left to its end, and its result dropped."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while True:
        thread.join(0.05)
        if not thread.is_alive():
            break
        yield Progress("fit", 0, None, "steps")
    if failed:
        raise failed[0]
