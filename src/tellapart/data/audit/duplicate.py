"""The same picture twice or more: equal bytes or equal pixels, under one label."""

from __future__ import annotations

from tellapart.data.audit.alike import clusters, first_of
from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import Finding

__all__ = ["duplicate"]

_STAYS = 0.4


def duplicate(evidence: Evidence) -> Finding | None:
    """Return every picture that is there more than once; of each, the one that may stay has the lowest score."""
    rows, copies, sets = [], 0, 0
    may = evidence.open
    for members in clusters(evidence.identities):
        named = members[may[members]]
        if len(named) < 2:
            continue
        sets, copies = sets + 1, copies + len(named) - 1
        stays = first_of(evidence, named)
        for row in named.tolist():
            if row == stays:
                rows.append(evidence.suspect(row, _STAYS, f"{len(named) - 1} more of it; this one may stay"))
            else:
                rows.append(evidence.suspect(row, 1.0, f"the same picture as {evidence.paths[stays]}"))
    if not rows:
        return None
    return Finding.of(
        "duplicate",
        0.1 + copies / len(evidence),
        rows,
        f"{copies:,} of {len(evidence):,} pictures are copies of others: {sets:,} are there more than once.",
        "Keep one of each; until then copies stay together in one split, and count double in training.",
    )
