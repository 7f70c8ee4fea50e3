"""Series: bursts, films and numbered walks around one thing, which a random split would tear apart.

Names and times only propose that two pictures follow each other; what they show decides. Neighbours by name (the same
folder, the same name but for its last number) or by time (the same camera, seconds apart) are linked where they differ
less than pairs drawn at random from the same folder do, and only where far more neighbours do so than chance gives.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.data.groups import components

__all__ = ["Neighbours", "Series", "find_series", "neighbours"]

Ints = NDArray[np.int64]

_NUMBER = re.compile(r"(\d+)(?=\D*$)")
_BURST_SECONDS = 10
_AT_RANDOM, _AT_RANDOM_OF_FILMS = 0.1, 0.25  # the share of random pairs that are as near, as a share of neighbours'
_MOST_NEAR = 0.5
_MOST_PAIRS = 20_000
_FEWEST_LINKS = 5
_SHARE_LINKED = 0.15
_FEWEST = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """A number for each picture, int64 [n], equal within a series; `evidence` in plain words; whether it is strong."""

    numbers: Ints
    strong: bool
    evidence: str


@dataclasses.dataclass(frozen=True, eq=False)
class Neighbours:
    """`pairs` int64 [m, 2] of pictures that follow each other by name or time, and the folder of each picture."""

    pairs: Ints
    folders: Sequence[str]


def neighbours(paths: Sequence[str], measures: NDArray[np.void]) -> Neighbours:
    """Return which of n pictures follow each other; `measures` are records of `images.measure.MEASURES`, [n]."""
    taken, camera = (measures[name].astype(np.int64) for name in ("taken", "camera"))
    pairs = np.array(sorted({*_by_name(paths), *_by_time(taken, camera)}), dtype=np.int64).reshape(-1, 2)
    return Neighbours(pairs, [path.rpartition("/")[0] for path in paths])


def find_series(follow: Neighbours, thumbnails: NDArray[np.uint8]) -> Series:
    """Link neighbours that look alike. `thumbnails` uint8 [n, 8, 8, 3]; without neighbours they are not looked at."""
    n = len(follow.folders)
    if n < _FEWEST or len(follow.pairs) < _FEWEST_LINKS:
        return Series(np.arange(n, dtype=np.int64), False, "no names or times follow each other")
    looks = _looks(thumbnails)
    apart = _apart(looks, follow.pairs)
    limit, share, by_chance = _limit(apart, _apart(looks, _at_random(follow)))
    links = follow.pairs[apart < limit]
    told = (
        f"{share:.0%} of {len(apart):,} neighbours by name or time look alike, and {by_chance:.0%} of the pairs drawn "
        "at random from their folders"
    )
    keys: list[list[tuple[str, int]]] = [[] for _ in range(n)]
    for number, (one, other) in enumerate(links.tolist()):
        keys[one].append(("link", number))
        keys[other].append(("link", number))
    strong = len(links) >= _FEWEST_LINKS and share >= _SHARE_LINKED
    return Series(np.array(components(keys), dtype=np.int64), strong, told)


def _limit(apart: NDArray[np.float64], chance: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the distance under which neighbours are linked, and the shares of neighbours and of random pairs below it.

    It is where the two shares differ most, as long as random pairs have a tenth of the share of neighbours at the most;
    a quarter, where most neighbours are near: where films are few and long, random pairs are often of one film, too.
    """
    if not len(chance):
        return 0.0, 0.0, 0.0
    limits = np.unique(np.quantile(apart, np.linspace(0.02, 1.0, 99))) * (1 + 1e-9)
    near = np.searchsorted(np.sort(apart), limits) / len(apart)
    random = np.searchsorted(np.sort(chance), limits) / len(chance)
    allowed = np.where(near >= _MOST_NEAR, _AT_RANDOM_OF_FILMS, _AT_RANDOM)
    fit = np.where(random <= allowed * near, near - random, 0.0)
    best = int(fit.argmax())
    return (float(limits[best]), float(near[best]), float(random[best])) if fit[best] > 0 else (0.0, 0.0, 0.0)


def _at_random(follow: Neighbours) -> Ints:
    """Return pairs, int64 [m, 2], of a picture that has a neighbour and another such of its folder, always the same.

    Of the same folder, because the pictures of a class are more alike than others.
    """
    members: dict[str, list[int]] = {}
    for row in np.unique(follow.pairs).tolist():
        members.setdefault(follow.folders[row], []).append(row)
    random = np.random.Generator(np.random.Philox(key=len(follow.folders)))
    one = follow.pairs[random.integers(0, len(follow.pairs), _MOST_PAIRS), 0]
    places = random.random(_MOST_PAIRS)
    inside = [members[follow.folders[row]] for row in one.tolist()]
    other = np.array([rows[int(place * len(rows))] for rows, place in zip(inside, places.tolist(), strict=True)])
    return np.asarray(np.stack([one, other], axis=1)[one != other])


def _by_name(paths: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs whose numbers follow each other at the usual step of their kind of name."""
    kinds: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row, path in enumerate(paths):
        folder, _, name = path.rpartition("/")
        stem = name.rpartition(".")[0] or name
        found = _NUMBER.search(stem)
        if found is not None and len(found[1]) <= 18:
            kind = (folder, f"{stem[: found.start()]}#{stem[found.end() :]}")
            kinds.setdefault(kind, []).append((int(found[1]), row))
    for members in kinds.values():
        if len(members) < 3:
            continue
        members.sort()
        steps = [after[0] - before[0] for before, after in itertools.pairwise(members)]
        usual = max(1, Counter(steps).most_common(1)[0][0])
        for (_, one), (_, other), step in zip(members, members[1:], steps, strict=False):
            if step <= 2 * usual:
                yield min(one, other), max(one, other)


def _by_time(taken: NDArray[np.int64], camera: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    rows = np.flatnonzero(taken > 0)
    order = rows[np.lexsort((taken[rows], camera[rows]))]
    for one, other in zip(order[:-1].tolist(), order[1:].tolist(), strict=True):
        if camera[one] == camera[other] and taken[other] - taken[one] <= _BURST_SECONDS:
            yield min(one, other), max(one, other)


def _looks(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return float32 [n, 192]: levels without their mean, of length 1, so that light and contrast do not count."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))


def _apart(looks: NDArray[np.float32], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    same = np.einsum("ij,ij->i", looks[pairs[:, 0]], looks[pairs[:, 1]]).astype(np.float64)
    return np.asarray(np.sqrt(np.maximum(2.0 - 2.0 * same, 0.0)))
