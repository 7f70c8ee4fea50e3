"""Which score of novelty the bundle ships: the one that tells left-out classes apart, on the training pictures."""

from __future__ import annotations

import numpy as np

from tellapart import judge
from tellapart.events import Decision, Recall, Steps
from tellapart.judge import Novelty
from tellapart.judge.gaussian import fit_gaussian, most_directions
from tellapart.judge.separation import Scores, blend_of, choose_methods
from tellapart.ladder.choose import Candidate
from tellapart.ladder.keep import Kept
from tellapart.ladder.run import Run
from tellapart.learn.folds import make_folds
from tellapart.learn.leave_classes_out import MOST_PICTURES, Round, leave_classes_out
from tellapart.learn.linear import GRID
from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.rungs import FloatArray, Head, Pictures
from tellapart.runtime.novelty import GAUSSIAN_METHODS, NoveltyMethod

__all__ = ["blended", "novel"]

_MOST_HELD_OUT = 3000
_FEWEST_HELD_OUT = 60
_FEWEST_ROUNDS = 2
_SHARE_OF_TIME, _MOST_SECONDS, _FEWEST_SECONDS = 0.1, 30.0, 0.5
_FOLDS = 3


def novel(run: Run, winner: Candidate, train: Pictures, kept: Kept) -> Steps[Novelty]:
    """Return the novelty to ship: `kept.novelty`, by nearest neighbours, or a score that is shown to be better.

    Shown on pictures that the trunk never learned from, with classes left out in turn. Where there is no time, or too
    few pictures or classes to leave some out, nearest neighbours stay, and the decision says why.
    """
    fitted = winner.fitted
    both, place, _ = np.intersect1d(fitted.out_of_fold.rows, fitted.held_out, return_indices=True)
    some = judge.spaced(np.arange(len(both), dtype=np.int64), _MOST_HELD_OUT)
    rows = both[some].astype(np.int64)
    if len(rows) < _FEWEST_HELD_OUT:
        few = f"{len(rows):,} pictures that its features were not learned from are too few to leave classes out"
        yield Decision("novelty", ["neighbours"], few)
        return kept.novelty
    name = f"{winner.name}.novelty_rounds"
    yield (before := Recall(name))
    seconds = min(_MOST_SECONDS, _SHARE_OF_TIME * run.clock.left())
    number = None if seconds >= _FEWEST_SECONDS else 0  # as many as there is time for, or none
    if again := bool(before.decided):
        number = before.decided.popleft().value
    embeddings, pictures = fitted.embeddings["train"][rows], train.take(rows)
    tried = judge.spaced(np.arange(len(rows), dtype=np.int64), MOST_PICTURES)
    asked = pictures.take(tried)
    found = fitted.details.get("penalty", GRID[len(GRID) // 2]) if isinstance(fitted.head, Head) else None
    penalty = found if isinstance(found, float) else None
    rounds: list[Round] = []
    in_time = number != 0
    if in_time:
        steps = leave_classes_out(embeddings[tried], asked.targets, asked.groups, penalty, seconds, number)
        rounds, number = yield from steps
    yield Decision(name, number, "as often classes were left out, in the time for it", again=again)
    if not in_time:
        yield Decision("novelty", ["neighbours"], "no time to leave classes out")
        return kept.novelty
    if len(rounds) < _FEWEST_ROUNDS:
        yield Decision(
            "novelty", ["neighbours"], "there was time, or there were pictures, to leave out one class at most"
        )
        return kept.novelty
    choice = choose_methods(rounds)
    yield Decision("novelty", list(choice.methods), choice.words)
    if choice.methods == ("neighbours",):
        return kept.novelty
    logits = winner.out_of_fold_logits()[place[some]]
    return blended(choice.methods, kept, pictures, embeddings, logits, train)


def blended(
    methods: tuple[NoveltyMethod, ...],
    kept: Kept,
    pictures: Pictures,
    embeddings: FloatArray,
    logits: FloatArray,
    train: Pictures,
) -> Novelty:
    """Return the blend of some methods: what they need, and its scale, fitted on pictures as models see them that did
    not learn from them; `kept.novelty` where there are no such pictures.

    `embeddings` float32 [n, D] and calibrated out-of-fold `logits` float32 [n, K] are of `pictures`, some of `train`.
    """
    folds = make_folds(pictures.targets, pictures.groups, k=_FOLDS)
    distances = np.zeros((len(embeddings), len(GAUSSIAN_METHODS)))
    gaussian = None
    if any(method in GAUSSIAN_METHODS for method in methods):
        # The scale is of folds, and would be too short for what all pictures fit in more directions than a fold's.
        size = most_directions(min((int((folds != fold).sum()) for fold in range(folds.max() + 1)), default=len(folds)))
        with one_blas_thread():
            for fold in range(folds.max() + 1):
                away = folds == fold
                found = fit_gaussian(embeddings[~away], pictures.targets[~away], size)
                distances[away] = found.distances(embeddings[away])
            gaussian = fit_gaussian(embeddings, pictures.targets, size)
    near = kept.distances(embeddings, pictures, train)
    told = (folds >= 0) & np.isfinite(near)
    if not told.any():
        return kept.novelty
    scores = Scores.of(near[told], distances[told], logits[told])
    blend = blend_of(methods, scores, logits.shape[1], gaussian)
    return kept.novelty.blended(blend, scores.blended(blend))
