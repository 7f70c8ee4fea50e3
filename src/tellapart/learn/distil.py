"""A linear head taught by the answers of other models, beside its labels.

Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network" (arXiv 1503.02531): the answers are softened by
a temperature, so that what they say of the classes that are not the likeliest counts too, and mixed with the labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Progress, Steps
from tellapart.learn.folds import make_folds, parts
from tellapart.learn.linear import LinearFit, Point, cross_validate, fit_path
from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.rungs import FloatArray, IntArray

__all__ = [
    "LABELS_SHARE",
    "SOFTENING",
    "Answers",
    "Frozen",
    "answers_without",
    "parts_to_ask",
    "pooled",
    "taught",
    "taught_by",
]

SOFTENING, LABELS_SHARE = 2.0, 0.3
"""The temperature of a teacher's answers, and the share of the labels in what is learned."""

_FOLDS = 5
_AROUND = (10.0, 10.0**0.5, 1.0, 10.0**-0.5, 0.1)  # of the penalty by labels alone, strong to weak


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """What a teacher says: `rows` int64 [m] of the n pictures, `logits` float32 [m, K] for them, calibrated.

    `others` float32 [u, K] is what it says of the pictures without a label.
    """

    rows: IntArray
    logits: FloatArray
    others: FloatArray


@dataclasses.dataclass(frozen=True, eq=False)
class Frozen:
    """A linear head on embeddings that learned from none of the pictures, so that it can be fitted without some.

    `rows` int64 [m], sorted, are those of the n pictures whose embeddings `X` float32 [m, D] are; `others` float32
    [u, D] are those of the pictures without a label.
    """

    rows: IntArray
    X: FloatArray
    others: FloatArray
    penalty: float


def parts_to_ask(targets: IntArray, groups: Sequence[str], num_val: int, seed: int) -> IntArray:
    """Return the part of each picture, int64 [n], that a student is asked about without having learned from it.

    -1 is asked about never. Where there are 500 validation pictures or more, it is one slice of some thousand, which is
    enough to calibrate on; else there are five folds. Groups are kept whole.
    """
    folds, held_out = parts(targets, groups, num_val, seed, _FOLDS)
    folds[held_out] = 0
    return folds


def answers_without(
    members: Sequence[Frozen],
    targets: IntArray,
    groups: Sequence[str],
    num_classes: int,
    away: NDArray[np.bool_],
    weights: NDArray[np.float64] | None,
    seed: int,
) -> Steps[Answers]:
    """Return what members together say, out of fold, of the pictures that are not `away` (bool [n]).

    Neither a head, nor a temperature, nor a weight of a member has seen a label of a picture that is away, nor the
    label of the picture that it answers for.
    """
    kept = np.flatnonzero(~away)
    for member in members:
        kept = np.intersect1d(kept, member.rows)
    truth, each = targets[kept], None if weights is None else weights[kept]
    folds = make_folds(truth, [groups[row] for row in kept.tolist()], seed=seed)
    told = np.flatnonzero(folds >= 0)
    shares = None if each is None else each[told]
    logits, others = [], []
    for member in members:
        X = member.X[np.searchsorted(member.rows, kept)]
        found = (yield from cross_validate(X, truth, num_classes, folds, [member.penalty], each))[0][told]
        temperature = np.float32(judge.fit_temperature(found, truth[told], shares))
        logits.append(found / temperature)
        said = np.zeros((0, num_classes), dtype=np.float32)
        if len(member.others):
            [head] = yield from fit_path(X, truth, num_classes, [member.penalty], each)
            said = head.logits(member.others) / temperature
        others.append(said)
    return pooled(kept[told], logits, others, truth[told], shares)


def pooled(
    rows: IntArray,
    logits: Sequence[FloatArray],
    others: Sequence[FloatArray],
    truth: IntArray,
    weights: NDArray[np.float64] | None,
) -> Answers:
    """Return what models together say, in weights that make the log loss of `rows` int64 [m] the lowest.

    `logits` are float32 [m, K] of each model, calibrated, by models that did not see the rows; `others` float32 [u, K]
    what each says of pictures without a label; `truth` int64 [m], `weights` float64 [m].
    """
    with one_blas_thread():
        counts = judge.pool_weights(logits, truth, weights).astype(np.float32)
    return Answers(rows, np.tensordot(counts, np.stack(logits), 1), np.tensordot(counts, np.stack(others), 1))


def taught_by(answers: Answers, targets: IntArray, num_classes: int) -> FloatArray:
    """Return what is learned of n pictures and then of those without a label, float32 [n + u, K]: shares of classes.

    A picture that the teacher did not answer for has its label alone, one without a label the answer alone.
    """
    shares = np.eye(num_classes, dtype=np.float32)[targets]
    softened = judge.softmax(answers.logits / np.float32(SOFTENING)).astype(np.float32)
    shares[answers.rows] = np.float32(LABELS_SHARE) * shares[answers.rows] + np.float32(1 - LABELS_SHARE) * softened
    return np.concatenate([shares, judge.softmax(answers.others / np.float32(SOFTENING)).astype(np.float32)])


def taught(
    X: FloatArray,
    others: FloatArray,
    targets: IntArray,
    num_classes: int,
    parts: IntArray,
    whole: Answers,
    without: Callable[[NDArray[np.bool_]], Steps[Answers]],
    penalty: float,
    weights: NDArray[np.float64] | None,
    views: int = 1,
) -> Steps[LinearFit]:
    """Return the head on features that learned from a teacher's answers, with logits out of fold.

    `X` float32 [views * n, D] and `others` float32 [views * u, D] are the student's features of the pictures with a
    label and without one; `targets` int64 [n]; `parts` are as `parts_to_ask` gives them. The head that ships is taught
    by `whole`; the one that is asked about a part by what `without` gives for it, since answers out of fold still hold
    what the labels of the part taught the teacher. Penalties around `penalty` are tried by that. `weights` float64 [n]
    are those of pictures; one without a label counts as much as the others on average.
    """
    n, asked = len(targets), np.flatnonzero(parts >= 0)
    penalties = [penalty * factor for factor in _AROUND]
    logits = np.zeros((len(penalties), n, num_classes), dtype=np.float32)
    u = len(others) // views
    features = _side_by_side(X, others, views)
    labels = np.concatenate([targets, np.zeros(u, dtype=np.int64)])
    each = np.ones(n) if weights is None else weights
    each = np.concatenate([each, np.full(u, each.mean())])
    for part in range(int(parts.max(initial=-1)) + 1):
        away = parts == part
        shares = taught_by((yield from without(away)), targets, num_classes)
        apart = np.where(np.concatenate([away, np.zeros(u, dtype=bool)]), 0, -1)
        found = yield from cross_validate(features, labels, num_classes, apart, penalties, each, views, shares)
        logits[:, away] = found[:, :n][:, away]
        yield Progress("distill", part + 1, int(parts.max()) + 1, "folds")
    best, sweep = len(_AROUND) // 2, []
    if len(asked):
        truth, counted = targets[asked], each[asked]
        for place, one in zip(penalties, logits, strict=True):
            tempered = one[asked] / np.float32(judge.fit_temperature(one[asked], truth, counted))
            losses = -judge.log_softmax(tempered)[np.arange(len(asked)), truth]
            sweep.append(Point(place, float(np.average(losses, weights=counted))))
        best = int(np.argmin([point.log_loss for point in sweep]))
    shares = taught_by(whole, targets, num_classes)
    [head] = yield from fit_path(features, labels, num_classes, [penalties[best]], each, views, shares)
    return LinearFit(head, penalties[best], tuple(sweep), asked.astype(np.int64), logits[best][asked])


def _side_by_side(X: FloatArray, others: FloatArray, views: int) -> FloatArray:
    """Return features float32 [views * (n + u), D]: of each view the pictures with a label, then those without."""
    if not len(others):
        return X
    pairs = zip(np.split(X, views), np.split(others, views), strict=True)
    return np.concatenate([half for pair in pairs for half in pair])
