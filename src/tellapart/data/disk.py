"""Disks that are far away, and files that change while they are read."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from tellapart.data.listing import shown, some
from tellapart.data.manifest import Excluded, Manifest, Row
from tellapart.errors import DataError
from tellapart.events import Progress, Steps

__all__ = ["PASSING", "Stamp", "check_unchanged", "is_same", "patiently", "stamp_of"]

P = ParamSpec("P")
T = TypeVar("T")

# What a disk or a network says that may be otherwise in a moment.
PASSING = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR})
_PAUSES_SECONDS = (0.02, 0.1, 0.5)

Stamp = tuple[int, int]


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `call(...)`, asked again up to three times where the disk or the network has failed for the moment."""
    for pause in _PAUSES_SECONDS:
        try:
            return call(*args, **kwargs)
        except OSError as error:
            if error.errno not in PASSING:
                raise
        time.sleep(pause)
    return call(*args, **kwargs)


def stamp_of(path: str) -> Stamp:
    """Return (size in bytes, time of the last change in ns) of a file, (-1, 0) where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return -1, 0
    return found.st_size, found.st_mtime_ns


def is_same(file: Path, stamp: Stamp, before: Row | Excluded) -> bool:
    """Say whether a file that has this stamp now is the one it was before, in its bytes.

    It is read again only where its time alone differs: another size is another file, and a file that was touched may
    have its bytes still. Of what was left out with no content known, the size alone tells.
    """
    if before.size >= 0 and stamp == (before.size, before.mtime_ns):
        return True
    if before.size >= 0 and stamp[0] != before.size:
        return False
    return not before.sha256 or _digest(file) == before.sha256


def check_unchanged(manifest: Manifest) -> Steps[None]:
    """Raise DataError (`changed_file`) when pictures have changed or gone since they were scanned.

    Only those whose size or time differs are read again: what still has the same bytes is the same picture.
    """
    changed: list[str] = []
    for done, row in enumerate(manifest.rows):
        if not is_same(manifest.file(row), stamp_of(str(manifest.file(row))), row):
            changed.append(row.path)
        if done % 2000 == 0:
            yield Progress("check", done, len(manifest.rows))
    if changed:
        raise DataError(
            "changed_file",
            f"{len(changed):,} picture(s) in {shown(manifest.source)} changed or went while scanned: {some(changed)}.",
            "Wait until whatever writes them is done, and run again.",
        )


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
