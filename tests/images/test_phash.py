"""Hashes of a picture: their bits are those of the textbook's transform, and little changes them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn  # type: ignore[import-untyped]

from tellapart.images.phash import NUM_BITS, WINDOWS, hashes, resampling


def small(picture: Image.Image) -> NDArray[np.uint8]:
    """Return a thumbnail."""
    return np.asarray(picture.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))


def distance(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> int:
    """Return in how many bits the nearest of one picture's hashes differs from the other picture's first."""
    return int(np.bitwise_count(one ^ other[0]).min())


def test_the_bits_are_the_signs_of_the_lowest_frequencies(photo: NDArray[np.uint8]) -> None:
    thumbnail = small(Image.fromarray(photo))
    grey = thumbnail @ np.array([0.299, 0.587, 0.114])
    for number, (left, top, right, bottom) in enumerate(WINDOWS):
        seen = resampling(top, bottom) @ grey @ resampling(left, right).T
        transformed = dctn(seen, norm="ortho")
        signs = [transformed[u, v] > 0 for u in range(9) for v in range(9) if 0 < u + v <= 10]
        value = hashes(thumbnail)[number : number + 1]
        assert np.unpackbits(value.view(np.uint8))[:NUM_BITS].astype(bool).tolist() == signs
        assert not np.unpackbits(value.view(np.uint8))[NUM_BITS:].any()


def test_a_window_is_what_a_crop_leaves(photo: NDArray[np.uint8]) -> None:
    picture = Image.fromarray(photo)
    width, height = picture.size
    for number, (left, top, right, bottom) in enumerate(WINDOWS):
        cut = picture.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))
        near = np.bitwise_count(hashes(small(picture)) ^ hashes(small(cut))[0])
        assert near.argmin() == number
        assert near[number] <= 6


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_copy_keeps_its_hash_and_a_stranger_does_not(photo: NDArray[np.uint8], quality: int, scale: float) -> None:
    picture = Image.fromarray(photo)
    copy = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    copy.point([min(255, 20 + level) for level in range(256)] * 3).save(buffer, "JPEG", quality=quality)
    assert distance(hashes(small(picture)), hashes(small(Image.open(buffer)))) <= 8
    assert distance(hashes(small(picture)), hashes(small(picture.transpose(Image.Transpose.ROTATE_180)))) > 16


def test_what_is_flat_has_no_signs() -> None:
    for level in (0, 77, 255):
        assert not hashes(np.full((32, 32, 3), level, dtype=np.uint8)).any()
