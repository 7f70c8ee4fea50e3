"""Which pictures might be nearly the same, by their perceptual hashes: every pair is looked at, some bits of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Progress, Steps
from tellapart.images import map_ordered

__all__ = ["candidates"]

# See `images.phash` for how many bits copies and strangers differ in.
_MOST_BITS = 8
_ROWS = 16
# Where thousands of pictures look alike, each is compared with its nearest alone, and all with these many in all.
_MOST_EACH = 16
_MOST_PAIRS = 200_000


def candidates(hashes: NDArray[np.uint64], threads: int) -> Steps[NDArray[np.intp]]:
    """Return int [m, 2], the smaller position first, in order: pictures of which one is like a window on the other.

    `hashes` is uint64 [n, 7]. Two pictures are a pair where the first hash of one is within 8 bits of any of the
    other's. Time grows with the square of n: some 5 seconds of two cores at 50,000. Memory does not.
    """
    total = len(hashes)
    found = [np.zeros((0, 3), dtype=np.int32)]
    blocks = range(0, total, _ROWS)
    for start, part in zip(blocks, map_ordered(_Block(hashes), blocks, threads), strict=True):
        found.append(part)
        yield Progress("scan", min(start + _ROWS, total), total, "look-alikes")
    pairs = np.concatenate(found)
    pairs[:, :2].sort(axis=1)
    pairs = _once(pairs)
    if len(pairs) > _MOST_PAIRS:
        pairs = pairs[np.sort(np.argsort(pairs[:, 2], kind="stable")[:_MOST_PAIRS])]
    return pairs[:, :2].astype(np.intp)


class _Block:
    """Looks for what is like any window on some pictures in a row."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = hashes
        self._firsts = np.ascontiguousarray(hashes[:, 0])

    def __call__(self, start: int) -> NDArray[np.int32]:
        """Return int32 [m, 3]: picture, other, bits; for each picture its nearest at the most."""
        rows = self._hashes[start : start + _ROWS]
        windows = range(rows.shape[1])
        near = [each for window in windows for each in self._near(start, np.ascontiguousarray(rows[:, window]))]
        if not near:
            return np.zeros((0, 3), dtype=np.int32)
        pairs = _once(np.array(near, dtype=np.int32))
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 2], pairs[:, 0]))]
        rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
        return pairs[rank < _MOST_EACH]

    def _near(self, start: int, rows: NDArray[np.uint64]) -> Iterator[tuple[int, int, int]]:
        bits = np.bitwise_count(rows[:, None] ^ self._firsts)
        own = np.arange(len(rows))
        bits[own, own + start] = 64
        near = bits <= _MOST_BITS
        for row in np.flatnonzero(near.any(axis=1)).tolist():
            others = np.flatnonzero(near[row])
            if len(others) > _MOST_EACH:
                others = others[np.argsort(bits[row, others], kind="stable")[:_MOST_EACH]]
            for other in others.tolist():
                yield row + start, other, int(bits[row, other])


def _once(pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return (one, other, bits) in order, each pair once, with its fewest bits."""
    pairs = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    first = np.ones(len(pairs), dtype=bool)
    first[1:] = (pairs[1:, :2] != pairs[:-1, :2]).any(axis=1)
    return pairs[first]
