"""The files below a folder, in an order that does not depend on the disk."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from tellapart.data.disk import patiently
from tellapart.data.left_out import Excluded, LeftOut
from tellapart.data.listing import is_picture, shown, some, split_of
from tellapart.data.paths import Paths, Sorting
from tellapart.errors import DataError
from tellapart.events import Progress, Steps

__all__ = ["Tree", "excluded_link", "is_ignored", "walk"]

_SYSTEM_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})
_NO_FILE = "It is no regular file, so it is never opened."
_LOOP = "It is a folder that was read already under another name, and is not read twice."
_TOO_LONG = "It is a folder whose path is too long for this system."
_HIDDEN = "Its name begins with a dot, so that it is hidden, and the pictures in it are not used."
_TELL_EVERY = 1000
_KEPT_BY_PROGRAMS = (".cache", ".git", ".ipynb_checkpoints", ".thumbnails", ".trash")
_LOOKED_AT = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """What lies below `root`: regular files and folders, as sorted paths relative to it, with `/`.

    `filled` are the folders with files right in them, the root as "", sorted too. `name` is what `root` is called to a
    person; `ignored` counts hidden and system files and folders, which do not count as found.
    """

    root: Path
    name: str
    files: Paths
    folders: tuple[str, ...]
    filled: tuple[str, ...]
    excluded: Sequence[Excluded]
    ignored: int


def walk(root: Path, name: str | None = None) -> Steps[Tree]:
    """List everything below `root`. A link to a file counts if it stays inside `root`; a link to a folder is no way in.

    A folder that is reached a second time (by a mount inside itself) is left out there. Raises DataError, naming them
    all, when folders cannot be read: half a data set in silence would be worse.
    """
    name = str(root) if name is None else name
    real_root = os.path.realpath(root)
    files = Sorting()
    folders: list[str] = []
    filled: list[str] = []
    excluded = LeftOut()
    unreadable: list[str] = []
    seen: set[tuple[int, int]] = set()
    ignored = 0
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        folder, before = os.path.join(root, prefix), len(files)
        try:
            place = patiently(os.stat, folder)
            if place.st_ino and (place.st_dev, place.st_ino) in seen:
                excluded.append(Excluded(prefix.rstrip("/"), "folder_loop", _LOOP))
                continue
            seen.add((place.st_dev, place.st_ino))
            with patiently(os.scandir, folder) as found:
                for count, entry in enumerate(found):
                    path = prefix + entry.name
                    if is_ignored(entry.name):
                        if _looks_like_a_class(entry, prefix):
                            excluded.append(Excluded(path, "hidden_folder", _HIDDEN))
                        else:
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
                    if count % _TELL_EVERY == 0:
                        yield Progress("scan", len(files), None, "files")
            if len(files) > before:
                filled.append(prefix.rstrip("/"))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                excluded.append(Excluded(prefix.rstrip("/"), "path_too_long", _TOO_LONG))
            else:
                unreadable.append(f"{prefix or '.'} ({error.strerror})")
    if unreadable:
        raise DataError(
            "unreadable_folder",
            f"Folders in {shown(name)} cannot be read: {some(sorted(unreadable))}.",
            "Change their permissions, or move them out.",
        )
    ordered = Paths()
    for count, path in enumerate(files):
        ordered.append(path)
        if count % (10 * _TELL_EVERY) == 0:
            yield Progress("scan", len(files), None, "files")
    return Tree(root, name, ordered, tuple(sorted(folders)), tuple(sorted(filled)), excluded.by_path(), ignored)


def is_ignored(name: str) -> bool:
    """Return whether a file or folder is hidden, or one that systems leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def _looks_like_a_class(entry: os.DirEntry[str], prefix: str) -> bool:
    """Say whether a hidden folder lies where folders of classes do, and holds pictures: someone may miss them."""
    place, _, deeper = prefix.partition("/")
    if not entry.name.startswith(".") or deeper or (place and split_of(place) is None):
        return False
    if entry.name.lower().startswith(_KEPT_BY_PROGRAMS) or not entry.is_dir(follow_symlinks=False):
        return False
    try:
        with os.scandir(entry.path) as found:
            return any(is_picture(Path(inner.path)) for inner in itertools.islice(found, _LOOKED_AT))
    except OSError:
        return False


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
