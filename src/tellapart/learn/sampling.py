"""The order of the pictures in an epoch: every one once, or classes alike. numpy alone."""

from __future__ import annotations

import numpy as np

from tellapart.learn.draws import Bits, bits
from tellapart.learn.rungs import IntArray

__all__ = ["evenly_drawn", "shuffled"]

_ORDER, _ROUND = 0, 7  # what a draw is for
_GOLDEN = 0x9E3779B97F4A7C15


def shuffled(keys: Bits, seed: int, epoch: int) -> IntArray:
    """Return int64 [n], every place once, in an order drawn anew for each epoch; `keys` uint64 [n] name the pictures.

    The order hangs on the pictures, not on their places.
    """
    return np.argsort(bits(seed, epoch, keys, _ORDER), kind="stable").astype(np.int64)


def evenly_drawn(keys: Bits, targets: IntArray, seed: int, epoch: int) -> tuple[IntArray, Bits]:
    """Return places int64 [m] of an epoch in which every class present comes equally often, and the key of each draw.

    `targets` int64 [n] are the classes. A class goes through its pictures in rounds, each in an order of its own, that
    run on from epoch to epoch: so many draws a class as make n in all, rounded up. A picture that is drawn again within
    an epoch has another key, uint64, so that it is varied in another way.
    """
    labels = np.unique(targets)
    each = -(-len(targets) // len(labels))
    places, drawn = [], []
    for label in labels:
        own = np.flatnonzero(targets == label)
        rounds, place = np.divmod(np.arange(epoch * each, (epoch + 1) * each), len(own))
        for number in np.unique(rounds).tolist():
            order = own[np.argsort(bits(seed, number, keys[own], _ROUND), kind="stable")]
            taken = order[place[rounds == number]]
            places.append(taken)
            drawn.append(keys[taken] + np.uint64(_GOLDEN * (number - int(rounds[0])) % 2**64))
    chosen, names = np.concatenate(places), np.concatenate(drawn)
    order = shuffled(names, seed, epoch)
    return chosen[order].astype(np.int64), names[order]
