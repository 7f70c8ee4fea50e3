"""Randomness without a generator: every draw is a function of (seed, epoch, picture), so nothing has to be saved.

The bits come from the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), applied once for each part of the counter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Bits", "bits", "picture_keys", "uniform"]

Bits = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def picture_keys(digests: Sequence[str]) -> Bits:
    """Return uint64 [N]: the first 64 bits of each sha256 (hex digits), by which a picture's draws are found."""
    return np.array([int(digest[:16], 16) for digest in digests], dtype=np.uint64)


def bits(seed: int, epoch: int, keys: Bits, purpose: int) -> Bits:
    """Return uint64 [N], one draw for each of `keys`; draws for another `purpose`, epoch or seed are independent."""
    counter = np.zeros(1, dtype=np.uint64)
    for part in (seed, purpose, epoch):
        counter = _mixed(counter + _GOLDEN + np.uint64(part))
    return _mixed(_mixed(keys + _GOLDEN) ^ counter)


def uniform(seed: int, epoch: int, keys: Bits, purpose: int) -> NDArray[np.float64]:
    """Return float64 [N] in [0, 1), with the 53 upper bits of `bits`."""
    values: NDArray[np.float64] = (bits(seed, epoch, keys, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return values


def _mixed(value: Bits) -> Bits:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
