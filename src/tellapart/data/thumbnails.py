"""The small picture that is kept of each picture, for comparing pictures and looking at many of them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.cache import Space
from tellapart.data.facts import PictureFacts, Refusal, read_file, space_key
from tellapart.errors import DataError
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, Pixels
from tellapart.images.examine import examine
from tellapart.images.measure import MEASURES, as_thumbnail
from tellapart.images.phash import SIDE_PX

__all__ = ["SMALL_PX", "measures", "small_thumbnails", "thumbnails"]

SMALL_PX = 8
_AT_ONCE = 2_000


def thumbnails(files: Sequence[Path], digests: Sequence[str], policy: DecodePolicy, cache: Path) -> Pixels:
    """Return uint8 RGB [n, 32, 32, 3]: each picture squashed to a square, in the order given.

    `digests` are the sha256 of the files' bytes. What is cached is not opened; the rest is decoded and cached. Ask for
    some thousands at a time: each takes 3 kB. Raises DataError (`changed_file`) for a file that is not what its digest
    says.
    """
    found = np.zeros((len(digests), SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    missing = np.ones(len(digests), dtype=bool)
    with Space(cache, "thumbnails", space_key(policy)) as space:
        for index, stored in space.get(digests):
            with contextlib.suppress(ValueError):
                found[index] = as_thumbnail(stored)
                missing[index] = False
        fresh: dict[str, bytes] = {}
        for index in np.flatnonzero(missing).tolist():
            digest = digests[index]
            if digest not in fresh:
                fresh[digest] = _made(files[index], digest, policy)
            found[index] = as_thumbnail(fresh[digest])
        space.put(fresh.items())
    return found


def small_thumbnails(files: Sequence[Path], digests: Sequence[str], policy: DecodePolicy, cache: Path) -> Steps[Pixels]:
    """Return uint8 RGB [n, 8, 8, 3], for looking at all pictures of a set at once: 192 bytes each."""
    found = np.zeros((len(files), SMALL_PX, SMALL_PX, 3), dtype=np.uint8)
    side = SIDE_PX // SMALL_PX
    shares = range(side)
    for start in range(0, len(files), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        levels = thumbnails(files[part], digests[part], policy, cache).astype(np.uint16)
        rows = levels.reshape(-1, SMALL_PX, side, SIDE_PX, 3)
        rows = np.add.reduce([rows[:, :, share] for share in shares]).reshape(-1, SMALL_PX, SMALL_PX, side, 3)
        found[part] = np.rint(np.add.reduce([rows[:, :, :, share] for share in shares]) / side**2)
        yield Progress("scan", min(start + _AT_ONCE, len(files)), len(files), "look-alikes")
    return found


def measures(facts: Sequence[PictureFacts]) -> NDArray[np.void]:
    """Return what was measured of each picture, one `MEASURES` record each, [n]; a copy."""
    return np.frombuffer(b"".join(fact.measures for fact in facts), dtype=MEASURES)


def _made(file: Path, digest: str, policy: DecodePolicy) -> bytes:
    content = read_file(str(file))
    if not isinstance(content, Refusal) and hashlib.sha256(content).hexdigest() == digest:
        thumbnail = examine(content, digest, policy)[1]
        if thumbnail:
            return thumbnail
    raise DataError(
        "changed_file",
        f"{file} changed or went after the scan.",
        "Wait until whatever writes it is done, and run again.",
    )
