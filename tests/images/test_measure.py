"""What is measured of a picture while it is decoded: levels, sharpness, border, what the file says of itself."""

from __future__ import annotations

import calendar
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.stats import entropy  # type: ignore[import-untyped]

from tellapart.images import FORMATS, DecodePolicy
from tellapart.images.examine import PictureFacts, examine, pack, unpack
from tellapart.images.measure import MEASURES, MODES, as_thumbnail
from tellapart.images.structure import exif_texts


def stored(picture: Image.Image, format: str = "PNG", **how: Any) -> bytes:
    """Return a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **how)
    return buffer.getvalue()


def measured(content: bytes) -> tuple[Any, NDArray[np.uint8]]:
    """Return the record and the thumbnail."""
    facts, thumbnail = examine(content, "00" * 32, DecodePolicy())
    assert isinstance(facts, PictureFacts)
    assert unpack("00" * 32, pack(facts)) == facts
    return np.frombuffer(facts.measures, dtype=MEASURES)[0], as_thumbnail(thumbnail)


def test_levels_are_those_of_a_plain_computation(photo: NDArray[np.uint8]) -> None:
    pixels = photo[:200, :250]
    record, thumbnail = measured(stored(Image.fromarray(pixels)))
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    assert record["brightness"] == pytest.approx(grey.mean(), rel=1e-3)
    assert record["contrast"] == pytest.approx(grey.std(), rel=1e-3)
    assert record["entropy"] == pytest.approx(entropy(np.bincount(grey.ravel()), base=2), rel=1e-3)
    wide = grey.astype(int)
    laplacian = sum(np.roll(wide, by, axis) for axis in (0, 1) for by in (-1, 1)) - 4 * wide
    assert record["sharpness"] == pytest.approx(laplacian[1:-1, 1:-1].std(), rel=1e-3)
    steps = [np.diff(wide, axis=axis) for axis in (0, 1)]
    slope = np.sqrt(sum((step**2).mean() for step in steps))
    assert record["slope"] == pytest.approx(slope, rel=1e-3)
    spread = thumbnail.max(axis=2).astype(int) - thumbnail.min(axis=2)
    assert record["saturation"] == pytest.approx(spread.mean(), rel=1e-3)
    assert (record["format"], record["mode"]) == (FORMATS.index("PNG"), MODES.index("RGB"))


def test_a_blurred_picture_is_less_sharp_at_any_size(photo: NDArray[np.uint8]) -> None:
    for size in ((400, 300), (1600, 1200)):
        picture = Image.fromarray(photo).resize(size)
        blurred = picture.filter(ImageFilter.GaussianBlur(size[0] / 60))
        sharp, soft = (measured(stored(one, "JPEG", quality=92))[0]["sharpness"] for one in (picture, blurred))
        assert soft < sharp / 2


def test_how_narrow_edges_are_is_told_whatever_the_contrast(photo: NDArray[np.uint8]) -> None:
    picture = Image.fromarray(photo).resize((400, 300))
    pale = Image.blend(picture, Image.new("RGB", picture.size, (128, 128, 128)), 0.6)
    blurred = picture.filter(ImageFilter.GaussianBlur(4))
    records = [measured(stored(one))[0] for one in (picture, pale, blurred)]
    sharp, faint, soft = (float(record["sharpness"]) / float(record["slope"]) for record in records)
    assert faint == pytest.approx(sharp, rel=0.1)
    assert soft < sharp / 2


def test_the_border_is_that_of_a_frame(photo: NDArray[np.uint8]) -> None:
    framed = Image.new("RGB", (580, 460), (250, 10, 100))
    framed.paste(Image.fromarray(photo), (40, 42))
    record, _ = measured(stored(framed))
    assert record["border"].tolist() == [250, 10, 100]
    assert record["border_spread"] == 0
    assert measured(stored(Image.fromarray(photo)))[0]["border_spread"] > 20


@pytest.mark.parametrize("quality", [5, 10, 30, 50, 75, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(photo: NDArray[np.uint8], quality: int) -> None:
    record, _ = measured(stored(Image.fromarray(photo), "JPEG", quality=quality))
    assert abs(int(record["jpeg_quality"]) - quality) <= 1


def test_a_thumbnail_is_upright_and_all_of_the_picture(photo: NDArray[np.uint8]) -> None:
    turned = Image.fromarray(photo).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    record, thumbnail = measured(stored(turned, "JPEG", quality=95, exif=exif))
    plain = measured(stored(Image.fromarray(photo), "JPEG", quality=95))[1]
    assert record["orientation"] == 6
    assert np.abs(thumbnail.astype(int) - plain).max() <= 12
    assert np.abs(plain[:3].mean(axis=(0, 1)) - photo[: 375 * 3 // 32].mean(axis=(0, 1))).max() < 3


def test_camera_and_time_are_read_from_exif(photo: NDArray[np.uint8]) -> None:
    picture = Image.fromarray(photo[:40, :40])
    exif = Image.Exif()
    exif[271], exif[272] = "Maker", "Model X"
    exif.get_ifd(0x8769)[36867] = "2021:03:04 05:06:07"
    record, _ = measured(stored(picture, "JPEG", exif=exif))
    assert record["taken"] == calendar.timegm((2021, 3, 4, 5, 6, 7))
    assert record["camera"] != 0
    exif[272] = "Model Y"
    assert measured(stored(picture, "JPEG", exif=exif))[0]["camera"] not in (0, record["camera"])
    plain, _ = measured(stored(picture, "JPEG"))
    assert (plain["camera"], plain["taken"]) == (0, 0)


def test_16_bit_levels_are_seen_at_their_own_scale() -> None:
    levels = (np.arange(64 * 64).reshape(64, 64) % 4096).astype(np.uint16)
    _, thumbnail = measured(stored(Image.fromarray(levels)))
    assert thumbnail.max() > 240


@given(st.binary(max_size=300), st.integers(0, 20), st.integers(0, 255))
def test_a_broken_exif_block_gives_what_it_can(noise: bytes, place: int, value: int) -> None:
    exif = Image.Exif()
    exif[271], exif[306] = "Maker", "2021:03:04 05:06:07"
    block = bytearray(exif.tobytes())
    block[6 + place] = value
    for broken in (bytes(block), b"Exif\0\0II*\0" + noise, noise):
        texts = exif_texts(broken, (271, 306))
        assert set(texts) <= {271, 306}
        assert all(len(text) <= 256 for text in texts.values())
