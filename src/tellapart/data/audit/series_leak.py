"""Bursts, films and groups that a split tears apart: what is tested was nearly seen in training."""

from __future__ import annotations

import numpy as np

from tellapart.data.audit.alike import clusters
from tellapart.data.audit.evidence import Evidence, Ints
from tellapart.data.audit.finding import Finding
from tellapart.data.manifest import SPLITS

__all__ = ["series_leak"]


def series_leak(evidence: Evidence) -> Finding | None:
    """Return pictures of series, told by names and times that go with looks, or by the group column.

    With given splits those of val and test whose series begins in an earlier split; else all members of series that a
    random split would tear apart, or would have torn, were they not kept together.
    """
    if len(evidence.given) > 1:
        return _torn(evidence)
    rows = []
    num_series = 0
    for members in clusters(evidence.series):
        if len(np.unique(evidence.near[members])) < 2:
            continue
        num_series += 1
        for row in members[evidence.open[members]].tolist():
            rows.append(evidence.suspect(row, 1.0 - 1.0 / len(members), f"one of a series of {len(members):,}"))
    if not rows:
        return None
    share = len(rows) / len(evidence)
    said = "they are kept together in one split" if evidence.series_kept else "a random split tears them apart"
    return Finding.of(
        "series_leak",
        0.05 + 0.1 * share if evidence.series_kept else 0.3 + 0.6 * share,
        rows,
        f"{len(rows):,} of {len(evidence):,} pictures are in {num_series:,} series (bursts, films); {said}.",
        "Nothing needs to be done." if evidence.series_kept else "Keep them together: --group-series on.",
    )


def _torn(evidence: Evidence) -> Finding | None:
    rows = []
    torn = np.zeros(len(evidence), dtype=bool)
    for numbers in (evidence.series, evidence.groups):
        for members in clusters(numbers):
            for row in _later(evidence, members).tolist():
                torn[row] = True
    already = np.zeros(len(evidence), dtype=bool)
    for members in clusters(evidence.near):
        already[_later(evidence, members)] = True
    for row in np.flatnonzero(torn & ~already & evidence.open).tolist():
        rows.append(evidence.suspect(row, 0.7, "its series begins in an earlier split"))
    if not rows:
        return None
    return Finding.of(
        "series_leak",
        0.4 + len(rows) / len(evidence),
        rows,
        f"{len(rows):,} pictures of val or test belong to a series or group that an earlier split has, too.",
        "Give the pictures without splits, and they are kept together; or move whole series.",
    )


def _later(evidence: Evidence, members: Ints) -> Ints:
    """Return those members that are in a later split than the earliest of them."""
    places = np.array([SPLITS.index(evidence.splits[row]) for row in members.tolist()])
    return np.asarray(members[places > places.min()])
