"""A row of the ladder: what a rung is worth, in numbers and words."""

from __future__ import annotations

import dataclasses

from tellapart import judge
from tellapart.judge import Metrics
from tellapart.ladder.choose import Candidate, Crossed, Ground
from tellapart.report import LadderRow

__all__ = ["row_of", "with_crossed"]


def row_of(found: Candidate, ground: Ground, chosen: bool, words: str) -> LadderRow:
    """Return a rung's row: its numbers are on validation; without any, of training pictures left out in turn."""
    rows = found.rows["val"]
    numbers = judge.metrics(ground.val_targets[rows], found.val_probs, ground.groups_of("val", rows))
    left_out = not numbers.n and len(found.out_of_fold_rows) > 0
    if left_out:
        rows = found.out_of_fold_rows
        numbers = judge.metrics(ground.train_targets[rows], found.left_out_probs(), ground.groups_of("train", rows))
    row = LadderRow(found.fitted.method, found.fitted.backbone, found.seconds, chosen=chosen, words=words)
    return _numbered(row, numbers, left_out)


def with_crossed(ladder: tuple[LadderRow, ...], crossed: Crossed, ground: Ground) -> tuple[LadderRow, ...]:
    """Return the ladder with the numbers of the folds in the row that was chosen, as they stand in the verdict."""
    groups = ground.groups_of("train", crossed.rows)
    numbers = judge.metrics(ground.train_targets[crossed.rows], crossed.probs, groups)
    return tuple(_numbered(row, numbers, True) if row.chosen and row.left_out else row for row in ladder)


def _numbered(row: LadderRow, numbers: Metrics, left_out: bool) -> LadderRow:
    return dataclasses.replace(
        row,
        n=numbers.n or None,
        accuracy=numbers.accuracy,
        log_loss=numbers.log_loss,
        accuracy_low=numbers.accuracy_low,
        accuracy_high=numbers.accuracy_high,
        log_loss_low=numbers.log_loss_low,
        log_loss_high=numbers.log_loss_high,
        left_out=left_out,
    )
