"""What a bundle keeps of the pictures: thumbnails, brightness, self-test pictures; or nothing that shows one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.images import Preprocess, decode, map_ordered, prepare, resize
from tellapart.learn.rungs import FloatArray, IntArray
from tellapart.runtime.reference import MAX_REFERENCES, MAX_SELFTEST, THUMBNAIL_PX

__all__ = ["FEWEST_FOR_A_MEAN", "Gallery", "class_means", "gallery", "selftest_pictures", "synthetic_pictures"]

FEWEST_FOR_A_MEAN = 5


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """`thumbnails` uint8 [M, 64, 64, 3], letterboxed; `brightness`: mean and standard deviation over the pictures.

    A picture's brightness is the mean over the pixels and channels of its prepared square, in 0..255.
    """

    thumbnails: NDArray[np.uint8]
    brightness: tuple[float, float]


def gallery(files: Sequence[Path], preprocess: Preprocess, threads: int) -> Gallery:
    """Return thumbnails and brightness of pictures, each decoded once at a reduced scale. Raises PictureError."""
    whole = preprocess.model_copy(update={"image_size": THUMBNAIL_PX, "resize_policy": "pad"})
    same = preprocess.model_copy(update={"image_size": THUMBNAIL_PX})

    def small(file: Path) -> tuple[NDArray[np.uint8], float]:
        pixels = decode(file, 2 * THUMBNAIL_PX, preprocess.decode)
        return resize(pixels, whole), float(resize(pixels, same).mean(dtype=np.float64))

    seen = list(map_ordered(small, files, threads))
    levels = np.array([level for _, level in seen])
    empty = np.zeros((0, THUMBNAIL_PX, THUMBNAIL_PX, 3), np.uint8)
    thumbnails = np.stack([thumbnail for thumbnail, _ in seen]) if seen else empty
    return Gallery(thumbnails, (float(levels.mean()), float(levels.std())) if seen else (0.0, 0.0))


def selftest_pictures(files: Sequence[Path], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return at most eight prepared pictures, uint8 [n, S, S, 3], evenly spaced among `files`. Raises PictureError."""
    rows = np.unique(np.linspace(0, len(files) - 1, min(MAX_SELFTEST, len(files))).astype(np.int64)).tolist()
    return np.stack([prepare(files[row], preprocess) for row in rows])


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
