"""Predictions as CSV that a spreadsheet can open without harm."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from tellapart.cells import guarded
from tellapart.cli.output import printable
from tellapart.errors import InputError

__all__ = ["HEADER", "csv_line", "table_file"]

HEADER = ("path", "label", "prob", "answer", "novelty", "error")
# Written after --csv by accident, for example when a shell puts names in the place of a pattern.
PICTURE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".heic", ".heif", ".avif", ".jp2", ".jxl", ".ico", ".svg", ".psd"),
)


def csv_line(cells: Iterable[object]) -> str:
    r"""Return one record (RFC 4180, but ended by a newline alone).

    Text that a spreadsheet would run as a formula is guarded (`cells.guarded`); what cannot be printed is
    escaped, so that a record is always one line.

    >>> csv_line(["=cmd()", "a,b", 0.5])
    '\'=cmd(),"a,b",0.5\n'
    """
    return ",".join(map(_cell, cells)) + "\n"


@contextlib.contextmanager
def table_file(path: str, bundle: Path, pictures: Iterable[str]) -> Iterator[TextIO]:
    """Give a file to write a table to, which takes the place of `path` when the block ends well; else `path` stays.

    Nothing but a table of ours (known by its first line), an empty file, or nothing at all may be at `path`, and it may
    be none of `pictures`, nor in `bundle`. A pipe or a terminal is written to as it comes. Raises InputError.
    """
    _refuse(path, bundle, pictures)
    flags = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if _is_stream(path):
        with open(path, "w", **flags) as stream:  # type: ignore[call-overload]
            yield stream
        return
    target = Path(os.path.realpath(path))  # a link stays a link
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.tmp")
    try:
        file = open(temporary, "x", **flags)  # type: ignore[call-overload] # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(
            "cannot_write",
            f"--csv {path} cannot be written ({error.strerror}).",
            "Give a file in a folder that can be.",
        ) from None
    try:
        with file:
            yield file
        _refuse(path, bundle, pictures)  # another program may have put a file there meanwhile
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse(path: str, bundle: Path, pictures: Iterable[str]) -> None:
    target = Path(os.path.realpath(path))
    named = {os.path.realpath(picture) for picture in pictures}
    if target.suffix.lower() in PICTURE_SUFFIXES or Path(path).suffix.lower() in PICTURE_SUFFIXES:
        said = "has the name of a picture, and a table would take its place"
    elif str(target) in named:
        said = "is one of the pictures asked for"
    elif target.is_relative_to(os.path.realpath(bundle)):
        said = f"lies in the bundle {bundle}"
    elif not os.path.lexists(target) or _is_stream(path) or _is_ours(path, target):
        return
    elif target.is_dir():
        said = "is a folder"
    else:
        said = "exists and is not a table that predict wrote"
    raise InputError(
        "csv_would_overwrite",
        f"--csv {path} {said}; allowed are a new file and an earlier table of predict.",
        "Name another file, such as answers.csv.",
    )


def _is_stream(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def _is_ours(path: str, target: Path) -> bool:
    """Return whether a file is empty or begins with the very line that a table of ours begins with."""
    first = csv_line(HEADER).encode()
    try:
        if not target.is_file():
            return False
        with target.open("rb") as file:
            return file.read(len(first)) in (first, b"")
    except OSError as error:
        raise InputError(
            "cannot_write", f"--csv {path} cannot be looked at ({error.strerror}).", "Name another file."
        ) from None


def _cell(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else repr(value)
    text = printable(guarded(value))
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text
