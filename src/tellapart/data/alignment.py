"""How far two pictures differ once one is laid on the other: moved, stretched, and brought to the same light."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.images.phash import SIDE_PX, WINDOWS

__all__ = ["FloatArray", "descriptors", "differences"]

FloatArray = NDArray[np.floating[Any]]  # float32, all of them

_STEPS = 3
_FURTHEST = 0.08  # how far an edge may move beyond the picture's own, as a share of the side
_LONGEST_STEP = 0.04
_BLOCK_PX = 4
_BLACK, _WHITE = 5, 250
_LEAST_OPEN = 0.2
# Binomial smoothing, so that what a resize or a codec does to single pixels counts for little.
_PLACES = np.arange(SIDE_PX)
_OFF = np.abs(_PLACES[:, None] - _PLACES[None]).clip(0, 2)
_SMOOTH = np.array([0.5, 0.25, 0.0])[_OFF]
_SMOOTH = (_SMOOTH / _SMOOTH.sum(axis=1, keepdims=True)).astype(np.float32)
_COARSE = _SMOOTH.reshape(SIDE_PX // 2, 2, SIDE_PX).mean(axis=1)  # smoothed, then at half the size
_COARSE_ROW = np.kron(_COARSE, np.eye(3, dtype=np.float32)).T.copy()  # of a row whose channels lie side by side
_MEAN = np.full((1, len(_COARSE) ** 2), 1 / len(_COARSE) ** 2, dtype=np.float32)
_ALONG = ((_PLACES + 0.5) / SIDE_PX).astype(np.float32)


def differences(
    ones: NDArray[np.uint8], others: NDArray[np.uint8], windows: NDArray[np.intp]
) -> tuple[FloatArray, FloatArray]:
    """Return how far each of `others` differs from its one, float32 [n], and how far it does in the worst place.

    Thumbnails are uint8 [n, 32, 32, 3]; the search begins at `WINDOWS[windows]`. A window on the one is moved and
    stretched, and its levels follow a parabola (one for all channels, an offset for each) up to black and white, until
    it fits the other. What is left is given as a share of the other's own contrast: 0 is the same, 1 nothing in common;
    over all, and for the worst of 64 blocks.
    Source: S. Baker, I. Matthews, "Lucas-Kanade 20 Years On", IJCV 56 (2004), additive.
    """
    plain, target = _smoothed(ones), _smoothed(others)
    own = _centred(target)
    energy = np.maximum(_dot(own, own), 1e-3)
    edges = np.array(WINDOWS, dtype=np.float32)[windows]
    best = np.full(len(plain), np.inf, dtype=np.float32)
    worst = best.copy()
    for step in range(_STEPS + 1):
        seen = _resampled(plain, edges)
        gain, rest = _relit(seen, target)
        share = np.sqrt(_dot(rest, rest) / energy)
        share[gain <= 0] = 1.0
        better = share < best
        best[better] = share[better]
        worst[better] = _worst_block(rest, energy)[better]
        if step < _STEPS:
            edges = _moved(edges, seen, rest, gain)
    return best, worst


def descriptors(thumbnails: NDArray[np.uint8]) -> FloatArray:
    """Return float32 [n, 768]: a coarse picture without its mean colour and contrast, of length 1 (or 0 where flat).

    The scalar product of two is how alike they are, 1 at the most.
    """
    flat = thumbnails.reshape(-1, 3 * SIDE_PX).astype(np.float32) @ _COARSE_ROW
    half = (_COARSE @ flat.reshape(len(thumbnails), SIDE_PX, -1)).reshape(len(thumbnails), -1, 3)
    coarse: FloatArray = (half - _MEAN @ half).reshape(len(thumbnails), -1)  # numpy's own mean takes ten times as long
    length: FloatArray = np.linalg.norm(coarse, axis=1, keepdims=True)
    return coarse * (length > 1e-3) / np.maximum(length, 1e-3)


def _smoothed(thumbnails: NDArray[np.uint8]) -> FloatArray:
    """Return float32 [n, 3, 32, 32]."""
    planes = thumbnails.transpose(0, 3, 1, 2).astype(np.float32)
    smoothed: FloatArray = _SMOOTH @ planes @ _SMOOTH.T
    return smoothed


def _resampled(planes: FloatArray, edges: FloatArray) -> FloatArray:
    """Return what each window (left, top, right, bottom) shows, stretched to 32 x 32; beyond an edge, the edge.

    Cubic, because straight lines between pixels blur, and a crop would differ by that. Source: R. Keys, IEEE TASSP 29
    (1981) 1153-1160, with a = -1/2.
    """

    def rows(low: FloatArray, high: FloatArray) -> FloatArray:
        places = SIDE_PX * (low[:, None] + _ALONG * (high - low)[:, None]) - 0.5
        off = np.abs(places.clip(0, SIDE_PX - 1)[:, :, None] - _PLACES.astype(np.float32))
        near, far = (1.5 * off - 2.5) * off**2 + 1, ((2.5 - 0.5 * off) * off - 4) * off + 2
        weights = np.where(off < 1, near, np.where(off < 2, far, 0))
        whole: FloatArray = weights / weights.sum(axis=2, keepdims=True)
        return whole

    left, top, right, bottom = edges.T
    resampled: FloatArray = rows(top, bottom)[:, None] @ planes @ rows(left, right).transpose(0, 2, 1)[:, None]
    return resampled


def _relit(seen: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the gain, [n], and what is left of the target after the best parabola of what is seen, [n, 3, 32, 32].

    Where the target is black or white its light was cut off: the parabola is fitted without, and cut off there too.
    """
    weights = ((target > _BLACK) & (target < _WHITE)).astype(np.float32)
    weights[weights.mean(axis=(1, 2, 3)) < _LEAST_OPEN] = 1.0
    counts = np.maximum(weights.sum(axis=(2, 3), keepdims=True), 1.0)

    def centre(planes: FloatArray) -> FloatArray:
        mean: FloatArray = (planes * weights).sum(axis=(2, 3), keepdims=True) / counts
        return mean

    aim = centre(target)
    flat = seen - centre(seen)
    bent = ((seen - seen.mean(axis=(1, 2, 3), keepdims=True)) / 128) ** 2
    bent -= centre(bent)
    held = weights * flat
    energy = np.maximum(_dot(held, flat), 1e-3)
    gain = _dot(held, target - aim) / energy
    bent -= _by(_dot(held, bent) / energy, flat)
    held = weights * bent
    bend = _dot(held, target - aim) / np.maximum(_dot(held, bent), 1e-3)
    told = aim + _by(gain, flat) + _by(bend, bent)
    return gain, target - told.clip(0, 255)


def _moved(edges: FloatArray, seen: FloatArray, rest: FloatArray, gain: FloatArray) -> FloatArray:
    """Return the edges after one Gauss-Newton step."""
    down, right = (slope * SIDE_PX for slope in np.gradient(seen, axis=(2, 3)))
    by_column, by_row = _ALONG, _ALONG[:, None]
    moves = [right * (1 - by_column), down * (1 - by_row), right * by_column, down * by_row]
    slopes = np.stack([_centred(move).reshape(len(seen), -1) for move in moves], axis=1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    normal += np.eye(4, dtype=np.float32) * (1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-3)
    wanted = slopes @ rest.reshape(len(seen), -1, 1)
    step = np.linalg.solve(normal, wanted)[:, :, 0] / np.maximum(gain, 0.1)[:, None]
    ends = np.array([0, 0, 1, 1], dtype=np.float32)
    moved: FloatArray = edges + step.clip(-_LONGEST_STEP, _LONGEST_STEP)
    return moved.clip(ends - _FURTHEST, ends + _FURTHEST)


def _worst_block(rest: FloatArray, energy: FloatArray) -> FloatArray:
    side = SIDE_PX // _BLOCK_PX
    blocks = (rest**2).reshape(len(rest), 3, side, _BLOCK_PX, side, _BLOCK_PX).mean(axis=(1, 3, 5))
    worst: FloatArray = np.sqrt(blocks.reshape(len(rest), -1).max(axis=1) / (energy / (3 * SIDE_PX**2)))
    return worst


def _centred(planes: FloatArray) -> FloatArray:
    centred: FloatArray = planes - planes.mean(axis=(2, 3), keepdims=True)
    return centred


def _dot(ones: FloatArray, others: FloatArray) -> FloatArray:
    products: FloatArray = np.einsum("ncyx,ncyx->n", ones, others)
    return products


def _by(factors: FloatArray, planes: FloatArray) -> FloatArray:
    scaled: FloatArray = factors[:, None, None, None] * planes
    return scaled
