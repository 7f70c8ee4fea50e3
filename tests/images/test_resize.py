"""One resize: what each policy keeps, that shortcuts change nothing, and how near a reduced decode comes."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tellapart.errors import PictureError
from tellapart.images import (
    DecodePolicy,
    Preprocess,
    at_least_for,
    decode,
    map_ordered,
    prepare,
    read_header,
    resize,
    thumbnail_jpeg,
)
from tellapart.images.decode import upright
from tellapart.images.header import opened
from tellapart.images.preprocess import Interpolation, ResizePolicy

POLICIES: tuple[ResizePolicy, ...] = ("crop", "pad", "squash")


def jpeg(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def turned_jpeg(pixels: NDArray[np.uint8], orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(pixels, exif=exif)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_crop_keeps_the_centre_pad_the_whole_and_squash_the_corners() -> None:
    # Left third red, middle green, right blue.
    wide = np.zeros((100, 300, 3), dtype=np.uint8)
    for k in range(3):
        wide[:, 100 * k : 100 * (k + 1), k] = 255
    background = DecodePolicy(background=(9, 9, 9))

    def square(pixels: NDArray[np.uint8], policy: ResizePolicy) -> NDArray[np.uint8]:
        return resize(pixels, Preprocess(image_size=30, resize_policy=policy, decode=background))

    crop = square(wide, "crop")
    assert (crop[:, 2:-2] == (0, 255, 0)).all()
    pad = square(wide, "pad")
    assert (pad[:10] == 9).all()
    assert (pad[20:] == 9).all()
    assert [tuple(map(int, pad[15, x])) for x in (2, 15, 27)] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    squash = square(wide, "squash")
    assert [tuple(map(int, squash[y, x])) for y, x in ((0, 2), (15, 15), (29, 27))] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    for policy in POLICIES:
        turned = square(tall, policy).transpose(1, 0, 2)
        assert np.abs(turned.astype(int) - square(wide, policy)).max() <= 1


def test_a_picture_of_the_right_size_is_returned_as_it_is(photo: NDArray[np.uint8]) -> None:
    square = photo[:224, :224]
    for policy in POLICIES:
        assert resize(square, Preprocess(image_size=224, resize_policy=policy)) is square


def test_crop_in_one_call_is_resize_then_crop(photo: NDArray[np.uint8]) -> None:
    # 500x375 is 4:3, so that 300x225 is its exact scale and 76 columns go, 38 on either side, to the pixel.
    even = photo[:, :500]
    whole = np.asarray(Image.fromarray(even).resize((300, 225), Image.Resampling.BICUBIC))
    got = resize(even, Preprocess(image_size=225, resize_policy="crop"))
    # The centre of 300 columns lies between two, and 225 is odd: the one call is half a column off, evenly.
    halfway = (whole[:, 37:262].astype(float) + whole[:, 38:263]) / 2
    assert difference(got, halfway) < 2.5
    even_target = resize(photo[:300, :450], Preprocess(image_size=200, resize_policy="crop"))
    two_steps = np.asarray(Image.fromarray(photo[:300, :450]).resize((300, 200), Image.Resampling.BICUBIC))[:, 50:250]
    assert np.abs(even_target.astype(int) - two_steps).max() <= 1


SOURCES = {
    "jpeg": lambda p: jpeg(p),
    "grey jpeg": lambda p: jpeg(p[..., 0]),
    "turned jpeg": lambda p: turned_jpeg(p, 6),
    "flipped jpeg": lambda p: turned_jpeg(p, 2),
    "png with alpha": lambda p: saved_png(np.dstack([p, p[..., :1]])),
    "grey png": lambda p: saved_png(p[..., 0]),
    "already square": lambda p: saved_png(p[:96, :96]),
}


def saved_png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("policy", POLICIES)
def test_prepare_is_decode_then_resize_bit_for_bit(kind: str, policy: ResizePolicy, photo: NDArray[np.uint8]) -> None:
    source = SOURCES[kind](photo)
    for interpolation in ("bilinear", "bicubic"):
        preprocess = Preprocess(image_size=96, resize_policy=policy, interpolation=interpolation)
        got = prepare(source, preprocess)
        assert got.shape == (96, 96, 3)
        assert got.flags.writeable
        np.testing.assert_array_equal(got, resize(decode(source, policy=preprocess.decode), preprocess))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_prepare_of_a_reduced_jpeg_is_its_decode_resized_from_its_box(
    orientation: int, photo: NDArray[np.uint8]
) -> None:
    source = turned_jpeg(photo, orientation)
    for policy in POLICIES:
        preprocess = Preprocess(image_size=64, at_least_px=80, resize_policy=policy)
        with opened(source, preprocess.decode) as (picture, header, _):
            flat, box = upright(picture, header, 80, preprocess.decode)
        pixels = decode(source, 80)
        np.testing.assert_array_equal(np.asarray(flat), pixels)
        assert min(pixels.shape[:2]) == 94  # a quarter of 375 is 93.75
        np.testing.assert_array_equal(prepare(source, preprocess), resize(pixels, preprocess, box))
        full = prepare(source, dataclasses.replace(preprocess, at_least_px=None))
        assert difference(prepare(source, preprocess), full) < 1.0, "the box is on the side that the turn put it"


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(8, 700),
    height=st.integers(8, 700),
    at_least=st.integers(8, 300),
    orientation=st.integers(1, 8),
    policy=st.sampled_from(POLICIES),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_a_reduced_jpeg_is_never_smaller_than_asked(
    width: int, height: int, at_least: int, orientation: int, policy: ResizePolicy, interpolation: Interpolation
) -> None:
    source = turned_jpeg(np.full((height, width, 3), 77, dtype=np.uint8), orientation)
    if max(width, height) > 50 * min(width, height):
        with pytest.raises(PictureError):
            decode(source)
        return
    header = read_header(source)
    got = decode(source, at_least)
    full = (header.height, header.width)
    assert min(got.shape[:2]) >= min(at_least, *full)
    assert got.shape[:2] in [tuple(-(-side // scale) for side in full) for scale in (1, 2, 4, 8)]
    if min(full) >= 2 * at_least:
        assert got.shape[0] < full[0]
    preprocess = Preprocess(image_size=32, at_least_px=at_least, resize_policy=policy, interpolation=interpolation)
    squared = prepare(source, preprocess)
    assert squared.shape == (32, 32, 3)
    if policy != "pad":
        assert np.abs(squared.astype(int) - 77).max() <= 2, "nothing from outside of the picture comes in"


@pytest.mark.parametrize("image_size", [16, 32, 62])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_reduced_decode_of_a_photo_like_jpeg_is_near_the_full_one(
    mode: str, image_size: int, photo: NDArray[np.uint8]
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(photo).convert(mode).save(buffer, "JPEG", quality=90)
    for policy in POLICIES:
        full = Preprocess(image_size=image_size, resize_policy=policy)
        reduced = dataclasses.replace(full, at_least_px=at_least_for(image_size))
        assert decode(buffer.getvalue(), reduced.at_least_px).shape[0] < 375
        assert difference(prepare(buffer.getvalue(), full), prepare(buffer.getvalue(), reduced)) <= 1.5


@pytest.mark.weights
@pytest.mark.parametrize("image_size", [40, 62])
def test_a_reduced_decode_of_real_photos_is_near_the_full_one(
    image_size: int, hymenoptera: list[bytes], clothing: list[bytes]
) -> None:
    full = Preprocess(image_size=image_size, resize_policy="crop")
    reduced = dataclasses.replace(full, at_least_px=at_least_for(image_size))

    def measure(source: bytes) -> float:
        return difference(prepare(source, full), prepare(source, reduced))

    for photos in (hymenoptera[::6], clothing[::2]):
        differences = [d for d in map_ordered(measure, photos, threads=2) if d > 0]
        if differences:
            assert np.mean(differences) <= 1.5, "over the pictures that were reduced at all"
            assert max(differences) <= 4.0


def test_a_thumbnail_has_the_side_asked_for_and_no_metadata(photo: NDArray[np.uint8]) -> None:
    thumbnail = thumbnail_jpeg(photo, side_px=64, quality=80)
    header = read_header(thumbnail)
    assert (header.format, header.width, header.height) == ("JPEG", 64, 48)
    assert b"Exif" not in thumbnail
    assert difference(decode(thumbnail), np.asarray(Image.fromarray(photo).resize((64, 48)))) < 5
    small = decode(thumbnail_jpeg(photo[:10, :20], side_px=64, quality=80))
    assert small.shape == (10, 20, 3), "nothing is enlarged"


def test_a_file_and_its_bytes_prepare_alike(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(jpeg(photo))
    preprocess = Preprocess(image_size=64, at_least_px=64)
    np.testing.assert_array_equal(prepare(path, preprocess), prepare(path.read_bytes(), preprocess))
