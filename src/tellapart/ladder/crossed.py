"""Cross-validation of the winner: each fold named by a model that learned, and chose all it does, from the others."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tellapart.errors import InterruptedRunError, TellapartError
from tellapart.events import Decision, Epoch, Note, Progress, RungEnded, StageBegan, StageEnded, Steps, follow, without
from tellapart.ladder.choose import Candidate, Crossed, Ground, candidate
from tellapart.ladder.finish import seconds_to_finish
from tellapart.ladder.run import out_of_time, stage
from tellapart.ladder.rungs import Rungs
from tellapart.learn.folds import make_folds
from tellapart.learn.rungs import Pictures

__all__ = ["crossed"]

_SILENT = (Decision, Epoch, Note, RungEnded, StageBegan, StageEnded)
_REPEATED = ("classical", "probe")


def crossed(rungs: Rungs, winner: Candidate, count: int, balanced: bool) -> Steps[Crossed]:
    """Return what models that did not see a training picture, nor one of its group, say of it.

    `majority` has nothing to leave out. For `classical` and `probe` the whole rung is repeated for each fold on the
    others: its penalty, its temperature and all else are chosen without the fold (nested cross-validation: Varma and
    Simon, BMC Bioinformatics 7, 2006). For `scratch` and the like, and where time or an interruption cuts that short,
    the predictions that calibrated the winner are returned: by models that did not see the picture either, but at a
    temperature chosen on all of them. Where `balanced`, as the run's `Ground` says, each class counts equally in it.
    """
    if winner.fitted.method in _REPEATED:
        reserve = seconds_to_finish(len(rungs.pictures["train"]), rungs.run.recipe.budget_seconds)
        try:
            steps = stage("folds", _repeated(rungs, winner, count, balanced))
            found = yield from follow(steps, out_of_time(rungs.run.clock, lambda: reserve))
        except InterruptedRunError:
            why = " There was no time to repeat the choice of penalty and temperature for each fold."
        except TellapartError as error:
            why = f" Repeating all for each fold failed: {error.message}"
        else:
            if found is not None:
                return found
            why = ""
    elif winner.fitted.method == "majority":
        words = (
            "majority names all pictures alike, whichever are left out: its numbers are those of the classes' shares."
        )
        return Crossed(count, winner.out_of_fold_rows, winner.left_out_probs(), words)
    else:
        why = f" {winner.fitted.method} is not fitted anew for them: that would take {count} times as long."
    rows = winner.out_of_fold_rows
    words = (
        f"{len(rows):,} training pictures were predicted by models of folds that had not seen them, and calibrated on "
        f"the same predictions.{why}"
    )
    return Crossed(count, rows, winner.left_out_probs(), words)


def _repeated(rungs: Rungs, winner: Candidate, count: int, balanced: bool) -> Steps[Crossed | None]:
    """Climb the winner's rung once for each fold; None where no picture can be left out."""
    learned = winner.rows["train"]
    train, num_classes = rungs.pictures["train"].take(learned), len(rungs.manifest.classes)
    folds = make_folds(train.targets, train.groups, count, rungs.run.recipe.seed)
    num_folds = int(folds.max(initial=-1)) + 1
    if not num_folds:
        return None
    probs = np.full((len(train), num_classes), math.nan)
    for fold in range(num_folds):
        yield Progress("folds", fold, num_folds, "folds")
        seen, unseen = train.take(np.flatnonzero(folds != fold)), train.take(np.flatnonzero(folds == fold))
        inner = dataclasses.replace(rungs, pictures={"train": seen, "val": unseen, "test": _none(train)}, probes={})
        made = yield from without(inner.climb(winner.fitted.method, winner.fitted.backbone), _SILENT)
        found = candidate(made.fitted, Ground(seen.targets, unseen.targets, balanced), made.rows, 0.0)
        probs[np.flatnonzero(folds == fold)[made.rows["val"]]] = found.val_probs
    yield Progress("folds", num_folds, num_folds, "folds")
    rows = np.flatnonzero(~np.isnan(probs[:, 0]))
    left = len(train) - len(rows)
    alone = f" {left:,} could not be left out: the only ones, or the only group, of a class." if left else ""
    words = (
        f"{num_folds}-fold cross-validation: each of {len(rows):,} training pictures was named by a model that had "
        "learned, and chosen its penalty and temperature, from the other folds alone; groups were kept whole. Models "
        f"of folds share pictures, so that the intervals are a little too narrow.{alone}"
    )
    return Crossed(num_folds, learned[rows], probs[rows], words)


def _none(pictures: Pictures) -> Pictures:
    return pictures.take(np.empty(0, np.int64))
