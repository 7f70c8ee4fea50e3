"""What a bundle keeps of the pictures: thumbnails, brightness, self-test pictures; or nothing that shows one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.cache import Space, digest_of
from tellapart.images import Preprocess, decode_guarded, map_ordered, resize, thumbnail_jpeg
from tellapart.images.decode import Pixels
from tellapart.learn.embed import checked_picture, said_of_changed
from tellapart.learn.rungs import FloatArray, IntArray
from tellapart.runtime.reference import MAX_REFERENCES, MAX_SELFTEST, THUMBNAIL_PX

__all__ = ["FEWEST_FOR_A_MEAN", "Gallery", "class_means", "gallery", "selftest_pictures", "synthetic_pictures"]

FEWEST_FOR_A_MEAN = 5
_VERSION = 1  # part of the cache's key: raise it when a thumbnail would come out differently


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """`thumbnails` are JPEG files, 64 px on the longer side; `brightness`: mean and deviation over the pictures.

    A picture's brightness is the mean over the pixels and channels of its prepared square, in 0..255.
    """

    thumbnails: tuple[bytes, ...]
    brightness: tuple[float, float]


def gallery(
    files: Sequence[Path], digests: Sequence[str], preprocess: Preprocess, threads: int, cache: Path | None = None
) -> Gallery:
    """Return thumbnails and brightness of pictures, each decoded once at a reduced scale, or found in the cache.

    `digests` are the sha256 of the files' bytes. Raises PictureError.
    """
    same = dataclasses.replace(preprocess, image_size=THUMBNAIL_PX)

    def small(index: int) -> bytes:
        pixels = decode_guarded(files[index], 2 * THUMBNAIL_PX, preprocess.decode)
        level = np.float32(resize(pixels, same).mean(dtype=np.float64))
        return level.tobytes() + thumbnail_jpeg(pixels, THUMBNAIL_PX)

    key = digest_of([dataclasses.asdict(preprocess.decode), same.resize_policy, same.interpolation, _VERSION])
    with contextlib.nullcontext() if cache is None else Space(cache, "thumbnails", key) as space:
        seen = dict(space.get(digests)) if space is not None else {}
        absent = [index for index in range(len(files)) if index not in seen]
        seen.update(zip(absent, map_ordered(small, absent, threads), strict=True))
        if space is not None and absent:
            space.put((digests[index], seen[index]) for index in absent)
    levels = np.array([np.frombuffer(seen[index][:4], np.float32)[0] for index in range(len(files))], np.float64)
    thumbnails = tuple(seen[index][4:] for index in range(len(files)))
    return Gallery(thumbnails, (float(levels.mean()), float(levels.std())) if seen else (0.0, 0.0))


def selftest_pictures(files: Sequence[Path], digests: Sequence[str], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return at most eight prepared pictures, uint8 [n, S, S, 3], evenly spaced among `files`.

    Raises DataError (`changed_file`) where one is no longer what its digest says.
    """
    rows = np.unique(np.linspace(0, len(files) - 1, min(MAX_SELFTEST, len(files))).astype(np.int64)).tolist()

    def prepared(wanted: Sequence[int]) -> Iterator[Pixels]:
        return (checked_picture(files[row], digests[row], preprocess) for row in wanted)

    return np.stack(list(said_of_changed(prepared, rows, files, digests)))


def synthetic_pictures(image_size: int) -> NDArray[np.uint8]:
    """Return eight made-up pictures, uint8 [8, S, S, 3], for the self-test of a bundle that may not show real ones.

    Waves of rising frequency in the three channels: smooth, full in range, and the same everywhere.
    """
    across, down = np.meshgrid(np.linspace(0, 1, image_size), np.linspace(0, 1, image_size))
    pictures = []
    for number in range(MAX_SELFTEST):
        channels = [
            np.sin(2 * np.pi * ((number + 1) * across * (channel + 1) + down * (number + channel)))
            for channel in range(3)
        ]
        pictures.append(np.round(np.stack(channels, axis=-1) * 127.0 + 128.0))
    return np.stack(pictures).astype(np.uint8)


def class_means(embeddings: FloatArray, targets: IntArray, num_classes: int) -> tuple[FloatArray, IntArray]:
    """Return mean embeddings float32 [M, D] and their class int64 [M], to measure novelty without single pictures.

    A class of fewer than five pictures has no mean of its own, which would be close to one of them; if that leaves
    none, the mean of all stands for class 0. Of more than 2,000 classes the largest are taken.
    """
    counts = np.bincount(targets, minlength=num_classes)
    large = np.flatnonzero(counts >= FEWEST_FOR_A_MEAN)
    kept = np.sort(large[np.argsort(-counts[large], kind="stable")][:MAX_REFERENCES])
    if not len(kept):
        return embeddings.mean(axis=0, keepdims=True).astype(np.float32), np.zeros(1, np.int64)
    means = [embeddings[targets == label].mean(axis=0, dtype=np.float64) for label in kept]
    return np.stack(means).astype(np.float32), kept.astype(np.int64)
