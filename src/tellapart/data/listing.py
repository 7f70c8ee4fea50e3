"""What a data set names, before any picture is read: paths, labels, given splits, groups."""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

from tellapart.data.manifest import Excluded, Split
from tellapart.images.sniff import HEAD_BYTES, sniff

__all__ = [
    "Entries",
    "Entry",
    "First",
    "Listing",
    "Said",
    "class_key",
    "is_picture",
    "is_unlabelled",
    "quoted",
    "shown",
    "some",
    "split_of",
]

_SPELLINGS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
_UNLABELLED = frozenset({"unlabelled", "unlabeled", "nolabel", "nolabels"})
SPLIT_SPELLINGS = tuple(_SPELLINGS)
_NAMED = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A file that may be a picture. `path` is relative to the root, with `/`; no label means that none was found.

    `unlabelled` says that it lies in a folder for pictures without a label, which a model may learn from all the same.

    `columns` are what a table says of it besides: values for the listing's `columns`.
    """

    path: str
    label: str | None
    split: Split | None = None
    group: str | None = None
    columns: tuple[str, ...] = ()
    unlabelled: bool = False


Said = tuple[str | None, Split | None, bool]
"""What a folder says of the files in it: their label, their split, and whether it is for those without a label."""


class Entries(Sequence[Entry]):
    """The entries of a folder's files, made anew whenever one is asked for: nothing is kept beside their paths.

    `said` is what each folder says of the files right in it, by its path ("" for the root). Entries have no group and
    no columns.
    """

    def __init__(self, paths: Sequence[str], said: Mapping[str, Said]) -> None:
        self.paths, self._said = paths, said
        self.labels = {label for label, _, _ in said.values() if label is not None}

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        return self._made(self.paths[place])

    def __iter__(self) -> Iterator[Entry]:
        return map(self._made, self.paths)

    def _made(self, path: str) -> Entry:
        label, split, unlabelled = self._said[path.rpartition("/")[0]]
        return Entry(path, label, split, unlabelled=unlabelled)

    def __len__(self) -> int:
        return len(self.paths)


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """All that was found, sorted by path; `excluded` will not be opened. `notes` are (level, sentence) pairs.

    `name` is what `root` is called to a person: for an archive its name, not the place that it was unpacked to.
    `splits` says whether the data set came with splits; entries without one then count as train. `tabled` says that a
    table lists them: what has no label is then a blank row, and elsewhere a picture outside of any class folder.
    `besides` is a sha256 of what the table says of its pictures besides path, label and split.
    """

    root: Path
    name: str
    entries: Sequence[Entry]
    excluded: Sequence[Excluded]
    splits: bool
    notes: Sequence[tuple[str, str]] = ()
    columns: tuple[str, ...] = ()
    tabled: bool = False
    besides: str = ""

    @property
    def labels(self) -> Collection[str]:
        """The labels of the entries, each once."""
        if isinstance(self.entries, Entries):
            return self.entries.labels
        return {entry.label for entry in self.entries if entry.label is not None}

    @property
    def paths(self) -> Iterable[str]:
        """The paths of the entries, in order."""
        return self.entries.paths if isinstance(self.entries, Entries) else (entry.path for entry in self.entries)


def split_of(name: str) -> Split | None:
    """Return the split that a word such as `Validation` stands for, or None."""
    return _SPELLINGS.get(name.strip().casefold())


def is_unlabelled(name: str) -> bool:
    """Say whether a folder of this name is for pictures without a label, rather than a class."""
    return re.sub(r"[\W_]", "", name.casefold()) in _UNLABELLED


def class_key(name: str) -> str:
    """Return the label that a name stands for: Unicode NFC, so that one name written in two ways is one class."""
    return unicodedata.normalize("NFC", name)


def is_picture(path: Path) -> bool:
    """Say whether a file begins as a picture of an allowed format does. What is no regular file is never opened."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def shown(name: str) -> str:
    """Return a name fit for a line of a terminal: control characters and lone surrogates are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def quoted(name: str) -> str:
    """Return a name in quotes, fit for a line of a terminal."""
    return f"'{shown(name)}'"


class First(Sequence[str]):
    """The first ten of names that may be very many, and how many they are (its length): as much as `some` tells."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._first: list[str] = []
        self._count = 0
        self.extend(names)

    def extend(self, names: Iterable[str]) -> None:
        """Count some names more."""
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Count one name more."""
        self._count += 1
        if len(self._first) < _NAMED:
            self._first.append(name)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        return self._first[place]

    def __len__(self) -> int:
        return self._count


def some(names: Sequence[str], most: int = _NAMED) -> str:
    """Return the first names of a sequence, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + rest
