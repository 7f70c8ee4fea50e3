"""What a frozen part of a network makes of each picture and of a few views of it: computed once, kept on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.cache import digest_of
from tellapart.events import Progress, Steps
from tellapart.images import Preprocess, map_ordered
from tellapart.learn.augmentation import Augment
from tellapart.learn.draws import Bits, bits, picture_keys
from tellapart.learn.embed import checked_picture
from tellapart.learn.rungs import IntArray, Pictures
from tellapart.learn.torch_augment import augmented
from tellapart.runtime.session import Session

__all__ = ["MOST_BYTES", "VIEWS", "Activations", "activations", "view_of"]

MOST_BYTES = 4 << 30  # of activations are kept in the cache; those used least recently go first
_VERSION = 2
VIEWS = 0  # the seed of the views: another seed of a run sees the same ones, in another order
_VIEW = 101  # what a draw is for
_FLUSH_SECONDS = 1.0
_SHOW_SECONDS = 0.1
_LARGEST = 65504.0  # of float16


@dataclasses.dataclass(frozen=True)
class Activations:
    """Activations float16 [V, N, ...] of N pictures in V views, the first of them the picture as it is.

    Maps lie on disk as [V, N, h, w, C] and are given as [n, C, h, w] in channels-last memory.
    """

    values: NDArray[np.float16]

    def __reduce__(self) -> tuple[Any, ...]:
        """Let another process of this run open the file, rather than be sent what is in it."""
        file = self.values.filename if isinstance(self.values, np.memmap) else None
        return (Activations, (self.values,)) if file is None else (_opened, (file,))

    @property
    def num_views(self) -> int:
        """How many views there are of a picture."""
        return len(self.values)

    def batches(self, rows: Sequence[IntArray]) -> Iterator[Tensor]:
        """Yield float32 [n, ...] for each array of rows: the pictures as they are."""
        return (_as_tensor(self.values[0, part]) for part in rows)

    def varied(self, rows: Sequence[IntArray], keys: Sequence[Bits], seed: int, epoch: int) -> Iterator[Tensor]:
        """Yield float32 [n, ...] for each array of rows; a picture goes through its views from epoch to epoch."""
        for part, names in zip(rows, keys, strict=True):
            first = bits(seed, 0, names, _VIEW) % np.uint64(self.num_views)
            yield _as_tensor(self.values[(first.astype(np.int64) + epoch) % self.num_views, part])


def activations(
    below: bytes,
    preprocess: Preprocess,
    pictures: Pictures,
    augment: Augment,
    num_views: int,
    cache: Path,
    threads: int,
    output: str = "activations",
) -> Steps[Activations]:
    """Return the activations of `pictures`, from the cache as far as they are there.

    `below` is an ONNX graph, `image` uint8 [N, S, S, 3] to `output` float32 [N, ...]. An interruption loses about a
    second. Raises OSError where the disk is full, else as
    `embed.checked_picture` does.
    """
    session = Session(below)
    shape = _laid_out(session.run(_blank(preprocess), [output])[output]).shape[1:]
    key = digest_of(
        [hashlib.sha256(below).hexdigest(), dataclasses.asdict(preprocess), dataclasses.asdict(augment), num_views,
         VIEWS, pictures.digests, _VERSION]
    )  # fmt: skip
    folder = cache / "activations"
    folder.mkdir(parents=True, exist_ok=True)
    size = 2 * num_views * len(pictures) * int(np.prod(shape))
    _make_room(folder, size, keep=key)
    file, marks = folder / f"{key[:40]}.npy", folder / f"{key[:40]}.done"
    if not file.is_file():
        marks.unlink(missing_ok=True)  # what they speak of is gone
    values = _mapped(file, (num_views, len(pictures), *shape), np.float16)
    done = _mapped(marks, (len(pictures),), np.uint8)
    keys = picture_keys(pictures.digests)

    def one(row: int) -> NDArray[np.float16]:
        square = checked_picture(pictures.files[row], pictures.digests[row], preprocess)
        views = [view_of(square, keys[row : row + 1], view, augment) for view in range(num_views)]
        found = [session.run(view[None], [output])[output] for view in views]
        return _laid_out(np.concatenate(found)).clip(-_LARGEST, _LARGEST).astype(np.float16)

    wanted = np.flatnonzero(done == 0).tolist()
    flushed = shown = time.monotonic()
    waiting: list[int] = []
    try:
        for row, found in zip(wanted, map_ordered(one, wanted, threads), strict=True):
            values[:, row] = found
            waiting.append(row)
            now = time.monotonic()
            if now - flushed > _FLUSH_SECONDS:
                _mark(values, done, waiting)
                flushed = now
            if now - shown > _SHOW_SECONDS:
                yield Progress("activations", int(done.sum()) + len(waiting), len(pictures))
                shown = now
    finally:
        _mark(values, done, waiting)
    yield Progress("activations", len(pictures), len(pictures))
    return Activations(values)


def _opened(file: str) -> Activations:
    return Activations(np.lib.format.open_memmap(file, mode="r"))


def view_of(square: NDArray[np.uint8], key: Bits, view: int, augment: Augment) -> NDArray[np.uint8]:
    """Return one view, uint8 [S, S, 3], of a picture: itself for 0, else moved, and mirrored where that is allowed."""
    if view == 0:
        return square
    varied: NDArray[np.uint8] = augmented(torch.from_numpy(square)[None], key, VIEWS, view, augment, None).numpy()[0]
    return varied


def _make_room(folder: Path, size: int, keep: str) -> None:
    """Remove the activations used least recently until `size` bytes more stay within `MOST_BYTES`."""
    files = sorted(folder.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    total = sum(file.stat().st_size for file in files) + size
    for file in files:
        if total <= MOST_BYTES:
            return
        if not file.name.startswith(keep[:40]):
            total -= file.stat().st_size
            file.with_suffix(".done").unlink(missing_ok=True)
            file.unlink(missing_ok=True)


def _mapped(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap[Any, Any]:
    """Open a file of zeros, or what was written to it before; one that is damaged is begun anew."""
    if path.is_file():
        with contextlib.suppress(ValueError, OSError):
            found = np.lib.format.open_memmap(path, mode="r+")
            if found.shape == shape and found.dtype == dtype:
                path.touch()
                return found
        path.with_suffix(".done").unlink(missing_ok=True)
    found = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate") and found.nbytes:  # a map that the disk has no room for would end the process
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return found


def _mark(values: np.memmap[Any, Any], done: np.memmap[Any, Any], rows: list[int]) -> None:
    """Bring what was computed to the disk, and then that it is there."""
    if rows:
        values.flush()
        done[rows] = 1
        done.flush()
        rows.clear()


def _blank(preprocess: Preprocess) -> NDArray[np.uint8]:
    return np.zeros((1, preprocess.image_size, preprocess.image_size, 3), np.uint8)


def _laid_out(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.moveaxis(values, 1, -1) if values.ndim == 4 else values


def _as_tensor(values: NDArray[np.float16]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values)).float()
    return tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
