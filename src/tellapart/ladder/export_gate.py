"""Whether another form of a model may take its place: judged on the same real pictures, overall and in each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tellapart import judge
from tellapart.judge.intervals import binomial_tail
from tellapart.judge.paired import paired_accuracy
from tellapart.learn.rungs import FloatArray, IntArray

__all__ = ["ClassChange", "Judged", "judged"]

_CHANCE = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class ClassChange:
    """One class: its pictures, the share named right before and after; `worse` where that is more than noise.

    Noise: an exact one-sided sign test of the pictures that changed, at 5% over all classes (Bonferroni).
    """

    label: str
    n: int
    before: float
    after: float
    worse: bool


@dataclasses.dataclass(frozen=True)
class Judged:
    """`change` of accuracy in points with its 95% interval, on `n` pictures; `same` is the share named alike."""

    n: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    change: float
    change_low: float
    change_high: float
    same: float
    classes: tuple[ClassChange, ...]
    refused: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)


def judged(
    before: FloatArray,
    after: FloatArray,
    targets: IntArray,
    groups: Sequence[str],
    classes: Sequence[str],
    max_drop: float,
    identical: bool = False,
) -> Judged:
    """Compare logits float32 [N, K] of the same pictures by the model as it is and in another form.

    It is refused, in words, where accuracy drops by more than `max_drop` points, where a class gets worse by more than
    its noise, where a logit is not finite and, with `identical`, where any picture is named otherwise.
    """
    first, second = before.argmax(axis=1), after.argmax(axis=1)
    right_before, right_after = first == targets, second == targets
    low, high = judge.share_of(right_after, judge.cluster_codes(groups)).exact()
    paired = paired_accuracy(right_after, right_before, groups)
    changes = []
    for label, name in enumerate(classes):
        rows = targets == label
        if not rows.any():
            continue
        lost, gained = int((right_before & ~right_after)[rows].sum()), int((right_after & ~right_before)[rows].sum())
        worse = lost > gained and binomial_tail(lost, lost + gained) <= _CHANCE / len(classes)
        shares = float(right_before[rows].mean()), float(right_after[rows].mean())
        changes.append(ClassChange(name, int(rows.sum()), *shares, worse))
    same = float((first == second).mean())
    refused = None
    if not np.isfinite(after).all():
        refused = "it gives numbers that are not finite"
    elif identical and same < 1.0:
        refused = f"it names {int((first != second).sum())} of {len(targets):,} pictures otherwise"
    elif -100 * paired.difference > max_drop + 1e-9:
        refused = f"accuracy drops by {-100 * paired.difference:.2f} points, and {max_drop:g} are allowed"
    elif worst := [change.label for change in changes if change.worse]:
        refused = f"the class {worst[0]!r} gets worse by more than its noise"
    return Judged(
        len(targets),
        float(right_after.mean()),
        low,
        high,
        100 * paired.difference,
        100 * paired.low,
        100 * paired.high,
        same,
        tuple(changes),
        refused,
    )
