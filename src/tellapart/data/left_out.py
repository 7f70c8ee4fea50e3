"""Files that were found and are not used, millions of them in little memory."""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

__all__ = ["Excluded", "LeftOut"]


@dataclasses.dataclass(frozen=True, slots=True)
class Excluded:
    """One file found and not used: a stable code such as `truncated`, a sentence, its label and content where known.

    `size` (bytes) is that of a file that was opened, else -1; `mtime_ns` stands where `sha256` does. As those of a row
    they tell whether the file may have changed.
    """

    path: str
    code: str
    note: str
    label: str | None = None
    sha256: str = ""
    size: int = dataclasses.field(default=-1, compare=False)
    mtime_ns: int = dataclasses.field(default=0, compare=False)


class LeftOut(Sequence[Excluded]):
    """`Excluded` files in a row, made anew whenever one is asked for.

    Of a file the path is kept, 12 bytes besides, and content and time where they are known: what is said of it (code,
    note, label) is mostly said of many.
    """

    def __init__(self, items: Iterable[Excluded] = ()) -> None:
        self._paths: list[str] = []
        self._said: dict[tuple[str, str, str | None], int] = {}
        self._which = array("I")
        self._sizes = array("q")
        self._content: dict[int, tuple[str, int]] = {}
        self.extend(items)

    def append(self, item: Excluded) -> None:
        """Add one file at the end."""
        if item.sha256:
            self._content[len(self._paths)] = item.sha256, item.mtime_ns
        self._paths.append(item.path)
        self._which.append(self._said.setdefault((item.code, item.note, item.label), len(self._said)))
        self._sizes.append(item.size)

    def extend(self, items: Iterable[Excluded]) -> None:
        """Add files at the end."""
        for item in items:
            self.append(item)

    @property
    def counts(self) -> Counter[str]:
        """How many there are of each code."""
        found: Counter[str] = Counter()
        for (code, _, _), count in zip(self._said, np.bincount(self._which, minlength=len(self._said)), strict=True):
            found[code] += int(count)
        return found

    def of(self, *codes: str) -> list[str]:
        """Return the paths of those with one of these codes, in order."""
        wanted = [code in codes for code, _, _ in self._said]
        return [path for path, which in zip(self._paths, self._which, strict=True) if wanted[which]]

    def by_path(self) -> LeftOut:
        """Return the same, sorted by path."""
        if all(first <= second for first, second in itertools.pairwise(self._paths)):
            return self
        order = np.argsort(np.array(self._paths, dtype=object), kind="stable")
        found = LeftOut()
        found._paths = [self._paths[place] for place in order]
        found._said = self._said
        found._which = array("I", np.array(self._which, dtype=np.uint32)[order].tobytes())
        found._sizes = array("q", np.array(self._sizes, dtype=np.int64)[order].tobytes())
        if self._content:
            found._content = {new: self._content[old] for new, old in enumerate(order) if old in self._content}
        return found

    @overload
    def __getitem__(self, place: int) -> Excluded: ...

    @overload
    def __getitem__(self, place: slice) -> list[Excluded]: ...

    def __getitem__(self, place: int | slice) -> Excluded | list[Excluded]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return self._made(place, next(itertools.islice(self._said, self._which[place], None)))

    def __iter__(self) -> Iterator[Excluded]:
        said = list(self._said)
        return (self._made(place, said[which]) for place, which in enumerate(self._which))

    def _made(self, place: int, said: tuple[str, str, str | None]) -> Excluded:
        content = self._content.get(place, ("", 0))
        return Excluded(self._paths[place], *said, content[0], self._sizes[place], content[1])

    def __len__(self) -> int:
        return len(self._paths)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"LeftOut({list(self)!r})"
