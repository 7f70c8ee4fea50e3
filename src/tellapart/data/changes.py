"""What has changed in a data set since it was scanned: files added, removed or written anew, and what a table says."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path

from tellapart.data.archive import is_archive, unpacked
from tellapart.data.corrections import Corrected
from tellapart.data.disk import is_same, stamp_of
from tellapart.data.left_out import Excluded, LeftOut
from tellapart.data.listed import listed
from tellapart.data.listing import Entry, First, Listing, some
from tellapart.data.manifest import Manifest, Row, Split
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


class _Few(First):
    """The first of many paths in their order, whatever the order that they come in, and how many they are."""

    def append(self, name: str) -> None:
        """Count one path more."""
        self._count += 1
        bisect.insort(self._first, name)
        del self._first[_NAMED:]


class _Found:
    def __init__(self) -> None:
        self.added, self.removed, self.rewritten, self.relabelled, self.resplit = (_Few() for _ in range(5))

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
                parts.append(f"{len(paths):,} {one if len(paths) == 1 else many} ({some(paths, _NAMED)})")
        return ", ".join(parts)


class _Earlier:
    """What was left out before, sorted by path, gone through once: to be asked for paths in their order."""

    def __init__(self, items: Sequence[Excluded]) -> None:
        self._items = (item for item in _by_path(items) if item.code != _HIDDEN)
        self._next = next(self._items, None)

    def before(self, path: str | None) -> Iterator[str]:
        """Yield the paths before this one that were not asked for; all where there is none."""
        while self._next is not None and (path is None or self._next.path < path):
            yield self._next.path
            self._next = next(self._items, None)

    def at(self, path: str) -> Excluded | None:
        """Return what was left out at this path; what comes before it has been gone through."""
        found = None
        while self._next is not None and self._next.path == path:
            found, self._next = self._next, next(self._items, None)
        return found


def _by_path(items: Sequence[Excluded]) -> LeftOut:
    return (items if isinstance(items, LeftOut) else LeftOut(items)).by_path()


def _differences(before: Manifest, listing: Listing, recipe: Recipe) -> Steps[str]:
    """Compare in the order of paths, so that of millions of files that were left out none is kept."""
    found = _Found()
    rows, earlier = {row.path: row for row in before.rows}, _Earlier(before.excluded)
    corrected = Corrected(recipe.data.corrections, set(listing.labels))
    entries: Iterator[tuple[str, Entry | Excluded]] = ((entry.path, entry) for entry in listing.entries)
    others: Iterator[tuple[str, Entry | Excluded]] = ((item.path, item) for item in _by_path(listing.excluded))
    for count, (path, now) in enumerate(heapq.merge(entries, others, key=itemgetter(0))):
        found.removed.extend(gone for gone in earlier.before(path) if gone not in rows)
        left_out = earlier.at(path)
        item = rows.pop(path, None) or left_out
        if isinstance(now, Excluded):
            if now.code != _HIDDEN:
                _compare_left_out(now, item, found)
        elif item is None:
            found.added.append(path)
        elif _is_unseen(item) or not is_same(listing.root / path, stamp_of(str(listing.root / path)), item):
            found.rewritten.append(path)
        else:
            found.relabelled.extend(_relabelled(now, item, corrected))
            if isinstance(item, Row) and _is_resplit(now, item, before.given, listing.splits):
                found.resplit.append(path)
        if count % _TELL_EVERY == 0:
            yield Progress("check", count, len(listing.entries) + len(listing.excluded), "files")
    found.removed.extend(gone for gone in earlier.before(None) if gone not in rows)
    found.removed.extend(rows)
    words = found.words()
    if not words and before.besides and before.besides != listing.besides:
        return "the table has other groups or other values in further columns"
    return words


def _compare_left_out(now: Excluded, item: Row | Excluded | None, found: _Found) -> None:
    if item is None:
        found.added.append(now.path)
    elif isinstance(item, Row) or item.code != now.code:
        found.rewritten.append(now.path)


def _is_unseen(item: Row | Excluded) -> bool:
    return isinstance(item, Excluded) and item.code in _UNSEEN


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
