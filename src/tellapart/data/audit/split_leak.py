"""Pictures of a later split that are in an earlier one too: the numbers of that split look better than they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import Finding
from tellapart.data.audit.robust import wilson
from tellapart.data.manifest import SPLITS, Split

__all__ = ["split_leak"]

_KINDS = (("identities", 1.0, "the same picture"), ("near", 0.9, "nearly the same picture"))


def split_leak(evidence: Evidence) -> Finding | None:
    """Return the pictures of val and test that a split before them has too, equal or nearly; only given splits leak.

    With predictions, the accuracy of each split is told with them and without them.
    """
    if len(evidence.given) < 2:
        return None
    score = np.zeros(len(evidence))
    why = [""] * len(evidence)
    for later in ("val", "test"):
        for name, worth, words in _KINDS:
            numbers = getattr(evidence, name)
            for earlier in SPLITS[: SPLITS.index(later)]:
                there = {
                    int(number): row
                    for row, number in reversed(list(enumerate(numbers.tolist())))
                    if evidence.splits[row] == earlier
                }
                for row in np.flatnonzero(evidence.in_split(later) & (score < worth) & evidence.open).tolist():
                    twin = there.get(int(numbers[row]))
                    if twin is not None:
                        score[row] = worth
                        why[row] = f"{words} as {evidence.paths[twin]}, in {earlier}"
    leaked = score > 0
    if not leaked.any():
        return None
    shares = []
    parts = []
    for split in ("val", "test"):
        inside = evidence.in_split(split)
        count = int((leaked & inside).sum())
        if count:
            shares.append(count / int(inside.sum()))
            parts.append(f"{count:,} of {int(inside.sum()):,} {split} pictures{_accuracies(evidence, split, leaked)}")
    return Finding.of(
        "split_leak",
        0.5 + 2.0 * max(shares),
        [evidence.suspect(row, score[row], why[row]) for row in np.flatnonzero(leaked).tolist()],
        f"A split holds pictures of an earlier one: {'; '.join(parts)}.",
        "Take them out of the later split (--fix does), or give the pictures without splits.",
    )


def _accuracies(evidence: Evidence, split: Split, leaked: NDArray[np.bool_]) -> str:
    right = np.full(len(evidence), -1)
    if len(evidence.predicted):
        right[evidence.predicted] = evidence.probs.argmax(axis=1) == evidence.targets[evidence.predicted]
    seen = evidence.in_split(split) & (right >= 0)
    clean = seen & ~leaked
    if not seen.any() or not clean.any():
        return ""
    return f" (accuracy {_told(right[seen])} with them, {_told(right[clean])} without)"


def _told(right: NDArray[np.int64]) -> str:
    low, high = wilson(int(right.sum()), len(right))
    return f"{right.mean():.1%} [{low:.1%} to {high:.1%}] of {len(right):,}"
