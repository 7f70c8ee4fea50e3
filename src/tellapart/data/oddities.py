"""What is odd about pictures that are used all the same: kept with each picture, and told once for each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tellapart.data.listing import some
from tellapart.data.manifest import Row
from tellapart.images.examine import PictureFacts
from tellapart.images.header import ODDITIES, extension_lies
from tellapart.images.measure import MEASURES
from tellapart.images.sniff import FORMATS

__all__ = ["noted", "oddities", "oddity_notes"]


def noted(path: str, fact: PictureFacts) -> tuple[str, ...]:
    """Return a row's notes: what is odd about the bytes, and whether the name says another format than they are."""
    format = FORMATS[int.from_bytes(fact.measures[_FORMAT_AT : _FORMAT_AT + 1], "little")]
    return (*(("extension_lies",) if extension_lies(path, format) else ()), *fact.notes)


def oddities(rows: Sequence[Row]) -> Mapping[str, Sequence[str]]:
    """Return the paths of the pictures that have each oddity, in the order of `ODDITIES`."""
    found: dict[str, list[str]] = {code: [] for code in ODDITIES}
    for row in rows:
        for note in row.notes:
            found.setdefault(note.partition(":")[0], []).append(row.path)
    return {code: paths for code, paths in found.items() if paths}


def oddity_notes(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return a (level, sentence) for each kind of oddity."""
    return [
        (
            "info" if code in _HARMLESS else "warning",
            f"{len(paths):,} picture(s) have {ODDITIES.get(code, code)} ({some(paths, 3)}). [{code}]",
        )
        for code, paths in oddities(rows).items()
    ]


_FORMAT_AT = MEASURES.fields["format"][1] if MEASURES.fields else 0
_HARMLESS = frozenset({"wide_gamut", "several_frames", "several_pages", "icc_profile_broken", "exif_broken"})
