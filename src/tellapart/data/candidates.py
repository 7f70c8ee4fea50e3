"""Which pictures might be nearly the same, by their perceptual hashes: what agrees in a few bits is compared in all."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Progress, Steps
from tellapart.images import map_ordered

__all__ = ["candidates"]

# See `images.phash` for how many bits copies and strangers differ in.
_MOST_BITS = 8
# What differs in no more bits is equal in one of so many bands. Source: M. Norouzi, A. Punjani, D. Fleet, "Fast search
# in Hamming space with multi-index hashing" (2012).
_BANDS = _MOST_BITS + 1
_AT_ONCE = 1 << 17  # comparisons, so that what they need stays in a processor's cache
_ROWS = 64
_HELD = 1 << 20  # pairs, before all but the nearest are dropped
# Where thousands of pictures look alike, each is compared with its nearest alone, and all with these many in all.
_MOST_EACH = 16
_MOST_PAIRS = 200_000

_Pairs = NDArray[np.int32]


def candidates(hashes: NDArray[np.uint64], threads: int) -> Steps[NDArray[np.intp]]:
    """Return int [m, 2], the smaller position first, in order: pictures of which one is like a window on the other.

    `hashes` is uint64 [n, 7]. Two pictures are a pair where the first hash of one is within 8 bits of any of the
    other's. Time grows with the square of n: some 5 seconds of a core at 60,000. Memory does not.
    """
    total, held, size, most = len(hashes), list[_Pairs](), 0, _HELD
    firsts, windows = np.ascontiguousarray(hashes[:, 0]), hashes.ravel()
    banded = _banded(firsts, windows)
    tasks = _by_band(firsts, windows) if banded is not None else _all(firsts, windows)
    compared, of_all = 0, sum(few * many for few, many in banded) if banded is not None else total * len(windows)
    for done, part in map_ordered(_near, tasks, threads):
        held.append(part)
        size += len(part)
        if size > most:
            held = [_nearest(np.concatenate(held))]
            size = len(held[0])
            most = max(_HELD, 2 * size)  # where thousands look alike, many stay
        compared += done
        yield Progress("scan", total * compared // of_all, total, "look-alikes")
    pairs = _nearest(np.concatenate([np.zeros((0, 3), dtype=np.int32), *held]))
    pairs[:, :2].sort(axis=1)
    pairs = _once(pairs)
    if len(pairs) > _MOST_PAIRS:
        pairs = pairs[np.sort(np.argsort(pairs[:, 2], kind="stable")[:_MOST_PAIRS])]
    return pairs[:, :2].astype(np.intp)


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """First hashes, and windows to be compared with them: uint64, each with the picture that it is of."""

    firsts: NDArray[np.uint64]
    first_of: NDArray[np.int32]
    windows: NDArray[np.uint64]
    window_of: NDArray[np.int32]


def _bits_of(hashes: NDArray[np.uint64], band: int) -> NDArray[np.uint8]:
    """Return every ninth bit, as one number."""
    bits = np.zeros(len(hashes), dtype=np.uint8)
    for place, bit in enumerate(range(band, 64, _BANDS)):
        bits |= ((hashes >> np.uint64(bit)) & np.uint64(1)).astype(np.uint8) << np.uint8(place)
    return bits


def _banded(firsts: NDArray[np.uint64], windows: NDArray[np.uint64]) -> list[tuple[int, int]] | None:
    """Return how many first hashes and windows each task of `_by_band` has; None where to compare all is less."""
    counts = [
        tuple(np.bincount(_bits_of(each, band), minlength=256).tolist() for each in (firsts, windows))
        for band in range(_BANDS)
    ]
    found = [(few, many) for pair in counts for few, many in zip(*pair, strict=True) if few and many]
    return found if sum(few * many for few, many in found) < len(firsts) * len(windows) else None


def _by_band(firsts: NDArray[np.uint64], windows: NDArray[np.uint64]) -> Iterator[_Task]:
    """Yield what agrees in a band, band after band."""
    each_has = len(windows) // len(firsts)
    for band in range(_BANDS):
        orders, ends = [], []
        for each in (firsts, windows):
            bits = _bits_of(each, band)
            orders.append(np.argsort(bits, kind="stable").astype(np.int32))
            ends.append(np.concatenate([[0], np.cumsum(np.bincount(bits, minlength=256))]))
        for value in range(256):
            own, others = (order[end[value] : end[value + 1]] for order, end in zip(orders, ends, strict=True))
            if len(own) and len(others):
                yield _Task(firsts[own], own, windows[others], others // each_has)


def _all(firsts: NDArray[np.uint64], windows: NDArray[np.uint64]) -> Iterator[_Task]:
    """Yield all with all, some windows at a time."""
    each_has = len(windows) // max(1, len(firsts))
    numbers = np.arange(len(firsts), dtype=np.int32)
    for start in range(0, len(firsts), _ROWS):
        part = windows[start * each_has : (start + _ROWS) * each_has]
        yield _Task(firsts, numbers, part, np.repeat(numbers[start : start + _ROWS], each_has))


def _near(task: _Task) -> tuple[int, _Pairs]:
    """Return how many were compared, and int32 [m, 3]: picture, other, bits; of each picture its nearest."""
    found: list[_Pairs] = []
    step, width = max(1, _AT_ONCE // len(task.firsts)), len(task.firsts)
    for start in range(0, len(task.windows), step):
        bits = np.bitwise_count(task.windows[start : start + step, None] ^ task.firsts)
        near = np.flatnonzero(bits.ravel() <= _MOST_BITS)  # far faster than to look for them in two dimensions
        if not len(near):
            continue
        if len(near) > 2 * _MOST_EACH * len(bits):
            near = _fewest(bits)
        rows, columns = np.divmod(near, width)
        pairs = np.stack([task.window_of[start + rows], task.first_of[columns], bits[rows, columns]], axis=1)
        found.append(_nearest(pairs[pairs[:, 0] != pairs[:, 1]].astype(np.int32)))
    pairs = np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int32)
    return len(task.windows) * width, _nearest(pairs)


def _fewest(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return where the fewest bits of each row are, and one more, for a picture is like itself; flat, int64."""
    width = bits.shape[1]
    keys = bits.astype(np.int64) * width + np.arange(width)
    few = np.partition(keys, min(_MOST_EACH, width - 1), axis=1)[:, : _MOST_EACH + 1]
    flat = (few % width + np.arange(len(bits))[:, None] * width)[few // width <= _MOST_BITS]
    return np.asarray(flat, dtype=np.int64)


def _nearest(pairs: _Pairs) -> _Pairs:
    """Return for each picture its nearest at the most, each pair (picture, other, bits) once."""
    pairs = _once(pairs)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 2], pairs[:, 0]))]
    rank = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[rank < _MOST_EACH]


def _once(pairs: _Pairs) -> _Pairs:
    """Return (one, other, bits) in order, each pair once, with its fewest bits."""
    pairs = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    first = np.ones(len(pairs), dtype=bool)
    first[1:] = (pairs[1:, :2] != pairs[:-1, :2]).any(axis=1)
    return pairs[first]
