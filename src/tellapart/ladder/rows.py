"""A row of the ladder: what a rung is worth, in numbers and words."""

from __future__ import annotations

from tellapart import judge
from tellapart.ladder.choose import Candidate, Ground
from tellapart.report import LadderRow

__all__ = ["row_of"]


def row_of(found: Candidate, ground: Ground, chosen: bool, words: str) -> LadderRow:
    """Return a rung's row: its numbers are on validation; where there is none, `words` tells those out of fold."""
    rows = found.rows["val"]
    numbers = judge.metrics(ground.val_targets[rows], found.val_probs, ground.groups_of("val", rows))
    if not numbers.n and len(found.out_of_fold_rows):
        folds = judge.metrics(ground.train_targets[found.out_of_fold_rows], found.out_of_fold_probs())
        words = f"Out of fold, {folds.accuracy:.1%} of {folds.n:,} pictures are right. {words}"
    return LadderRow(
        method=found.fitted.method,
        backbone=found.fitted.backbone,
        seconds=found.seconds,
        n=numbers.n or None,
        accuracy=numbers.accuracy,
        log_loss=numbers.log_loss,
        chosen=chosen,
        words=words,
        accuracy_low=numbers.accuracy_low,
        accuracy_high=numbers.accuracy_high,
        log_loss_low=numbers.log_loss_low,
        log_loss_high=numbers.log_loss_high,
    )
