"""Which pictures have the same pixels, though their bytes differ."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tellapart.cache import Space, digest_of
from tellapart.data.facts import VERSION, PictureFacts, Refusal, read_file
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, map_ordered
from tellapart.images.guard import Guard, memory_for

__all__ = ["identities", "look_alikes"]

# Mean colours of a JPEG at 1/8 scale differ from those in full by rounding, and by the part of a block at the edge.
_TOLERANCE = 4


def identities(
    root: Path, paths: Sequence[str], facts: Sequence[PictureFacts], policy: DecodePolicy, cache: Path, threads: int
) -> Steps[list[str]]:
    """Return a name for each picture's content, equal for pictures whose pixels are equal.

    Large pictures that were decoded at a reduced scale are decoded in full only where another has the same size and
    nearly the same mean colours; what comes out is cached by content.
    """
    names = [fact.sha256 if fact.pixels is None else fact.pixels.hex() for fact in facts]
    positions = [position for position in look_alikes(facts) if facts[position].pixels is None]
    if not positions:
        return names
    key = digest_of({"version": VERSION, "pixels": dataclasses.asdict(policy)})
    with Space(cache, "facts", key) as space:
        known = {positions[index]: value for index, value in space.get([facts[p].sha256 for p in positions])}
        wanted = [position for position in positions if position not in known]

        def full(position: int) -> tuple[int, bytes | None]:
            content = read_file(str(root / paths[position]))
            if isinstance(content, Refusal):
                return position, None
            options = {"policy": dataclasses.asdict(policy)}
            (answer,) = guard.run("tellapart.images.examine:digested", [content], options, memory)
            return position, answer.value or None

        guard, memory = Guard(), memory_for(policy.max_pixels)
        fresh: list[tuple[str, bytes]] = []
        try:
            for done, (position, digest) in enumerate(map_ordered(full, wanted, threads), start=1):
                if digest is not None:
                    known[position] = digest
                    fresh.append((facts[position].sha256, digest))
                yield Progress("scan", done, len(wanted), "look-alikes")
        except BaseException:
            guard.stop()
            raise
        finally:
            space.put(fresh)
    for position, digest in known.items():
        names[position] = digest.hex()
    return names


def look_alikes(facts: Sequence[PictureFacts]) -> list[int]:
    """Return the positions of pictures that have a signature near that of another picture of the same size."""
    sizes: dict[tuple[int, int], dict[str, int]] = {}
    for position, fact in enumerate(facts):
        if fact.signature is not None:
            sizes.setdefault((fact.width, fact.height), {}).setdefault(fact.sha256, position)
    found: set[str] = set()
    for members in sizes.values():
        if len(members) > 1:
            shas = list(members)
            signatures = [facts[members[sha256]].signature or b"" for sha256 in shas]
            found.update(shas[index] for index in _near_another(signatures))
    return [position for position, fact in enumerate(facts) if fact.sha256 in found]


def _near_another(signatures: Sequence[bytes]) -> Iterator[int]:
    """Yield the positions whose signature, uint8 [192], is within the tolerance of another's in every value."""
    alike: dict[bytes, list[int]] = {}
    for position, signature in enumerate(signatures):
        alike.setdefault(signature, []).append(position)
    values = np.frombuffer(b"".join(alike), dtype=np.uint8).reshape(len(alike), -1).astype(np.int16)
    places = list(alike.values())
    near = np.array([len(same) > 1 for same in places])
    # Sorted by the value that tells most apart, only a narrow band has to be looked at for each.
    column = values[:, int(values.var(axis=0).argmax())]
    order = np.argsort(column, kind="stable")
    values, column = values[order], column[order]
    ends = np.searchsorted(column, column + _TOLERANCE, side="right")
    for first, end in enumerate(ends):
        band = values[first + 1 : end]
        close = np.flatnonzero((np.abs(band - values[first]) <= _TOLERANCE).all(axis=1))
        if len(close):
            near[order[first]] = True
            near[order[close + first + 1]] = True
    return itertools.chain.from_iterable(places[index] for index in np.flatnonzero(near))
