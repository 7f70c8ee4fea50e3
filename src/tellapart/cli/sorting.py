"""Copies of pictures, sorted into a folder for each answer. The originals are not touched, nothing is overwritten."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from tellapart.errors import InputError

__all__ = ["Sorter", "folder_name"]

# Names that Windows keeps for devices, with any extension.
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
LONGEST_NAME = 80


def folder_name(label: str) -> str:
    """Return a folder name for a class: the label itself where that is harmless, else a likeness of it with a digest.

    No two labels share a name, none leads out of the folder, is hidden, or begins with `_` as `_unsure` does.
    """
    safe = "".join(c if c.isalnum() or c in " -_.()" else "_" for c in label[:LONGEST_NAME]).strip(" .")
    if safe == label and safe and not safe.startswith("_") and not RESERVED.fullmatch(safe):
        return safe
    digest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe.replace('.', '_').lstrip('_ ') or 'class'}-{digest}"


class Sorter:
    """Copies pictures into `folder`: those answered with a label under its name, others in `_unsure` and `_unknown`.

    Raises InputError when `folder` holds one of `pictures`, or lies in one of them.
    """

    def __init__(self, folder: Path, pictures: Iterable[str]) -> None:
        self._folder = folder
        target = folder.resolve()
        for given in pictures:
            place = _place(given)
            if place.is_relative_to(target) or (place.is_dir() and target.is_relative_to(place)):
                raise InputError(
                    "sorts_into_itself",
                    f"--sort-into {folder} and the pictures {given} lie in one another.",
                    "Choose a new folder beside the pictures.",
                )

    def copy(self, picture: str, label: str | None, answer: str) -> Path:
        """Copy one picture and return where to. Raises InputError when that cannot be written."""
        source = Path(picture)
        try:
            folder = self._folder / (folder_name(label) if label is not None else f"_{answer}")
            folder.mkdir(parents=True, exist_ok=True)
            for number in count():
                target = folder / (f"{source.stem}-{number}{source.suffix}" if number else source.name)
                try:
                    with source.open("rb") as read, target.open("xb") as written:
                        shutil.copyfileobj(read, written)
                except FileExistsError:
                    continue
                shutil.copystat(source, target)
                return target
        except OSError as error:
            raise InputError(
                "cannot_sort", f"{picture} cannot be copied into {self._folder} ({error.strerror}).", "Make room there."
            ) from None
        raise AssertionError


def _place(given: str) -> Path:
    """Return where a picture, a folder or the fixed part of a glob is."""
    path = Path(given)
    while any(mark in path.name for mark in "*?[") and not path.exists():
        path = path.parent
    return path.resolve()
