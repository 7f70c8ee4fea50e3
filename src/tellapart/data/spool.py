"""Short byte strings in a row, millions of them: the first ones in memory, what is more in a temporary file."""

from __future__ import annotations

import io
import itertools
import re
import tempfile
import threading
import weakref
from abc import abstractmethod
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, Generic, TypeVar, overload

from tellapart.lazy import Compared

__all__ = ["KEPT", "Sorter", "Spool", "Spooled", "packed", "text_of"]

T = TypeVar("T")

KEPT = 64_000
"""How many byte strings are in memory before a file is made, where nothing else is asked for: 6 MB of paths."""

_BLOCK = 64  # records of which one place in the file is known
_AT_ONCE = 64  # blocks that are read together by who goes through all
_FLUSHED = 4096  # records that wait for the file once there is one
_BUFFERED = 65_536  # records of all runs together that are merged at once
_LOW = re.compile(rb"[\x00-\x02]")
_RAISED = re.compile(rb"\x02([\x03-\x05])")


def packed(text: str) -> bytes:
    r"""Return a text as bytes without 0 and 1 that order as texts do, by code points; lone surrogates are allowed.

    It is UTF-8, of which the bytes 0, 1 and 2, which no path has, become two: `\2\3`, `\2\4`, `\2\5`.
    """
    plain = text.encode("utf-8", "surrogatepass")
    return _LOW.sub(lambda found: bytes([2, 3 + found[0][0]]), plain) if _LOW.search(plain) else plain


def text_of(record: bytes) -> str:
    """Return the text that `packed` made bytes of."""
    if b"\2" in record:
        record = _RAISED.sub(lambda found: bytes([found[1][0] - 3]), record)
    return record.decode("utf-8", "surrogatepass")


class Spool:
    """Records (byte strings without the byte 0), appended at the end, read at any place or in order.

    Beyond `kept` of them (64,000) they lie in an anonymous temporary file, which goes when the spool does; 8 bytes for
    every 64 stay in memory. Where no file can be made they stay in memory, as one block of bytes; where it cannot be
    written, this raises OSError. Once all are appended, several threads may read.
    """

    def __init__(self, kept: int | None = None) -> None:
        self._kept = KEPT if kept is None else kept
        self._tail: list[bytes] = []
        self._starts = array("q", [0])
        self._file: IO[bytes] | None = None
        self._filed = 0  # records in the file, a multiple of a block
        self._held: tuple[int, list[bytes]] = (-1, [])
        self._lock = threading.Lock()

    def append(self, record: bytes) -> None:
        """Add one record at the end."""
        self._tail.append(record)
        if len(self._tail) >= max(_BLOCK, self._kept if self._file is None else min(self._kept, _FLUSHED)):
            self._flush()

    def _flush(self) -> None:
        """Move the whole blocks of what waits into the file."""
        if self._file is None:
            self._file = _temporary()
            weakref.finalize(self, self._file.close)
        whole = len(self._tail) - len(self._tail) % _BLOCK
        blocks = [b"\0".join(self._tail[first : first + _BLOCK]) for first in range(0, whole, _BLOCK)]
        with self._lock:
            self._file.seek(self._starts[-1])
            self._file.write(b"".join(blocks))
            self._file.flush()
        self._starts.extend(itertools.islice(itertools.accumulate(map(len, blocks), initial=self._starts[-1]), 1, None))
        self._filed += whole
        del self._tail[:whole]

    def _read(self, first: int, end: int) -> list[list[bytes]]:
        """Return the blocks from `first` to before `end`."""
        assert self._file is not None
        starts = self._starts[first : end + 1]
        with self._lock:
            self._file.seek(starts[0])
            content = self._file.read(starts[-1] - starts[0])
        return [
            content[begin - starts[0] : stop - starts[0]].split(b"\0") for begin, stop in itertools.pairwise(starts)
        ]

    def __getitem__(self, place: int) -> bytes:
        place = range(len(self))[place]
        if place >= self._filed:
            return self._tail[place - self._filed]
        number, within = divmod(place, _BLOCK)
        held, records = self._held
        if held != number:
            (records,) = self._read(number, number + 1)
            self._held = number, records
        return records[within]

    def between(self, start: int, stop: int, blocks: int = _AT_ONCE) -> Iterator[bytes]:
        """Yield the records from `start` to before `stop`, both within the length; `blocks` of 64 are read at once."""
        while start < min(stop, self._filed):
            first = start // _BLOCK
            end = min(first + blocks, (min(stop, self._filed) + _BLOCK - 1) // _BLOCK)
            records = list(itertools.chain.from_iterable(self._read(first, end)))
            yield from records[start - first * _BLOCK : stop - first * _BLOCK]
            start = min(stop, end * _BLOCK)
        if start < stop:
            yield from self._tail[start - self._filed : stop - self._filed]

    def __iter__(self) -> Iterator[bytes]:
        return self.between(0, len(self))

    def __len__(self) -> int:
        return self._filed + len(self._tail)


class Spooled(Compared[T], Generic[T]):
    """Items that lie in a `Spool` as records, each made anew whenever it is asked for (`_made`). A slice is a list.

    One at a time is read with the 63 beside it; going through all, or through a part by `between`, reads a few thousand
    at once.
    """

    def __init__(self, kept: int | None = None) -> None:
        self._spool = Spool(kept)

    @abstractmethod
    def _made(self, record: bytes) -> T:
        """Return the item that a record holds."""

    def between(self, start: int, stop: int) -> Iterator[T]:
        """Yield the items from `start` to before `stop`, both within the length."""
        return map(self._made, self._spool.between(start, stop))

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> list[T]: ...

    def __getitem__(self, place: int | slice) -> T | list[T]:
        if not isinstance(place, slice):
            return self._made(self._spool[place])
        start, stop, step = place.indices(len(self))
        if step == 1:
            return list(self.between(start, max(start, stop)))
        return [self[one] for one in range(start, stop, step)]

    def __iter__(self) -> Iterator[T]:
        return self.between(0, len(self))

    def __len__(self) -> int:
        return len(self._spool)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


def _temporary() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix="tellapart-")
    except OSError:
        return io.BytesIO()


class Sorter:
    """Takes records in any order, and gives them sorted: an external merge sort, in runs of `run` records
    (64,000).

    Runs are sorted in memory and spooled; of all runs together some 65,000 records are in memory while they are merged.
    """

    def __init__(self, run: int | None = None) -> None:
        self._run = KEPT if run is None else run
        self._waiting: list[bytes] = []
        self._spool = Spool(self._run)
        self._ends: list[int] = []

    def append(self, record: bytes) -> None:
        """Take one record."""
        self._waiting.append(record)
        if len(self._waiting) >= self._run:
            self._waiting.sort()
            for one in self._waiting:
                self._spool.append(one)
            self._ends.append(len(self._spool))
            self._waiting = []

    def __iter__(self) -> Iterator[bytes]:
        """Yield all records, sorted. Nothing can be taken afterwards."""
        self._waiting.sort()
        if not self._ends:
            yield from self._waiting
            return
        blocks = max(1, min(_BUFFERED, self._run) // (len(self._ends) + 1) // _BLOCK)
        runs = [self._spool.between(start, end, blocks) for start, end in itertools.pairwise((0, *self._ends))]
        runs.append(iter(self._waiting))
        each = blocks * _BLOCK
        buffers = [list(itertools.islice(run, each)) for run in runs]
        while True:
            for number, run in enumerate(runs):
                if not buffers[number]:
                    buffers[number] = list(itertools.islice(run, each))
            alive = [(buffer, run) for buffer, run in zip(buffers, runs, strict=True) if buffer]
            if not alive:
                return
            buffers, runs = [buffer for buffer, _ in alive], [run for _, run in alive]
            # What is not above the least of the last ones in memory is all there is up to there.
            least = min(buffer[-1] for buffer in buffers)
            ready: list[bytes] = []
            for number, buffer in enumerate(buffers):
                cut = bisect_right(buffer, least)
                ready += buffer[:cut]
                buffers[number] = buffer[cut:]
            ready.sort()
            yield from ready
