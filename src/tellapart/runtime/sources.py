"""From what a person names (files, folders, patterns) to pictures, one after the other."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tellapart.errors import InputError, PictureError, did_you_mean
from tellapart.images.header import shown_name
from tellapart.runtime.predictor import Failure

__all__ = ["expand"]

_LITTER = frozenset({"thumbs.db", "desktop.ini", "@eadir", "__macosx"})


def expand(
    names: Iterable[str | os.PathLike[str]], refused: Mapping[str, InputError] | None = None
) -> Iterator[Path | Failure]:
    """Yield the files that `names` stand for, in the order named.

    A file stands for itself; a folder for every plain file below it, by name, save hidden ones, what systems leave
    behind (Thumbs.db, __MACOSX), and links to folders; a pattern (`*`, `?`, `[a-z]`, `**`) for what it matches, sorted.
    What else lies in a folder (a link that leads nowhere, a pipe, a socket) is a Failure (`not_a_file`), and never
    opened. Memory holds one folder's names, not all. A name that stands for nothing is a Failure in its place
    (`not_found`, `no_files`), and so is a folder that cannot be read (`permission`), or a name in `refused`, with its
    fault. Where that goes for every name, this raises InputError at once, with the first's fault.
    """
    named = [os.fspath(name) for name in names]
    if not named:
        raise InputError("no_files", "No pictures were named.", "Name files, folders or patterns such as 'new/*.jpg'.")
    faults = [(refused or {}).get(name) or _fault(name) for name in named]
    if faults[0] is not None and None not in faults:
        raise faults[0]
    return (file for name, fault in zip(named, faults, strict=True) for file in _files(name, fault))


def _files(name: str, fault: InputError | None) -> Iterator[Path | Failure]:
    if fault is not None:
        yield _failure(name, fault)
    elif os.path.isdir(name):
        yield from _below(name)
    elif os.path.lexists(name) or not glob.has_magic(name):
        yield Path(name)  # one that has gone since is a picture that fails, not a run that does
    else:
        for match in sorted(glob.glob(name, recursive=True)):
            if not os.path.isdir(match):
                yield Path(match)
            elif "**" not in name:
                yield from _below(match)


def _fault(name: str) -> InputError | None:
    """Return why a name stands for nothing, or None where it stands for something."""
    if os.path.isdir(name):
        first = next(_below(name), None)
        if first is None:
            return InputError("no_files", f"The folder {name} holds no files.", "Name one with pictures in it.")
        return first.error if isinstance(first, Failure) and first.path == name else None
    if os.path.lexists(name):
        return None
    if not glob.has_magic(name):
        return InputError("not_found", f"There is no file or folder {name}.{_close(name)}", _NEXT)
    if next(glob.iglob(name, recursive=True), None) is None:
        return InputError("not_found", f"Nothing matches the pattern {name}.", _NEXT)
    return None


def _failure(path: str, fault: InputError) -> Failure:
    return Failure(path, PictureError(fault.code, fault.message, fault.next))


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


def _below(folder: str) -> Iterator[Path | Failure]:
    open_folders = [iter([(folder, "folder")])]
    while open_folders:
        path, kind = next(open_folders[-1], ("", ""))
        if not path:
            open_folders.pop()
        elif kind == "folder":
            try:
                open_folders.append(_listed(path))
            except InputError as fault:
                yield _failure(path, fault)
        elif kind == "file":
            yield Path(path)
        else:
            name = shown_name(Path(path))
            what = "a link that leads nowhere" if kind == "link" else "no regular file, so it is never opened"
            yield _failure(path, InputError("not_a_file", f"{name} is {what}.", "Leave it out."))


def _listed(folder: str) -> Iterator[tuple[str, str]]:
    """Return what is shown in one folder, sorted by name: its path, and its kind."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _kind(entry)) for entry in entries)
    except OSError as error:
        raise InputError(
            "permission",
            f"The folder {folder} cannot be read ({error.strerror}).",
            "Make it readable, or leave it out.",
        ) from None
    return ((os.path.join(folder, name), kind) for name, kind in found if kind != "hidden")


def _kind(entry: os.DirEntry[str]) -> str:
    """Return what an entry is: a `folder`, a `file`, a `link` that leads nowhere, `other`, or `hidden` from sight."""
    if entry.name.startswith(".") or entry.name.lower() in _LITTER:
        return "hidden"
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "hidden" if entry.is_symlink() else "folder"
    except OSError:  # as of a link to itself
        return "link" if entry.is_symlink() else "other"
    return "link" if entry.is_symlink() and not os.path.exists(entry.path) else "other"
