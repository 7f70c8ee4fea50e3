"""Nearly the same picture twice or more: scaled, compressed again, cropped a little, brighter or darker."""

from __future__ import annotations

import numpy as np

from tellapart.data.audit.alike import clusters, first_of
from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import Finding

__all__ = ["near_duplicate"]

_STAYS = 0.3
_VERSION = 0.8


def near_duplicate(evidence: Evidence) -> Finding | None:
    """Return every picture that is there in several versions; equal pixels are told by `duplicate`."""
    rows, versions, sets = [], 0, 0
    may = evidence.open
    for members in clusters(evidence.near):
        named = members[may[members]]
        _, firsts = np.unique(evidence.identities[named], return_index=True)
        if len(firsts) < 2:
            continue
        named = named[np.sort(firsts)]
        sets, versions = sets + 1, versions + len(named) - 1
        stays = first_of(evidence, named)
        for row in named.tolist():
            if row == stays:
                rows.append(evidence.suspect(row, _STAYS, f"{len(named) - 1} more version(s) of it; this one may stay"))
            else:
                rows.append(evidence.suspect(row, _VERSION, f"nearly the same picture as {evidence.paths[stays]}"))
    if not rows:
        return None
    return Finding.of(
        "near_duplicate",
        0.05 + versions / len(evidence),
        rows,
        f"{versions:,} of {len(evidence):,} pictures are other versions of a picture that is there already "
        f"({sets:,} sets).",
        "Keep the best of each; until then all versions stay together in one split.",
    )
