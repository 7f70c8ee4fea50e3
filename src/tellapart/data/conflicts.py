"""The same picture under two labels."""

from __future__ import annotations

from collections.abc import Sequence

from tellapart.data.listing import Entry, some
from tellapart.data.manifest import Excluded

__all__ = ["without_conflicts"]


def without_conflicts(
    entries: Sequence[Entry],
    names: Sequence[str],
    digests: Sequence[str],
    keep_all: bool,
    stamps: Sequence[tuple[int, int]],
) -> tuple[list[int], list[Excluded], list[tuple[str, str]], int]:
    """Return the positions to keep, the others with the reason, notes as (level, sentence), and how many it is about.

    `names` are equal for equal pixels. A picture under two labels is left out, every copy, for no label is better than
    the other; with `keep_all` it stays under both, and a note says so.
    """
    labels: dict[str, set[str]] = {}
    for name, entry in zip(names, entries, strict=True):
        labels.setdefault(name, set()).add(entry.label or "")
    torn = [index for index, name in enumerate(names) if len(labels[name]) > 1]
    if keep_all or not torn:
        words = f"{len(torn)} file(s) hold a picture that is in two classes, and are used: --two-labels keep was given."
        return list(range(len(names))), [], [("warning", words)] if torn else [], len(torn)
    left_out = [
        Excluded(
            entries[index].path,
            "identical_in_two_classes",
            f"The same picture is in {some(sorted(labels[names[index]]), 4)}.",
            entries[index].label,
            digests[index],
            *stamps[index],
        )
        for index in torn
    ]
    words = f"{len(torn)} file(s) were left out, every copy: the same pictures are in two classes."
    gone = set(torn)
    return [index for index in range(len(names)) if index not in gone], left_out, [("warning", words)], len(torn)
