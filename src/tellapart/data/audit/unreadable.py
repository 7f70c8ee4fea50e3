"""Files that were found and cannot be used, counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import Finding, Suspect
from tellapart.data.left_out import LeftOut
from tellapart.lazy import Lazy

__all__ = ["unreadable"]

# What is told elsewhere, or was asked for by the user.
_ELSEWHERE = frozenset({"identical_in_two_classes", "bridges_splits", "dropped", "kept_out", "unlabelled"})
# No picture was lost: these are other files, or places that are not looked into.
_HARMLESS = frozenset({"not_an_image", "not_a_file", "symlink_folder", "symlink_outside", "no_label"})


def unreadable(evidence: Evidence) -> Finding | None:
    """Return the files that were left out because they cannot be used, broken pictures before files of other kinds.

    There may be millions: the rows are made anew whenever they are gone through.
    """
    excluded = evidence.excluded if isinstance(evidence.excluded, LeftOut) else LeftOut(evidence.excluded)
    ordered = excluded.by_path()
    codes = Counter({code: count for code, count in ordered.counts.items() if code not in _ELSEWHERE})
    lost = codes.total()
    if not lost:
        return None
    broken = sum(count for code, count in codes.items() if code not in _HARMLESS)
    counts = ", ".join(f"{count:,} {code}" for code, count in codes.most_common())
    found = len(evidence) + len(evidence.excluded)
    return Finding.of(
        "unreadable",
        0.1 + 2.0 * broken / found if broken else 0.02,
        Lazy(lambda: _rows(ordered), lost),
        f"{lost:,} of {found:,} files cannot be used and were left out: {counts}.",
        "Copy or export the broken pictures again; other files do no harm where they are.",
    )


def _rows(ordered: LeftOut) -> Iterator[Suspect]:
    for harmless, score in ((False, 1.0), (True, 0.3)):
        for item in ordered:
            if item.code not in _ELSEWHERE and (item.code in _HARMLESS) == harmless:
                yield Suspect(item.path, item.label or "", score, why=f"{item.code}: {item.note}")
