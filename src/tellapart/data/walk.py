"""The files below a folder, in an order that does not depend on the disk."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path

from tellapart.data.listing import shown, some
from tellapart.data.manifest import Excluded
from tellapart.errors import DataError
from tellapart.events import Progress, Steps

__all__ = ["Tree", "excluded_link", "walk"]

_SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})
_NO_FILE = "It is no regular file, so it is never opened."


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """What lies below `root`: regular files and folders, as sorted paths relative to it, with `/`.

    `ignored` counts hidden and system files and folders, which do not count as found.
    """

    root: Path
    files: tuple[str, ...]
    folders: tuple[str, ...]
    excluded: tuple[Excluded, ...]
    ignored: int


def walk(root: Path) -> Steps[Tree]:
    """List everything below `root`. A link to a file counts if it stays inside `root`; a link to a folder is no way in.

    Raises DataError, naming them all, when folders cannot be read: half a data set in silence would be worse.
    """
    real_root = os.path.realpath(root)
    files: list[str] = []
    folders: list[str] = []
    excluded: list[Excluded] = []
    unreadable: list[str] = []
    ignored = 0
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(root / prefix) as found:
                entries = list(found)
        except OSError as error:
            unreadable.append(f"{prefix or '.'} ({error.strerror})")
            continue
        for entry in entries:
            path = prefix + entry.name
            if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_NAMES:
                ignored += 1
            elif entry.is_symlink():
                item = excluded_link(root, path, real_root)
                if item is None:
                    files.append(path)
                else:
                    excluded.append(item)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
                waiting.append(path + "/")
            elif entry.is_file(follow_symlinks=False):
                files.append(path)
            else:
                excluded.append(Excluded(path, "not_a_file", _NO_FILE))
        yield Progress("scan", len(files), None, "files")
    if unreadable:
        raise DataError(
            "unreadable_folder",
            f"Folders in {shown(str(root))} cannot be read: {some(sorted(unreadable))}.",
            "Change their permissions, or move them out.",
        )
    return Tree(
        root, tuple(sorted(files)), tuple(sorted(folders)), tuple(sorted(excluded, key=lambda e: e.path)), ignored
    )


def excluded_link(root: Path, path: str, real_root: str) -> Excluded | None:
    """Return why a link is left out, or None when it leads to a regular file inside the root."""
    full = os.path.join(root, path)
    try:
        mode = os.stat(full).st_mode
    except OSError:
        return Excluded(path, "not_a_file", "It is a link that leads nowhere.")
    real = os.path.realpath(full)
    if not (real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)):
        return Excluded(path, "symlink_outside", "It is a link that leaves the data's folder, and is not followed.")
    if stat.S_ISDIR(mode):
        return Excluded(path, "symlink_folder", "It is a link to a folder inside, whose pictures are counted there.")
    if not stat.S_ISREG(mode):
        return Excluded(path, "not_a_file", _NO_FILE)
    return None
