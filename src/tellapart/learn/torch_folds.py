"""Honest predictions for training pictures where the network itself learns: a slice held out, or models of folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from torch import Tensor, nn

from tellapart.errors import InterruptedRunError, OutOfTimeError, TellapartError
from tellapart.events import Decision, Epoch, Recall, Steps, decide, follow, without
from tellapart.learn.rungs import IntArray, OutOfFold
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_loop import Learned
from tellapart.learn.torch_task import Clock, less

__all__ = ["deaf", "out_of_fold"]

_FOLD_LEAST = 0.6  # of the steps that a fold's fit should have, to count as a model of the same kind
_FOLD_RATE = 0.1  # of the highest rate: a fold's fit that ends above it was cut short, and does not count

T = TypeVar("T")
N = TypeVar("N", bound=nn.Module)


def out_of_fold(
    train: Samples,
    folds: IntArray,
    num_classes: int,
    learned: Learned,
    fitted: Callable[[Samples, int, Clock, str], Steps[tuple[N, Learned]]],
    predicted: Callable[[N, Samples], Steps[Tensor]],
    left: Clock,
    name: str,
) -> Steps[tuple[OutOfFold, bool]]:
    """Return the logits of models of the folds, each for what it did not see, and whether that was interrupted.

    They are trained (`fitted`) for as many steps as led to the best of the main fit, with no look at what they did not
    see, as far as there is time. One that diverges says nothing, also where it has better weights of earlier steps.
    """
    rows = [np.empty(0, np.int64)]
    logits = [np.empty((0, num_classes), np.float32)]
    num_folds, fold, interrupted = int(folds.max()) + 1, 0, False
    yield (before := Recall(f"{name}.folds_cut_off"))
    steps_a_second = learned.epochs[-1].step / max(1e-3, sum(epoch.seconds for epoch in learned.epochs))
    try:
        for fold in range(num_folds):
            if before.decided and before.decided[0].value == fold:
                raise OutOfTimeError
            seen, unseen = (train.at(np.flatnonzero(part)) for part in (folds != fold, folds == fold))
            wanted = max(1, round(learned.best_step * len(seen) / len(train)))
            fits = int(0.9 * steps_a_second * left())
            ahead = min(num_folds - fold, int(fits / (_FOLD_LEAST * wanted)))
            total, until = (min(wanted, fits // ahead), left() * (1.0 - 1.0 / ahead)) if ahead > 0 else (0, 0.0)
            why = f"{wanted:,} are wanted; there is time for {fits:,} with the later ones"
            total = yield from decide(f"{name}.fold{fold + 1}.steps", total, why)
            if not total:
                yield Decision(f"{name}.folds", fold, f"there is no time for the others of {num_folds}")
                break
            steps = fitted(seen, total, less(left, until), f"{name}.fold{fold + 1}")
            try:
                network, found = yield from without(steps, Epoch)
                diverged = found.ended == "diverged"
            except TellapartError as error:
                if error.code != "diverged":
                    raise
                diverged = True
            if diverged:
                words = "its model diverged, so nothing is said of what it did not see"
                yield Decision(f"{name}.fold{fold + 1}", "diverged", words)
                continue
            interrupted = found.ended == "interrupted"
            if interrupted or (found.ended == "time" and found.epochs[-1].lr > _FOLD_RATE):
                break
            logits.append((yield from predicted(network, unseen)).numpy())
            rows.append(unseen.rows)
    except InterruptedRunError as error:
        interrupted = True
        if isinstance(error, OutOfTimeError):
            yield Decision(f"{name}.folds_cut_off", fold, "with so many folds done the time was up")
    return OutOfFold(np.concatenate(rows), np.concatenate(logits)), interrupted


def deaf(steps: Steps[T]) -> Steps[T]:
    """Pass on what `steps` yields and let an interruption go by: what is begun here is ended in a moment."""
    return (yield from follow(steps, lambda _: None, deaf=True))
