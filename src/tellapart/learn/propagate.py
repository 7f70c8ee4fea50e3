"""Pictures without a label that help a linear head, where that is shown: it learns from what it can tell of them."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Decision, Progress, Steps
from tellapart.learn.balancing import Balancing
from tellapart.learn.linear import LinearFit, cross_validate, fit_path
from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.rungs import FloatArray, IntArray

__all__ = ["MOST_TOGETHER", "with_unlabelled"]

MOST_TOGETHER = 12_000
"""Pictures, with a label and without: a graph of more takes longer than it is worth."""

_SURE = 0.3  # the least certainty of a label that is taken over
_WEIGHT = 0.5  # of such a picture, beside one with a label of its own, were it certain
_NEIGHBOURS, _FLOW, _ROUNDS, _SHARPNESS = 10, 0.9, 30, 3
_AT_ONCE = 1024


def with_unlabelled(
    fitted: LinearFit,
    X: FloatArray,
    targets: IntArray,
    unlabelled: FloatArray,
    num_classes: int,
    folds: IntArray,
    way: Balancing,
) -> Steps[LinearFit]:
    """Return `fitted`, or a head that learned from `unlabelled` float32 [m, D] as well, where that is better.

    Labels spread from pictures to their neighbours among all of them (label spreading: Zhou et al., "Learning with
    local and global consistency", NIPS 2003); the geometric mean of that and of what a head says is learned from by how
    certain it is (Iscen et al., "Label propagation for deep semi-supervised learning", CVPR 2019), each picture at half
    weight at the most. Better is what the paired comparison of log losses out of fold says: for each fold, labels come
    from the other folds alone. `X`, `targets`, `folds` are as in `fit_linear`; `way` is how `fitted` is balanced,
    and so is each head here: where logits are adjusted, by the shares of classes in what that head learns from.
    """
    graph = yield from _graph(np.concatenate([X, unlabelled]))
    rows, logits = fitted.rows, np.zeros_like(fitted.out_of_fold)
    every = np.ones(len(targets), dtype=bool)

    def guess(taught: NDArray[np.bool_]) -> Steps[FloatArray]:
        some = way.of(np.flatnonzero(taught))
        [head] = yield from fit_path(X[taught], targets[taught], num_classes, [fitted.penalty], some.weights)
        shown = taught[rows]
        warmth = judge.fit_temperature(fitted.out_of_fold[shown], targets[rows[shown]])
        own = judge.softmax(some.adjusted(head).logits(unlabelled) / np.float32(warmth))
        both = np.sqrt(own * _spread(graph, targets, taught, num_classes))
        return np.asarray(both / np.maximum(both.sum(axis=1, keepdims=True), 1e-12), dtype=np.float32)

    for fold in range(int(folds.max(initial=-1)) + 1):
        away = folds == fold
        guessed = yield from guess(~away)
        apart = np.where(away, 0, -1)
        found = yield from _fit(X, targets, unlabelled, guessed, num_classes, apart, way, fitted.penalty)
        logits[np.searchsorted(rows, np.flatnonzero(away))] = found
        yield Progress("unlabelled", fold + 1, int(folds.max()) + 1, "folds")
    if not len(rows):
        yield Decision("unlabelled", False, "there are too few labelled pictures to show that others help")
        return fitted
    truth = targets[rows]
    ours, theirs = _probs(logits, truth), _probs(fitted.out_of_fold, truth)
    names = ("the head with unlabelled pictures", "the head without")
    comparison = judge.compare(truth, ours, theirs, way.alike, names=names)
    guessed = yield from guess(every)
    used = int((_certainty(guessed) >= _SURE).sum())
    told = f"{used:,} of {len(unlabelled):,} unlabelled pictures get a label, by their neighbours and the head."
    words = f"{told} {comparison.words}"
    yield Decision("unlabelled", comparison.better, words)
    if not comparison.better:
        return fitted
    sure, labels, each = _joined(targets, guessed, way.weights)
    features = np.concatenate([X, unlabelled[sure]])
    [head] = yield from fit_path(features, labels, num_classes, [fitted.penalty], each)
    head = way.among(labels, num_classes, each).adjusted(head)
    return dataclasses.replace(fitted, head=head, out_of_fold=logits)


@dataclasses.dataclass(frozen=True, eq=False)
class _Graph:
    """Neighbours of each picture: edges, sorted by the picture that they lead to, which begin at `starts` [n]."""

    sources: IntArray
    weights: FloatArray
    starts: IntArray


def _graph(X: FloatArray) -> Steps[_Graph]:
    """Return the ten nearest neighbours of each picture by cosine, both ways, normalised by their ends."""
    n = len(X)
    centred = X - X.mean(axis=0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    k = min(_NEIGHBOURS, n - 1)
    near, alike = np.empty((n, k), dtype=np.int64), np.empty((n, k), dtype=np.float32)
    with one_blas_thread():
        for start in range(0, n, _AT_ONCE):
            part = unit[start : start + _AT_ONCE] @ unit.T
            part[np.arange(len(part)), np.arange(start, start + len(part))] = -2.0
            found = np.argpartition(part, -k, axis=1)[:, -k:]
            near[start : start + len(part)] = found
            alike[start : start + len(part)] = np.take_along_axis(part, found, axis=1)
            yield Progress("unlabelled", start + len(part), n)
    ends = np.repeat(np.arange(n), k)
    strength = np.maximum(alike.ravel(), 1e-3) ** _SHARPNESS
    sources, ends = np.concatenate([near.ravel(), ends]), np.concatenate([ends, near.ravel()])
    strength = np.concatenate([strength, strength])
    order = np.argsort(ends, kind="stable")
    sources, ends, strength = sources[order], ends[order], strength[order]
    degree = np.sqrt(np.bincount(ends, weights=strength, minlength=n))
    strength = (strength / (degree[sources] * degree[ends])).astype(np.float32)
    return _Graph(sources, strength, np.searchsorted(ends, np.arange(n)))


def _spread(graph: _Graph, targets: IntArray, told: NDArray[np.bool_], num_classes: int) -> FloatArray:
    """Return the classes float32 [m, K] that spread to unlabelled pictures from those labelled ones that are `told`.

    Each class begins with the same mass, so that a large one does not flood the others.
    """
    n = len(targets)
    begin = np.zeros((len(graph.starts), num_classes), dtype=np.float32)
    begin[np.flatnonzero(told), targets[told]] = 1.0
    begin /= np.maximum(begin.sum(axis=0), 1.0)
    flow = begin
    for _ in range(_ROUNDS):
        come = np.add.reduceat(flow[graph.sources] * graph.weights[:, None], graph.starts, axis=0)
        flow = np.asarray(np.float32(_FLOW) * come + begin, dtype=np.float32)
    reached = flow[n:]
    return np.asarray(reached / np.maximum(reached.sum(axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _certainty(guessed: FloatArray) -> NDArray[np.float64]:
    """Return 1 less the entropy of each row over the largest there is, float64 [m] in [0, 1]."""
    entropy = -(guessed * np.log(np.maximum(guessed, 1e-12))).sum(axis=1)
    return np.asarray(np.clip(1.0 - entropy / np.log(guessed.shape[1]), 0.0, 1.0), dtype=np.float64)


def _probs(logits: FloatArray, truth: IntArray) -> NDArray[np.float64]:
    return judge.softmax(logits / np.float32(judge.fit_temperature(logits, truth)))


def _joined(
    targets: IntArray, guessed: FloatArray, weights: NDArray[np.float64] | None
) -> tuple[IntArray, IntArray, NDArray[np.float64]]:
    """Return which unlabelled pictures are learned from, and the labels and weights of all that are."""
    certainty = _certainty(guessed)
    sure = np.flatnonzero(certainty >= _SURE)
    labels = guessed[sure].argmax(axis=1)
    each = np.ones(len(targets)) if weights is None else weights
    counts = np.bincount(targets, minlength=guessed.shape[1])
    of_class = np.bincount(targets, weights=each, minlength=guessed.shape[1]) / np.maximum(counts, 1)
    return (
        sure,
        np.concatenate([targets, labels]),
        np.concatenate([each, _WEIGHT * (of_class[labels] * certainty[sure])]),
    )


def _fit(
    X: FloatArray,
    targets: IntArray,
    unlabelled: FloatArray,
    guessed: FloatArray,
    num_classes: int,
    apart: IntArray,
    way: Balancing,
    penalty: float,
) -> Steps[FloatArray]:
    """Return logits float32 [n, K] of the labelled pictures whose `apart` is 0, by a head that saw none of them."""
    sure, labels, each = _joined(targets, guessed, way.weights)
    features = np.concatenate([X, unlabelled[sure]])
    folds = np.concatenate([apart, np.full(len(sure), -1)])
    logits = yield from cross_validate(features, labels, num_classes, folds, [penalty], each)
    learned = folds != 0
    found = logits[0][~learned]
    priors = way.among(labels[learned], num_classes, each[learned]).log_priors
    return np.asarray(found if priors is None else found - priors, dtype=np.float32)
