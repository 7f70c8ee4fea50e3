"""Paths in a row, millions of them in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tellapart.data.spool import Sorter, Spooled, packed, text_of

__all__ = ["Paths", "Sorting"]


class Paths(Spooled[str]):
    """Paths (any texts) in the order they were put: beyond `kept` of them in a temporary file (see `Spool`).

    Those next to each other are read together, so that a search by `bisect` is quick.
    """

    def __init__(self, paths: Iterable[str] = (), kept: int | None = None) -> None:
        super().__init__(kept)
        for path in paths:
            self.append(path)

    def append(self, path: str) -> None:
        """Add one path at the end."""
        self._spool.append(packed(path))

    def _made(self, record: bytes) -> str:
        return text_of(record)


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
