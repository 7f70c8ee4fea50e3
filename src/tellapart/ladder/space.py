"""Room on the disk: asked for before anything is trained, so that a run does not end in the middle of a file."""

from __future__ import annotations

import shutil

from tellapart.files import no_room
from tellapart.ladder.run import Run

__all__ = ["check_room", "needed_bytes"]

_RUN_BYTES = 64 << 20  # two bundles of 20 MB, while one takes the other's place, and the report
_BYTES_A_PICTURE = 12 << 10  # in the caches: an embedding of at most 1,280 numbers, twice if mirrored; facts; events


def needed_bytes(num_pictures: int) -> int:
    """Return about how much a run writes at the most, in bytes."""
    return _RUN_BYTES + _BYTES_A_PICTURE * num_pictures


def check_room(run: Run, num_pictures: int) -> None:
    """Raise InputError (`no_space`) when the disk of the run folder or of the caches is too full for a run."""
    for folder in (run.folder, run.cache):
        if shutil.disk_usage(folder).free < needed_bytes(num_pictures):
            raise no_room(folder, needed_bytes(num_pictures))
