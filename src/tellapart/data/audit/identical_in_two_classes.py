"""One picture under two labels: at least one of them is wrong, whatever the picture shows."""

from __future__ import annotations

from tellapart.data.audit.alike import clusters
from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import Finding, Suspect

__all__ = ["identical_in_two_classes"]

_NEARLY = 0.8


def identical_in_two_classes(evidence: Evidence) -> Finding | None:
    """Return pictures that are in two classes with equal pixels (set aside in training), or as versions of one."""
    same = [item for item in evidence.excluded if item.code == "identical_in_two_classes"]
    rows = [Suspect(item.path, item.label or "", 1.0, why=item.note, sha256=item.sha256) for item in same]
    may = evidence.open
    for members in clusters(evidence.near):
        named = members[may[members]]
        labels = sorted({evidence.label(row) for row in named.tolist()})
        if len(labels) > 1:
            why = f"nearly the same picture is in {', '.join(labels[:4])}"
            rows += [evidence.suspect(row, _NEARLY, why) for row in named.tolist()]
    if not rows:
        return None
    nearly = len(rows) - len(same)
    parts = [f"{len(same):,} with equal pixels, left out of training"] if same else []
    parts += [f"{nearly:,} nearly the same"] if nearly else []
    return Finding.of(
        "identical_in_two_classes",
        0.3 + 3.0 * len(rows) / (len(evidence) + len(same)),
        rows,
        f"{len(rows):,} files show a picture that is in two classes: {'; '.join(parts)}.",
        "Decide which class each belongs to, and delete it from the other.",
    )
