"""Paths in a row, millions of them in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from tellapart.data.spool import Sorter, Spool, packed, text_of

__all__ = ["Paths", "Sorting"]


class Paths(Sequence[str]):
    """Paths (any texts) in the order they were put: beyond `kept` of them in a temporary file (see `Spool`).

    One at a time is read with the 63 beside it, so that a search by `bisect` is quick; going through all, or through a
    part by `between`, reads a few thousand at once. A slice is a list.
    """

    def __init__(self, paths: Iterable[str] = (), kept: int | None = None) -> None:
        self._spool = Spool(kept)
        for path in paths:
            self.append(path)

    def append(self, path: str) -> None:
        """Add one path at the end."""
        self._spool.append(packed(path))

    def between(self, start: int, stop: int) -> Iterator[str]:
        """Yield the paths from `start` to before `stop`, both within the length."""
        return map(text_of, self._spool.between(start, stop))

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if not isinstance(place, slice):
            return text_of(self._spool[place])
        start, stop, step = place.indices(len(self))
        if step == 1:
            return list(self.between(start, max(start, stop)))
        return [self[one] for one in range(start, stop, step)]

    def __iter__(self) -> Iterator[str]:
        return self.between(0, len(self))

    def __len__(self) -> int:
        return len(self._spool)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # they can still grow

    def __repr__(self) -> str:
        return f"Paths({list(self)!r})"


class Sorting:
    """Takes paths in any order, and gives them in that of `sorted`, by an external merge sort (see `Sorter`)."""

    def __init__(self, run: int | None = None) -> None:
        self._sorter = Sorter(run)
        self._count = 0

    def append(self, path: str) -> None:
        """Take one path."""
        self._sorter.append(packed(path))
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        """Yield all paths, sorted. Nothing can be taken afterwards."""
        return map(text_of, self._sorter)
