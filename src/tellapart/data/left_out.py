"""Files that were found and are not used, millions of them in little memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator

from tellapart.data.spool import Sorter, Spooled, packed, text_of

__all__ = ["Excluded", "LeftOut"]

_MOST_SAYINGS = 4096
_END = b"\1"  # of the path, and of each field after it: lower than whatever `packed` gives


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


class LeftOut(Spooled[Excluded]):
    """`Excluded` files in a row, made anew whenever one is asked for.

    Beyond `kept` of them they lie in a temporary file (see `Spool`). What is said of them (code, note, label) is mostly
    said of many: the first 4,096 sayings are in memory, each once.
    """

    def __init__(self, items: Iterable[Excluded] = (), kept: int | None = None) -> None:
        super().__init__(kept)
        self._kept = kept
        self._said: dict[tuple[str, str, str | None], int] = {}
        self._sayings: list[tuple[str, str, str | None]] = []
        self._counts: Counter[str] = Counter()
        self._last, self._in_order = b"", True
        self.extend(items)

    def append(self, item: Excluded) -> None:
        """Add one file at the end."""
        said = (item.code, item.note, item.label)
        number = self._said.get(said)
        if number is None and len(self._sayings) < _MOST_SAYINGS:
            number = self._said[said] = len(self._sayings)
            self._sayings.append(said)
        fields = [packed(item.path)]
        fields.append(b"%d" % number if number is not None else b"")
        fields.append(b"%d" % item.size)
        fields.append(packed(item.sha256))
        fields.append(b"%d" % item.mtime_ns if item.sha256 else b"0")
        if number is None:
            fields += [packed(item.code), packed(item.note)]
            fields += [] if item.label is None else [packed(item.label)]
        self._put(_END.join(fields))
        self._counts[item.code] += 1

    def _put(self, record: bytes) -> None:
        self._in_order = self._in_order and self._last <= record
        self._last = record
        self._spool.append(record)

    def extend(self, items: Iterable[Excluded]) -> None:
        """Add files at the end."""
        for item in items:
            self.append(item)

    @property
    def counts(self) -> Counter[str]:
        """How many there are of each code."""
        return Counter(self._counts)

    def of(self, *codes: str) -> Iterator[str]:
        """Yield the paths of those with one of these codes, in order."""
        if any(self._counts[code] for code in codes):
            yield from (item.path for item in self if item.code in codes)

    def by_path(self) -> LeftOut:
        """Return the same, sorted by path."""
        if self._in_order:
            return self
        sorter = Sorter(self._kept)
        for record in self._spool:
            sorter.append(record)
        found = LeftOut(kept=self._kept)
        for record in sorter:
            found._put(record)
        found._said, found._sayings, found._counts = dict(self._said), list(self._sayings), self.counts
        return found

    def _made(self, record: bytes) -> Excluded:
        path, number, size, sha256, mtime_ns, *rest = record.split(_END)
        if number:
            code, note, label = self._sayings[int(number)]
        else:
            code, note = text_of(rest[0]), text_of(rest[1])
            label = text_of(rest[2]) if len(rest) > 2 else None
        return Excluded(text_of(path), code, note, label, text_of(sha256), int(size), int(mtime_ns))
