"""How accuracy grew with the number of training pictures: the head refitted on growing shares of the embeddings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Steps
from tellapart.learn.draws import picture_keys, uniform
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import predict_held_out
from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.rungs import FloatArray, IntArray

__all__ = ["MOST_PICTURES", "LearningCurve", "learning_curve"]

MOST_PICTURES = 2_000
_SHARES = (0.125, 0.25, 0.354, 0.5, 0.707, 1.0)
_FEWEST = 3  # pictures of a class, on average, behind the first point
_FOLDS = 5
_PURPOSE = 7  # of the draws that say which pictures a share holds
_SETTLED = 1_200  # pictures: with fewer, each share is drawn several times, for which pictures it holds matters
_MOST_DRAWS = 4
_MOST_COMPONENTS = 256
_AT_ONCE = 512


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """`sizes` float64 [F]: training pictures behind each point, rising; `targets` int64 [n] of the pictures predicted.

    `right` float64 [F, n] in [0, 1]: how often each picture was named right by a head that did not see it nor its
    group; `predicted` int64 [n] are the answers of the last point, `groups` int64 [n] equal for pictures that belong
    together. `full`: the training pictures that the head itself has.
    """

    sizes: NDArray[np.float64]
    right: NDArray[np.float64]
    targets: IntArray
    predicted: IntArray
    groups: IntArray
    full: int


def learning_curve(
    embeddings: FloatArray,
    targets: IntArray,
    num_classes: int,
    groups: Sequence[str],
    digests: Sequence[str],
    penalty: float,
    balanced: bool = False,
    seed: int = 0,
) -> Steps[LearningCurve | None]:
    """Return the curve from embeddings float32 [n, D] of training pictures; None where they are too few for one.

    `groups` stay together in folds; which pictures belong to a share is a function of (seed, `digests`), smaller shares
    being part of larger ones. Of more than 2,000 pictures a stratified 2,000 are used. `penalty` is the head's own; for
    smaller shares stronger ones are tried too, as they should be.
    """
    full, rows = len(targets), _stratified(targets, digests, seed)
    embeddings, targets = _reduced(embeddings, rows), targets[rows]
    names, keys = [groups[row] for row in rows.tolist()], picture_keys([digests[row] for row in rows.tolist()])
    folds = make_folds(targets, names, _FOLDS, seed)
    scored = np.flatnonzero(folds >= 0)
    n, num_folds = len(rows), int(folds.max(initial=-1)) + 1
    shares = [share for share in _SHARES if share * n >= _FEWEST * num_classes]
    if num_folds < 2 or len(shares) < 3:
        return None
    draws = max(1, min(_MOST_DRAWS, _SETTLED // n))
    right, sizes = np.zeros((len(shares), len(scored))), np.zeros(len(shares))
    predicted = np.zeros(len(scored), dtype=np.int64)
    for position, share in enumerate(shares):
        times = draws if share < 1 else 1
        for draw in range(times):
            learned = _share(targets, folds, uniform(seed, draw, keys, _PURPOSE), share)
            weights = _weights(targets, learned) if balanced else None
            penalties = sorted({penalty, penalty / share**0.5, penalty / share}, reverse=True)
            logits = yield from predict_held_out(embeddings, targets, num_classes, folds, learned, penalties, weights)
            losses = [_log_loss(one[scored], targets[scored], balanced) for one in logits]
            predicted = logits[int(np.argmin(losses))][scored].argmax(axis=1).astype(np.int64)
            right[position] += (predicted == targets[scored]) / times
            sizes[position] += len(learned) * (num_folds - 1) / num_folds / times
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    belongs = np.array([numbers[names[row]] for row in scored], dtype=np.int64)
    return LearningCurve(sizes, right, targets[scored], predicted, belongs, full)


def _reduced(embeddings: FloatArray, rows: IntArray) -> FloatArray:
    """Return the main components of some embeddings, float32 [n, at most 256], on which heads are fitted far faster."""
    width = embeddings.shape[1]
    if width <= _MOST_COMPONENTS:
        return embeddings[rows]
    mean = np.zeros(width, dtype=np.float64)
    for start in range(0, len(rows), _AT_ONCE):
        mean += embeddings[rows[start : start + _AT_ONCE]].sum(axis=0, dtype=np.float64)
    middle = (mean / len(rows)).astype(np.float32)
    if len(rows) < width:  # the same components, from products of pictures
        centred = (embeddings[rows] - middle).astype(np.float64)
        with one_blas_thread():
            squares, vectors = np.linalg.eigh(centred @ centred.T)
        lengths = np.sqrt(np.maximum(squares[-_MOST_COMPONENTS:], 0.0))
        found: FloatArray = (vectors[:, -_MOST_COMPONENTS:] * lengths).astype(np.float32)
        return found
    covariance = np.zeros((width, width), dtype=np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        part = embeddings[rows[start : start + _AT_ONCE]] - middle
        covariance += part.T @ part
    with one_blas_thread():
        _, vectors = np.linalg.eigh(covariance)
    kept = np.ascontiguousarray(vectors[:, -_MOST_COMPONENTS:])
    parts = [(embeddings[rows[at : at + _AT_ONCE]] - middle) @ kept for at in range(0, len(rows), _AT_ONCE)]
    return np.concatenate(parts)


def _log_loss(logits: FloatArray, targets: IntArray, balanced: bool) -> float:
    losses = -judge.log_softmax(logits)[np.arange(len(targets)), targets]
    if not balanced:
        return float(losses.mean())
    return float(np.mean([losses[targets == label].mean() for label in np.unique(targets)]))


def _share(targets: IntArray, folds: IntArray, draws: NDArray[np.float64], share: float) -> IntArray:
    """Return the rows of a share, sorted: of each class those with the lowest draws, at least two."""
    if share >= 1:
        return np.arange(len(targets), dtype=np.int64)
    kept = []
    for label in np.unique(targets):
        rows = np.flatnonzero(targets == label)
        order = rows[np.argsort(draws[rows], kind="stable")]
        kept.append(order[: max(2, round(share * len(rows)))])
    return np.sort(np.concatenate(kept)).astype(np.int64)


def _weights(targets: IntArray, learned: IntArray) -> NDArray[np.float64]:
    counts = np.bincount(targets[learned], minlength=int(targets.max()) + 1)
    return 1.0 / np.maximum(counts, 1)[targets]


def _stratified(targets: IntArray, digests: Sequence[str], seed: int) -> IntArray:
    if len(targets) <= MOST_PICTURES:
        return np.arange(len(targets), dtype=np.int64)
    draws = uniform(seed, 0, picture_keys(digests), _PURPOSE + 1)
    none = np.zeros(len(targets), dtype=np.int64)
    return _share(targets, none, draws, MOST_PICTURES / len(targets))
