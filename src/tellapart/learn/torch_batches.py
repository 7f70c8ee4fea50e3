"""Training pictures in batches: held decoded in memory or decoded as they are needed, in the same order either way.

What is drawn for a picture (its place in the epoch, its shift, its mirroring, the square cut out of it) is a function
of (seed, epoch, picture) alone, so the bits of a batch depend neither on threads nor on how pictures are held.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.events import Progress, Steps
from tellapart.images import Preprocess, map_ordered, prepare_guarded
from tellapart.images.guard import Guard
from tellapart.images.guarded import prepare_apart
from tellapart.learn.augmentation import NOTHING, Augment
from tellapart.learn.draws import Bits
from tellapart.learn.rungs import IntArray
from tellapart.learn.sampling import evenly_drawn, shuffled
from tellapart.learn.torch_augment import augmented
from tellapart.learn.torch_mix import Mix, mixed

__all__ = [
    "HELD_BYTES",
    "Held",
    "Samples",
    "Source",
    "Streamed",
    "Varied",
    "decode_all",
    "epoch_batches",
]

HELD_BYTES = 1_500_000_000  # decoded pictures are kept in memory up to this many bytes, else decoded for each batch

_MANY, _TIMED = 2000, 200  # pictures: with more, so many are decoded in each way to see which is faster
_RUN, _RUN_BYTES = 64, 1 << 20  # pictures that another process is given at a time, and their bytes
_WORTH_SECONDS = 3.0  # of decoding: with less, it is not worth to start processes

_WHOLE = slice(None)


@dataclasses.dataclass(frozen=True)
class Held:
    """Pictures in memory: uint8 [N, S, S, C]."""

    pixels: Tensor

    def batches(self, rows: Sequence[IntArray]) -> Iterator[Tensor]:
        """Yield uint8 [n, S, S, C] for each array of rows."""
        return (self.pixels[torch.from_numpy(part)] for part in rows)


@dataclasses.dataclass(frozen=True)
class Streamed:
    """Pictures on disk, decoded on `threads` threads when a batch is asked for."""

    files: tuple[Path, ...]
    preprocess: Preprocess
    channels: int
    threads: int

    def batches(self, rows: Sequence[IntArray]) -> Iterator[Tensor]:
        """Yield uint8 [n, S, S, C] for each array of rows. Raises PictureError."""
        asked = (self.files[row] for part in rows for row in part.tolist())
        decoded = map_ordered(lambda file: prepare_guarded(file, self.preprocess), asked, self.threads)
        for part in rows:
            stack = np.stack([next(decoded) for _ in range(len(part))])
            yield torch.from_numpy(np.ascontiguousarray(stack[..., : self.channels]))


def decode_all(files: tuple[Path, ...], preprocess: Preprocess, channels: int, threads: int) -> Steps[Held | Streamed]:
    """Return the pictures as the network sees them: held when they fit in `HELD_BYTES`, else to be decoded later.

    With one channel the pictures are taken to be grey, and their first channel is kept. Threads that hold each other up
    more than they help, as they do with small pictures, are not used. Raises PictureError.
    """
    side = preprocess.image_size
    if len(files) * side * side * channels > HELD_BYTES:
        return Streamed(files, preprocess, channels, threads)
    pixels = np.empty((len(files), side, side, channels), np.uint8)
    for i, picture in enumerate(_decoded(files, preprocess, threads)):
        pixels[i] = picture[..., :channels]
        if i % 64 == 0 or i + 1 == len(files):
            yield Progress("decode", i + 1, len(files))
    return Held(torch.from_numpy(pixels))


def _decoded(files: tuple[Path, ...], preprocess: Preprocess, threads: int) -> Iterator[NDArray[np.uint8]]:
    """Yield what `prepare_guarded` gives: on one thread, on several, or in as many processes.

    Whichever is fastest with the first pictures, where there are many; processes are asked where their start pays.
    """
    guard = Guard()

    def here(part: tuple[Path, ...], count: int) -> Iterator[NDArray[np.uint8]]:
        return map_ordered(lambda file: prepare_guarded(file, preprocess), part, count)

    def apart(part: tuple[Path, ...], count: int) -> Iterator[NDArray[np.uint8]]:
        try:
            for pictures in map_ordered(
                lambda run: prepare_apart(run, preprocess, guard), _runs(part), count, count + 2
            ):
                yield from pictures
        except BaseException:
            guard.stop()  # before threads that wait for it are waited for
            raise

    done = 0
    each: dict[tuple[Callable[..., Iterator[NDArray[np.uint8]]], int], float] = {}  # seconds a picture
    for way in ((here, threads), (here, 1), (apart, threads)) if len(files) > _MANY and threads > 1 else ():
        timed = _TIMED
        if way[0] is apart:
            if min(each.values()) * (len(files) - done) < _WORTH_SECONDS:
                break
            timed = threads * _RUN
            yield from apart(files[done : done + timed], threads)  # until they have started
            done += timed
        began = time.perf_counter()
        part = files[done : done + timed]
        yield from way[0](part, way[1])
        done, each[way] = done + timed, (time.perf_counter() - began) / max(1, len(part))
    best, count = min(each, key=each.__getitem__, default=(here, threads))
    yield from best(files[done:], count)


def _runs(files: tuple[Path, ...]) -> Iterator[list[Path]]:
    """Yield the files in parts that another process is given at a time: so many, or so many bytes."""
    run: list[Path] = []
    size = 0
    for file in files:
        run.append(file)
        with contextlib.suppress(OSError):
            size += file.stat().st_size
        if len(run) >= _RUN or size > _RUN_BYTES:
            yield run
            run, size = [], 0
    if run:
        yield run


class Source(Protocol):
    """Where inputs come from: for each array of rows (int64 [n]) pixels uint8 [n, S, S, C], or activations."""

    def batches(self, rows: Sequence[IntArray]) -> Iterator[Tensor]:
        """Yield the inputs as they are."""
        ...

    def varied(self, rows: Sequence[IntArray], keys: Sequence[Bits], seed: int, epoch: int) -> Iterator[Tensor]:
        """Yield them varied, as a function of (seed, epoch, picture); `keys` uint64 [n] name the pictures of `rows`."""
        ...


@dataclasses.dataclass(frozen=True)
class Varied:
    """Pictures that are varied for training as `augment` says, on the device `on`; `fill` uint8 [C] is their mean."""

    pixels: Held | Streamed
    augment: Augment = NOTHING
    fill: Tensor | None = None
    on: str = "cpu"

    def batches(self, rows: Sequence[IntArray]) -> Iterator[Tensor]:
        """Yield uint8 [n, S, S, C] for each array of rows, as they are."""
        return self.pixels.batches(rows)

    def varied(self, rows: Sequence[IntArray], keys: Sequence[Bits], seed: int, epoch: int) -> Iterator[Tensor]:
        """Yield uint8 [n, S, S, C] for each array of rows."""
        for names, pixels in zip(keys, self.pixels.batches(rows), strict=True):
            yield augmented(pixels.to(self.on), names, seed, epoch, self.augment, self.fill)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Some of the pictures of a split: `rows` int64 [n] index `source`, `targets` int64 [N] and `keys` uint64 [N].

    An epoch has each of them once, or where `evenly` every class equally often; `mix` makes two pictures one.
    """

    source: Source
    targets: IntArray
    keys: Bits
    rows: IntArray
    evenly: bool = False
    mix: Mix | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, rows: IntArray) -> Samples:
        """Return other rows of the same pictures; `rows` index the split."""
        return dataclasses.replace(self, rows=rows)

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets int64 [n]) in the order of `rows`, `size` at a time, as they are."""
        parts = [self.rows[start : start + size] for start in range(0, len(self.rows), size)]
        for part, inputs in zip(parts, self.source.batches(parts), strict=True):
            yield inputs, torch.from_numpy(self.targets[part])

    def epoch(
        self, size: int, seed: int, number: int, skip: int = 0, mine: slice = _WHOLE
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs, targets int64 [n]) of an epoch, varied, from its batch `skip` on.

        Inputs are those at `mine` of each batch, targets are all. Where pictures are mixed, targets are float32 [n, K],
        the share of each class.
        """
        drawn = epoch_batches(self, size, seed, number)[skip:]
        mixes = self.mix is not None and not self.mix.nothing
        looked_at = _WHOLE if mixes else mine  # a picture is mixed with one of the whole batch
        parts, keys = [part[looked_at] for part, _ in drawn], [names[looked_at] for _, names in drawn]
        inputs_of = self.source.varied(parts, keys, seed, number)
        for (part, names), inputs in zip(drawn, inputs_of, strict=True):
            targets = torch.from_numpy(self.targets[part])
            if self.mix is None or not mixes:
                yield inputs, targets
            else:
                whole, shares = mixed(inputs, targets, names, seed, number, self.mix)
                yield whole[mine], shares


def epoch_batches(samples: Samples, size: int, seed: int, epoch: int) -> list[tuple[IntArray, Bits]]:
    """Return rows, and the key of each draw, of an epoch's batches: in an order drawn anew, alike in size.

    Every row comes once, or where `samples.evenly` as often as makes classes alike.
    """
    keys = samples.keys[samples.rows]
    if samples.evenly:
        places, names = evenly_drawn(keys, samples.targets[samples.rows], seed, epoch)
    else:
        places = shuffled(keys, seed, epoch)
        names = keys[places]
    count = max(1, round(len(places) / size))
    rows = samples.rows[places]
    return list(zip(np.array_split(rows, count), np.array_split(names, count), strict=True))
