"""What has changed in a data set since it was scanned: files added, removed or written anew, and what a table says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tellapart.data.archive import is_archive, unpacked
from tellapart.data.corrections import Corrected
from tellapart.data.disk import is_same, stamps
from tellapart.data.listed import listed
from tellapart.data.listing import Entry, Listing, some
from tellapart.data.manifest import Excluded, Manifest, Row, Split
from tellapart.events import Progress, Steps
from tellapart.recipe import Recipe

__all__ = ["changes_since"]

_NAMED = 3
_TELL_EVERY = 500
# What is left out unseen, for where it lies or what kind of file it is.
_UNSEEN = frozenset({"not_a_file", "symlink_outside", "symlink_folder", "folder_loop", "missing_file", "outside_root"})

_HIDDEN = "hidden_folder"  # nothing in it is used, and older manifests do not have it


def changes_since(before: Manifest, data: Path, recipe: Recipe, cache: Path) -> Steps[str]:
    """Return in words how the pictures at `data` differ from those of `before`; an empty string where they do not.

    Files are listed again, not read: those count as changed whose size differs, or whose time does and their bytes too.
    Of a table, labels, splits, groups and further columns count as well. Nothing is written but the cache, which an
    archive is unpacked into. Raises DataError where `data` can no longer be listed.
    """
    place = (yield from unpacked(data, cache)) if is_archive(data) else None
    listing = yield from listed(data, recipe, place)
    return (yield from _differences(before, listing, recipe))


@dataclasses.dataclass(slots=True)
class _Found:
    added: list[str] = dataclasses.field(default_factory=list)
    removed: list[str] = dataclasses.field(default_factory=list)
    rewritten: list[str] = dataclasses.field(default_factory=list)
    relabelled: list[str] = dataclasses.field(default_factory=list)
    resplit: list[str] = dataclasses.field(default_factory=list)

    def words(self) -> str:
        """Return what was found, as the parts of a sentence; empty where nothing was."""
        parts = []
        for paths, one, many in (
            (self.added, "file was added", "files were added"),
            (self.removed, "file was removed", "files were removed"),
            (self.rewritten, "file has other bytes", "files have other bytes"),
            (self.relabelled, "file has another label", "files have other labels"),
            (self.resplit, "file is in another split", "files are in other splits"),
        ):
            if paths:
                parts.append(f"{len(paths):,} {one if len(paths) == 1 else many} ({some(sorted(paths), _NAMED)})")
        return ", ".join(parts)


def _differences(before: Manifest, listing: Listing, recipe: Recipe) -> Steps[str]:
    found = _Found()
    known: dict[str, Row | Excluded] = {item.path: item for item in before.excluded if item.code != _HIDDEN}
    known |= {row.path: row for row in before.rows}
    corrected = Corrected(recipe.data.corrections, {entry.label for entry in listing.entries if entry.label})
    now = stamps(listing.root, listing.paths)
    for count, (entry, stamp) in enumerate(zip(listing.entries, now, strict=True)):
        item = known.pop(entry.path, None)
        unseen = isinstance(item, Excluded) and item.code in _UNSEEN
        if item is None:
            found.added.append(entry.path)
        elif unseen or not is_same(listing.root / entry.path, (int(stamp[0]), int(stamp[1])), item):
            found.rewritten.append(entry.path)
        else:
            found.relabelled += _relabelled(entry, item, corrected)
            if isinstance(item, Row) and _is_resplit(entry, item, before.given, listing.splits):
                found.resplit.append(entry.path)
        if count % _TELL_EVERY == 0:
            yield Progress("check", count, len(listing.entries), "files")
    for other in listing.excluded:
        item = known.pop(other.path, None)
        if other.code == _HIDDEN:
            continue
        if item is None:
            found.added.append(other.path)
        elif isinstance(item, Row) or item.code != other.code:
            found.rewritten.append(other.path)
    found.removed.extend(known)
    words = found.words()
    if not words and before.besides and before.besides != listing.besides:
        return "the table has other groups or other values in further columns"
    return words


def _relabelled(entry: Entry, item: Row | Excluded, corrected: Corrected) -> list[str]:
    """Return the path where the same file has another label now, or corrections drop it that did not, or no longer."""
    entry, decided = corrected.seen(entry, item.sha256)
    dropped = decided == "drop"
    if isinstance(item, Row):
        other = dropped or entry.label != item.label
    elif item.code == "bridges_splits" or (item.code == "dropped" and item.size < 0):  # as older manifests have it
        other = False
    else:
        other = dropped != (item.code == "dropped") or entry.label != item.label
    return [entry.path] if other else []


def _is_resplit(entry: Entry, row: Row, given: Sequence[Split], splits: bool) -> bool:
    """Say whether a picture is given to another split than before; what is given as train may have been carved."""
    if not given:
        return splits
    split = entry.split or "train"
    return split != row.split and (split != "train" or row.split in given)
