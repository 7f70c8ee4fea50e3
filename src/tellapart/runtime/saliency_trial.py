"""A picture's map put to the test: against heads that know nothing, and by hiding what it marks."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.runtime.saliency import Looked, Saliency

__all__ = ["SHARES", "Tried", "by_order", "cells_hidden", "tried"]

SHARES = (0.0, 1 / 3, 2 / 3, 1.0)  # of the cells that are hidden or brought back
_SHUFFLED_HEADS = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Tried:
    """What was measured on one picture: maps float32 [H, h, w] of shuffled heads, and what is left of its answer.

    That is the lead of the answer's logit over the mean of all; `lead` is that of the whole picture. A probability
    would not do: it stays near 1 until most is hidden, or to the end where the class is the usual one.
    `deletion` and `insertion` float64 [P] are with the first `SHARES` of the map's cells hidden, or these alone seen;
    `random_deletion` and `random_insertion` float64 [R, P] the same in the orders of the map moved, mirrored and turned
    at random. Single cells at random would be no match: scattered holes break up what a whole one leaves alone.
    """

    lead: float
    shuffled: NDArray[np.float32]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random_deletion: NDArray[np.float64]
    random_insertion: NDArray[np.float64]


def tried(
    saliency: Saliency, image: NDArray[np.uint8], looked: Looked, map_: NDArray[np.float32], orders: int, key: int
) -> Tried:
    """Try the map [h, w] of the likeliest class of a prepared picture [S, S, 3], in `orders` random orders besides.

    What is random is a function of `key`.
    """
    answer = int(looked.logits.argmax())
    random = np.random.default_rng(key)
    cells, inner = map_.size, SHARES[1:-1]
    own = by_order(map_, random)
    by_map = np.stack([own, own[::-1], *(by_order(_moved(map_, random), random) for _ in range(orders))])
    # Cells brought back first are those hidden last, so one set of pictures serves both curves.
    counts = [round(share * cells) for share in inner]
    masks = np.zeros((len(by_map), len(inner), cells), dtype=bool)
    for row, order in enumerate(by_map):
        for place, count in enumerate(counts):
            masks[row, place, order[:count]] = True
    everything = np.ones((1, cells), dtype=bool)
    pixels = cells_hidden(np.concatenate([masks.reshape(-1, cells), everything]).reshape(-1, *map_.shape), len(image))
    logits, _ = saliency.run(image, pixels)
    lead = (logits[:, answer] - logits.mean(axis=1)).astype(np.float64)
    whole, nothing = float(looked.logits[answer] - looked.logits.mean()), float(lead[-1])
    between = lead[:-1].reshape(len(by_map), len(inner))

    def curve(middle: NDArray[np.float64], first: float, last: float) -> NDArray[np.float64]:
        ends = [np.full((*middle.shape[:-1], 1), value) for value in (first, last)]
        return np.concatenate([ends[0], middle, ends[1]], axis=-1)

    return Tried(
        whole,
        np.stack([saliency.maps(looked, [answer], shuffled=seed)[0] for seed in range(_SHUFFLED_HEADS)]),
        curve(between[0], whole, nothing),
        curve(between[1][::-1], nothing, whole),
        curve(between[2:], whole, nothing),
        curve(between[2:, ::-1], nothing, whole),
    )


def by_order(map_: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.int64]:
    """Return the cells of a map [h, w], flat, the highest first, equal ones in random order."""
    return np.lexsort((random.random(map_.size), -map_.ravel()))


def _moved(map_: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Return a map [h, w] shifted around its edges, mirrored and (a square one) turned, each at random."""
    moved = np.roll(map_, (random.integers(map_.shape[0]), random.integers(map_.shape[1])), axis=(0, 1))
    moved = moved[:: 1 - 2 * int(random.integers(2)), :: 1 - 2 * int(random.integers(2))]
    return moved.T if map_.shape[0] == map_.shape[1] and random.integers(2) else moved


def cells_hidden(cells: NDArray[np.bool_], side_px: int) -> NDArray[np.bool_]:
    """Return masks bool [V, S, S] of pixels from masks [V, h, w] of cells."""
    rows, columns = (np.arange(side_px) * count // side_px for count in cells.shape[1:])
    return np.asarray(cells[:, rows[:, None], columns[None]])
