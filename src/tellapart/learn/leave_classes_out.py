"""Which novelty score to ship, by leaving classes out: what a head that never saw a class makes of its pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from tellapart.events import Progress, Steps
from tellapart.judge.gaussian import fit_gaussian
from tellapart.judge.novelty import Novelty
from tellapart.judge.separation import CANDIDATES, Scores, auroc, blend_of
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_path
from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.rungs import FloatArray, IntArray
from tellapart.runtime.novelty import NoveltyMethod

__all__ = ["MOST_PICTURES", "Round", "leave_classes_out"]

MOST_PICTURES = 1800
_MOST_ROUNDS = 8
_FEWEST_KNOWN, _FEWEST_NOVEL = 10, 5  # pictures in each half of what is known, and of what is left out
_PAIRS_FROM = 6  # classes: from here on, two are left out at a time

Round = dict[tuple[NoveltyMethod, ...], float]


def leave_classes_out(
    embeddings: FloatArray,
    targets: IntArray,
    groups: Sequence[str],
    penalty: float | None,
    seconds: float,
    count: int | None = None,
) -> Steps[tuple[list[Round], int]]:
    """Return, for each round, the AUROC of every candidate that could be tried in it; and how many rounds were begun.

    `embeddings` float32 [N, D] are at most some thousand pictures that the trunk never learned from. In a round some
    classes are left out; half of the other pictures fit the scores, the other half are the known ones that the pictures
    left out are told from. With `penalty` a linear head is fitted in each round, for the scores that need logits;
    without, or where only one class stays, the others alone are tried. Rounds end when `seconds` are used up, or after
    `count` where that is known.
    """
    rounds: list[Round] = []
    plan = _left_out(targets)[:count]
    begun = 0
    began = time.monotonic()
    with one_blas_thread():
        for number, classes in enumerate(plan):
            spent = time.monotonic() - began
            if count is None and number and spent + spent / number > seconds:
                break
            begun += 1
            found = yield from _round(embeddings, targets, groups, penalty, classes)
            if found:
                rounds.append(found)
            yield Progress("novelty", number + 1, len(plan))
    return rounds, begun


def _left_out(targets: IntArray) -> list[IntArray]:
    """Return the classes to leave out in each round: one or two at a time, more where there are very many."""
    classes = np.unique(targets)
    together = 1 if len(classes) < _PAIRS_FROM else max(2, len(classes) // 20)
    plan: list[IntArray] = []
    for turn in range(_MOST_ROUNDS):
        order = np.random.Generator(np.random.Philox(key=turn)).permutation(classes)
        plan += [order[start : start + together] for start in range(0, len(classes) - together + 1, together)]
        if len(plan) >= _MOST_ROUNDS or together == 1:
            break
    return plan[:_MOST_ROUNDS]


def _round(
    embeddings: FloatArray, targets: IntArray, groups: Sequence[str], penalty: float | None, left_out: IntArray
) -> Steps[Round]:
    away = np.isin(targets, left_out)
    stay, novel = np.flatnonzero(~away), np.flatnonzero(away)
    folds = make_folds(targets[stay], [groups[row] for row in stay.tolist()], k=2)
    fitted, known = stay[folds != 0], stay[folds == 0]
    if min(len(fitted), len(known)) < _FEWEST_KNOWN or len(novel) < _FEWEST_NOVEL:
        return {}
    classes, places = np.unique(targets[fitted], return_inverse=True)
    head = None
    if penalty is not None and len(classes) > 1:
        [head] = yield from fit_path(embeddings[fitted], places.astype(np.int64), len(classes), [penalty])
    neighbours = Novelty.fit(embeddings[fitted], embeddings[known])
    gaussian = fit_gaussian(embeddings[fitted], targets[fitted])

    def scores(rows: IntArray) -> Scores:
        logits = None if head is None else head.logits(embeddings[rows])
        return Scores.of(neighbours.distances(embeddings[rows]), gaussian.distances(embeddings[rows]), logits)

    of_known, of_novel = scores(known), scores(novel)
    found: Round = {}
    for methods in CANDIDATES:
        if all(method in of_known.by for method in methods):
            blend = blend_of(methods, of_known, len(classes), gaussian)
            found[methods] = auroc(of_known.blended(blend), of_novel.blended(blend))
    return found
