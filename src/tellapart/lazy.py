"""Sequences that are made anew whenever they are gone through, for what there may be millions of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

__all__ = ["Compared", "Lazy"]

T = TypeVar("T")


class Compared(Sequence[T], Generic[T]):
    """A sequence that equals any other with the same items in the same order, as lists do among themselves."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))


class Lazy(Compared[T]):
    """`length` items, those that `each()` yields, and the same every time. A place far from the first one is dear."""

    def __init__(self, each: Callable[[], Iterator[T]], length: int) -> None:
        self._each, self._length = each, length

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...

    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        wanted = range(self._length)[place]
        if isinstance(wanted, int):
            return next(itertools.islice(self._each(), wanted, None))
        if wanted.step < 0:
            return tuple(self._each())[place]
        return tuple(itertools.islice(self._each(), wanted.start, max(wanted.start, wanted.stop), wanted.step))

    def __iter__(self) -> Iterator[T]:
        return self._each()

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        return f"Lazy({self[:3]!r}, {self._length})"
