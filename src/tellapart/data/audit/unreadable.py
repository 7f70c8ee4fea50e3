"""Files that were found and cannot be used, counted by reason."""

from __future__ import annotations

from collections import Counter

from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import Finding, Suspect

__all__ = ["unreadable"]

# What is told elsewhere, or was asked for by the user.
_ELSEWHERE = frozenset({"identical_in_two_classes", "bridges_splits", "dropped", "kept_out"})
# No picture was lost: these are other files, or places that are not looked into.
_HARMLESS = frozenset({"not_an_image", "not_a_file", "symlink_folder", "symlink_outside", "no_label"})


def unreadable(evidence: Evidence) -> Finding | None:
    """Return the files that were left out because they cannot be used, broken pictures before files of other kinds."""
    lost = [item for item in evidence.excluded if item.code not in _ELSEWHERE]
    if not lost:
        return None
    broken = sum(item.code not in _HARMLESS for item in lost)
    counts = ", ".join(f"{count:,} {code}" for code, count in Counter(item.code for item in lost).most_common())
    found = len(evidence) + len(evidence.excluded)
    rows = [
        Suspect(item.path, item.label or "", 0.3 if item.code in _HARMLESS else 1.0, why=f"{item.code}: {item.note}")
        for item in lost
    ]
    return Finding.of(
        "unreadable",
        0.1 + 2.0 * broken / found if broken else 0.02,
        rows,
        f"{len(lost):,} of {found:,} files cannot be used and were left out: {counts}.",
        "Copy or export the broken pictures again; other files do no harm where they are.",
    )
