"""Which pictures are nearly the same: saved anew, rescaled, cropped a little, made brighter or darker.

A perceptual hash names candidates. A candidate is confirmed when what is left of one picture after the other is laid on
it (`alignment.differences`) is well under what strangers of the same set leave. So a set whose pictures all look alike,
digits or a texture, needs pairs that are that much closer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.cache import Space
from tellapart.data.alignment import FloatArray, descriptors, differences
from tellapart.data.candidates import candidates
from tellapart.data.facts import PictureFacts, space_key
from tellapart.data.thumbnails import measures, thumbnails
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, Pixels, map_ordered

__all__ = ["Near", "near_duplicates"]

_VERSION = 2  # part of the cache's key: raise it when other pairs would be found
# A pair is confirmed under a third of what the third nearest stranger leaves for the closest tenth of the pictures (the
# first two may be copies), and under `_MOST` in any set. In 3,781 photos of clothes, many of them shirts on one cloth,
# that is 0.119, and one pair of shirts leaves 0.115; in 5,000 of CIFAR-10 0.197, and what leaves less are copies; in
# 1,797 digits 0.064, and none leave less than 0.12. Planted copies leave 0.01 to 0.11 (nine of ten of each kind).
_SHARE = 1 / 3
_MOST = 0.2
_NEIGHBOUR = 3
_QUANTILE = 0.1
# What is left in the worst of 64 blocks may be this many times as much: a small thing that is there in one alone.
_WORST = 3.5
_SAMPLE = 300
_LEAST_CONTRAST = 4.0  # in levels: what is flat looks like all else that is flat
_AGAIN = 3.0
_CHUNK = 512
_BATCH = 32

_Laid = tuple[Pixels, Pixels, NDArray[np.intp]]


@dataclasses.dataclass(frozen=True, slots=True)
class Near:
    """`pairs` of positions, the smaller first, with what is left of one after the other (0 same, 1 unlike); sorted.

    `candidates`: how many pairs were compared. `threshold`: the difference under which a pair is confirmed; None where
    there was nothing to compare.
    """

    pairs: tuple[tuple[int, int, float], ...]
    candidates: int
    threshold: float | None


def near_duplicates(
    files: Sequence[Path],
    names: Sequence[str],
    facts: Sequence[PictureFacts],
    policy: DecodePolicy,
    cache: Path,
    threads: int,
) -> Steps[Near]:
    """Find the pairs. `names` are equal for pictures with the same pixels, of which one is compared for all.

    What comes out is a function of the pictures, whatever their order, and is cached by the set of them.
    Raises DataError (`changed_file`).
    """
    first: dict[str, int] = {}
    for position in sorted(range(len(names)), key=lambda position: (facts[position].sha256, position)):
        first.setdefault(names[position], position)
    seen = measures([facts[position] for position in first.values()])
    kept = seen["contrast"] >= _LEAST_CONTRAST
    order = [position for position, keep in zip(first.values(), kept, strict=True) if keep]
    digests = [facts[position].sha256 for position in order]
    found: _Found | None
    whole = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    with Space(cache, "near", f"{_VERSION}-{space_key(policy)}") as space:
        found = next((_Found(**json.loads(value)) for _, value in space.get([whole])), None)
        if found is None:
            pictures = _Pictures([files[position] for position in order], digests, policy, cache)
            found = yield from _found(pictures, seen["hashes"][kept], threads)
            space.put([(whole, json.dumps(dataclasses.asdict(found)).encode())])
    pairs = sorted(
        (min(order[one], order[other]), max(order[one], order[other]), left) for one, other, left in found.pairs
    )
    return Near(tuple(pairs), found.candidates, found.threshold)


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """As `Near`, with positions in the order of the digests; what the cache holds."""

    pairs: list[tuple[int, int, float]]
    candidates: int
    threshold: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Pictures:
    files: Sequence[Path]
    digests: Sequence[str]
    policy: DecodePolicy
    cache: Path

    def thumbnails(self, positions: Sequence[int]) -> Pixels:
        """Return uint8 [n, 32, 32, 3] of the pictures at some positions, some thousands at the most."""
        files = [self.files[position] for position in positions]
        return thumbnails(files, [self.digests[position] for position in positions], self.policy, self.cache)


def _found(pictures: _Pictures, hashes: NDArray[np.uint64], threads: int) -> Steps[_Found]:
    pairs = yield from candidates(hashes, threads)
    if not len(pairs):
        return _Found([], 0, None)
    threshold = min(_MOST, _SHARE * (yield from _spread(pictures, hashes, threads)))
    # A crop is a window on its picture, and not the other way: first from the side that the hashes tell. What was cut
    # off at white is like what was not, and not the other way: then from the other side.
    turn = _bits(hashes, pairs[:, ::-1]).min(axis=1) < _bits(hashes, pairs).min(axis=1)
    pairs[turn] = pairs[turn, ::-1]
    left, near = yield from _measured(pictures, hashes, pairs, threshold, threads)
    again = np.flatnonzero(~near & (left < _AGAIN * threshold))
    left[again], near[again] = yield from _measured(pictures, hashes, pairs[again, ::-1], threshold, threads)
    confirmed = np.flatnonzero(near)
    ends = [
        (min(one, other), max(one, other), round(difference, 4))
        for (one, other), difference in zip(pairs[confirmed].tolist(), left[confirmed].tolist(), strict=True)
    ]
    return _Found(ends, len(pairs), round(threshold, 4))


def _measured(
    pictures: _Pictures, hashes: NDArray[np.uint64], pairs: NDArray[np.intp], threshold: float, threads: int
) -> Steps[tuple[FloatArray, NDArray[np.bool_]]]:
    """Return what each first picture leaves of the second, float32 [m], and whether that confirms the pair."""
    left, near = np.zeros(len(pairs), dtype=np.float32), np.zeros(len(pairs), dtype=bool)
    at = 0
    for difference, worst in map_ordered(_compared, _laid(pictures, hashes, pairs), threads):
        part = slice(at, at + len(difference))
        left[part], near[part] = difference, (difference < threshold) & (worst < _WORST * threshold)
        at += len(difference)
        yield Progress("scan", at, len(pairs), "look-alikes")
    return left, near


def _spread(pictures: _Pictures, hashes: NDArray[np.uint64], threads: int) -> Steps[float]:
    """Return what the third nearest picture leaves, for the closest tenth of a sample; the nearest by a coarse look."""
    total = len(pictures.digests)
    sample = np.unique(np.linspace(0, total - 1, min(total, _SAMPLE)).astype(int))
    looks = descriptors(pictures.thumbnails(sample.tolist()))
    count = min(_NEIGHBOUR, total - 1)
    likeness = np.full((len(sample), count), -np.inf, dtype=np.float32)
    nearest = np.zeros((len(sample), count), dtype=np.intp)
    for start in range(0, total, _CHUNK):
        part = np.arange(start, min(start + _CHUNK, total))
        alike = looks @ descriptors(pictures.thumbnails(part.tolist())).T
        alike[sample[:, None] == part] = -np.inf
        rows = np.flatnonzero((alike > likeness[:, -1:]).any(axis=1))  # fewer and fewer
        likely = np.concatenate([likeness[rows], alike[rows]], axis=1)
        places = np.concatenate([nearest[rows], np.broadcast_to(part, (len(rows), len(part)))], axis=1)
        best = np.argsort(-likely, axis=1, kind="stable")[:, :count]
        likeness[rows] = np.take_along_axis(likely, best, axis=1)
        nearest[rows] = np.take_along_axis(places, best, axis=1)
        yield Progress("scan", int(part[-1]) + 1, total, "look-alikes")
    pairs = np.stack([np.repeat(sample, count), nearest.ravel()], axis=1)
    left, _ = yield from _measured(pictures, hashes, pairs, 0.0, threads)
    return float(np.quantile(left.reshape(-1, count).max(axis=1), _QUANTILE))


def _laid(pictures: _Pictures, hashes: NDArray[np.uint64], pairs: NDArray[np.intp]) -> Iterator[_Laid]:
    """Yield the thumbnails of pairs, a few at a time, and the window on the first that is most like the second."""
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        windows = _bits(hashes, part).argmin(axis=1)
        unique, places = np.unique(part, return_inverse=True)
        small = pictures.thumbnails(unique.tolist())
        places = places.reshape(-1, 2)
        for at in range(0, len(part), _BATCH):
            ones, others = small[places[at : at + _BATCH, 0]], small[places[at : at + _BATCH, 1]]
            yield ones, others, windows[at : at + _BATCH]


def _bits(hashes: NDArray[np.uint64], pairs: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Return uint8 [m, 7]: in how many bits each window on the first differs from all of the second."""
    bits: NDArray[np.uint8] = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1], :1])
    return bits


def _compared(laid: _Laid) -> tuple[FloatArray, FloatArray]:
    return differences(*laid)
