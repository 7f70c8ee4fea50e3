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
    """Return int [m, 3], pairs in order: a picture, one like a window on it, and which of `phash.WINDOWS` that is.

    `hashes` is uint64 [n, 7]. Two pictures are a pair where the first hash of one is within 8 bits of any of the
    other's; each pair is given once, with the window that is nearest. Time grows with the square of n: some 7 seconds
    of two cores at 50,000. Memory does not.
    """
    total = len(hashes)
    found = [np.zeros((0, 4), dtype=np.int32)]
    blocks = range(0, total, _ROWS)
    for start, part in zip(blocks, map_ordered(_Block(hashes), blocks, threads), strict=True):
        found.append(part)
        yield Progress("scan", min(start + _ROWS, total), total, "look-alikes")
    pairs = np.concatenate(found)
    low, high = pairs[:, :2].min(axis=1), pairs[:, :2].max(axis=1)
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 2], pairs[:, 3], high, low))]
    once = np.ones(len(pairs), dtype=bool)
    ordered = np.sort(pairs[:, :2], axis=1)
    once[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    pairs = pairs[once]
    if len(pairs) > _MOST_PAIRS:
        pairs = pairs[np.sort(np.argsort(pairs[:, 3], kind="stable")[:_MOST_PAIRS])]
    return pairs[:, :3].astype(np.intp)


class _Block:
    """Looks for what is like any window on some pictures in a row."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        self._hashes = hashes
        self._firsts = np.ascontiguousarray(hashes[:, 0])

    def __call__(self, start: int) -> NDArray[np.int32]:
        """Return int32 [m, 4]: picture, other, window, bits; for each picture its nearest at the most."""
        rows = self._hashes[start : start + _ROWS]
        nearest: dict[tuple[int, int], tuple[int, int]] = {}
        for window in range(rows.shape[1]):
            for row, other, bits in self._near(start, np.ascontiguousarray(rows[:, window])):
                if bits < nearest.get((row, other), (0, 65))[1]:
                    nearest[row, other] = (window, bits)
        if not nearest:
            return np.zeros((0, 4), dtype=np.int32)
        pairs = np.array([(*pair, *seen) for pair, seen in nearest.items()], dtype=np.int32)
        pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 3], pairs[:, 0]))]
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
