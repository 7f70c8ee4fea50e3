"""From what a person names (files, folders, patterns) to pictures, one after the other."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tellapart.errors import InputError, did_you_mean

__all__ = ["expand"]

_LITTER = frozenset({"thumbs.db", "desktop.ini", "@eadir", "__macosx"})


def expand(names: Iterable[str | os.PathLike[str]]) -> Iterator[Path]:
    """Yield the files that `names` stand for, in the order named.

    A file stands for itself; a folder for every plain file below it, by name, save hidden ones and what systems leave
    behind (Thumbs.db, __MACOSX); a pattern (`*`, `?`, `[a-z]`, `**`) for what it matches, sorted. Links to folders
    below a folder are not followed. Memory holds one folder's names, not all. Every name is looked up before this
    returns: raises InputError (`not_found`, `no_files`) for one that stands for nothing, and
    `permission` when it comes to a folder that cannot be read.
    """
    named = [os.fspath(name) for name in names]
    if not named:
        raise InputError("no_files", "No pictures were named.", "Name files, folders or patterns such as 'new/*.jpg'.")
    for name in named:
        _check(name)
    return (file for name in named for file in _files(name))


def _files(name: str) -> Iterator[Path]:
    if os.path.isdir(name):
        yield from _below(name)
    elif os.path.lexists(name) or not glob.has_magic(name):
        yield Path(name)  # one that has gone since is a picture that fails, not a run that does
    else:
        for match in sorted(glob.glob(name, recursive=True)):
            if not os.path.isdir(match):
                yield Path(match)
            elif "**" not in name:
                yield from _below(match)


def _check(name: str) -> None:
    if os.path.isdir(name):
        if next(_below(name), None) is None:
            raise InputError("no_files", f"The folder {name} holds no files.", "Name one with pictures in it.")
    elif os.path.lexists(name):
        return
    elif not glob.has_magic(name):
        raise InputError("not_found", f"There is no file or folder {name}.{_close(name)}", _NEXT)
    elif next(glob.iglob(name, recursive=True), None) is None:
        raise InputError("not_found", f"Nothing matches the pattern {name}.", _NEXT)


_NEXT = "Name files, folders or patterns such as 'new/*.jpg'."


def _close(name: str) -> str:
    """Return a suggestion of what lies beside a name that does not exist, or how far the path exists."""
    path = Path(name)
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    try:
        return did_you_mean(path.name, os.listdir(path.parent))
    except OSError:
        return ""


def _below(folder: str) -> Iterator[Path]:
    open_folders = [_listed(folder)]
    while open_folders:
        path, is_folder = next(open_folders[-1], ("", False))
        if not path:
            open_folders.pop()
        elif is_folder:
            open_folders.append(_listed(path))
        else:
            yield Path(path)


def _listed(folder: str) -> Iterator[tuple[str, bool]]:
    """Return what is shown in one folder, sorted by name: its path, and whether it is a folder itself."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries if _shown(entry))
    except OSError as error:
        raise InputError(
            "permission",
            f"The folder {folder} cannot be read ({error.strerror}).",
            "Make it readable, or leave it out.",
        ) from None
    return ((os.path.join(folder, name), is_folder) for name, is_folder in found)


def _shown(entry: os.DirEntry[str]) -> bool:
    if entry.name.startswith(".") or entry.name.lower() in _LITTER:
        return False
    return entry.is_dir(follow_symlinks=False) or entry.is_file()
