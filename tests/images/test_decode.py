"""Every mode, format and orientation gives the pixels that it should."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tellapart.errors import PictureError
from tellapart.images import DecodePolicy, decode, read_header, sixteen_bit_peak

GREEN = DecodePolicy(background=(0, 255, 0))
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
}


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *before: bytes, after: bytes = b"") -> bytes:
    """A PNG written by hand; `rows` without filter bytes."""
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(before)
        + chunk(b"IDAT", zlib.compress(filtered))
        + after
        + chunk(b"IEND", b"")
    )


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + struct.pack(order + "I", 0)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_rgb_comes_back_exactly(kind: str) -> None:
    pixels = noise(13, 21)
    got = decode(saved(Image.fromarray(pixels), kind.split()[0], **LOSSLESS[kind]))
    assert got.dtype == np.uint8
    assert got.flags.writeable
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_grey_becomes_three_equal_channels(kind: str) -> None:
    grey = noise(13, 21)[..., 0]
    got = decode(saved(Image.fromarray(grey), kind, **LOSSLESS.get(kind, {})))
    np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    bits = noise(13, 21)[..., 0] > 127
    got = decode(saved(Image.fromarray(bits), kind))
    np.testing.assert_array_equal(got, np.repeat(bits[..., None], 3, axis=2) * np.uint8(255))


def test_grey_jpeg_stays_near_its_levels_and_has_no_tint() -> None:
    grey = np.tile(np.arange(0, 240, 5, dtype=np.uint8), (32, 1))
    got = decode(saved(Image.fromarray(grey), "JPEG", quality=100))
    assert np.abs(got[..., 0].astype(int) - grey).max() <= 2
    assert (got == got[..., :1]).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_gives_its_colours(kind: str) -> None:
    colours = noise(1, 16, seed=3)[0]
    indices = noise(13, 21)[..., 0] % 16
    picture = Image.frombytes("P", (21, 13), indices.tobytes())
    picture.putpalette(colours.tobytes())
    np.testing.assert_array_equal(decode(saved(picture, kind)), colours[indices])


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparency_is_laid_on_the_background(kind: str) -> None:
    rgba = noise(13, 21, 4)
    got = decode(saved(Image.fromarray(rgba), kind, **LOSSLESS[kind]), policy=GREEN)
    alpha = rgba[..., 3:].astype(float) / 255
    expected = rgba[..., :3] * alpha + np.array([0, 255, 0]) * (1 - alpha)
    assert np.abs(got - expected).max() <= 1
    np.testing.assert_array_equal(got[rgba[..., 3] == 0], np.array([[0, 255, 0]] * int((rgba[..., 3] == 0).sum())))


def test_grey_with_alpha_is_laid_on_the_background() -> None:
    grey_alpha = noise(13, 21, 2)
    got = decode(saved(Image.fromarray(grey_alpha, "LA"), "PNG"), policy=GREEN)
    alpha = grey_alpha[..., 1:].astype(float) / 255
    expected = grey_alpha[..., :1] * alpha + np.array([0, 255, 0]) * (1 - alpha)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("transparency", [2, bytes([255, 255, 0, 255])])
def test_a_transparent_palette_entry_shows_the_background(transparency: int | bytes) -> None:
    colours = np.array([[9, 8, 7], [200, 0, 0], [0, 0, 200], [90, 90, 90]], dtype=np.uint8)
    indices = noise(13, 21)[..., 0] % 4
    picture = Image.frombytes("P", (21, 13), indices.tobytes())
    picture.putpalette(colours.tobytes())
    kinds = ["PNG", "GIF"] if isinstance(transparency, int) else ["PNG"]
    shown = colours.copy()
    shown[2] = (0, 255, 0)
    for kind in kinds:
        got = decode(saved(picture, kind, transparency=transparency), policy=GREEN)
        np.testing.assert_array_equal(got, shown[indices])


@pytest.mark.parametrize(("depth", "key", "level"), [(1, 1, 255), (2, 2, 170), (4, 3, 51), (8, 77, 77)])
def test_a_transparent_grey_level_is_found_at_every_bit_depth(depth: int, key: int, level: int) -> None:
    per_byte = 8 // depth
    row = bytes(sum(key << (depth * i) for i in range(per_byte)) if x % 2 else 0 for x in range(8))
    data = png(8 * per_byte, 8, depth, 0, row * 8, chunk(b"tRNS", struct.pack(">H", key)))
    got = decode(data, policy=GREEN)
    assert {tuple(map(int, p)) for p in got.reshape(-1, 3)} == {(0, 0, 0), (0, 255, 0)}, level


def test_a_transparent_colour_is_found_with_8_and_with_16_bits() -> None:
    for depth, layout in ((8, ">3B"), (16, ">3H")):
        key = (10, 20, 30) if depth == 8 else (10 * 256 + 99, 20 * 256 + 98, 30 * 256 + 97)
        other = (200, 100, 50) if depth == 8 else (200 * 256 + 99, 100 * 256 + 98, 50 * 256 + 97)
        row = (struct.pack(layout, *key) + struct.pack(layout, *other)) * 4
        got = decode(png(8, 8, depth, 2, row * 8, chunk(b"tRNS", struct.pack(">3H", *key))), policy=GREEN)
        np.testing.assert_array_equal(got[0, :2], [[0, 255, 0], [200, 100, 50]])


LEVELS = np.array([[0, 1, 128, 257, 4095, 32768, 65534, 65535]] * 8, dtype=np.uint16)


def sixteen_bit_files() -> dict[str, bytes]:
    picture = Image.fromarray(LEVELS)
    return {
        "png": saved(picture, "PNG"),
        "tiff": saved(picture, "TIFF"),
        "tiff lzw": saved(picture, "TIFF", compression="tiff_lzw"),
        "tiff big endian": saved(
            Image.frombytes("I;16B", (8, 8), LEVELS.astype(">u2").tobytes()), "TIFF", big_endian=True
        ),
    }


@pytest.mark.parametrize("kind", sixteen_bit_files())
@pytest.mark.parametrize("scale", [65535, 4095])
def test_sixteen_bit_grey_is_scaled_by_the_policy_and_not_clipped(kind: str, scale: int) -> None:
    data = sixteen_bit_files()[kind]
    header = read_header(data)
    assert header.sixteen_bit
    assert header.grey
    got = decode(data, policy=DecodePolicy(sixteen_bit_scale=scale))
    expected = np.minimum(np.floor(LEVELS.astype(float) * 255 / scale + 0.5), 255)
    np.testing.assert_array_equal(got, np.repeat(expected[..., None], 3, axis=2))
    assert sixteen_bit_peak(data) == 65535


def test_sixteen_bit_tiff_with_white_at_zero_is_inverted() -> None:
    data = saved(Image.fromarray(LEVELS), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(decode(data)[0, :, 0], 255 - decode(saved(Image.fromarray(LEVELS), "TIFF"))[0, :, 0])


def test_sixteen_bit_grey_with_a_transparent_level_shows_the_background() -> None:
    data = png(8, 8, 16, 0, LEVELS.astype(">u2").tobytes(), chunk(b"tRNS", struct.pack(">H", 4095)))
    got = decode(data, policy=GREEN)
    np.testing.assert_array_equal(got[0, [0, 4, 7]], [[0, 0, 0], [0, 255, 0], [255, 255, 255]])


def test_sixteen_bit_colour_is_read_with_8_bits_and_noted() -> None:
    rows = np.random.default_rng(0).integers(0, 65536, (8, 9, 3), dtype=np.uint16)
    data = png(9, 8, 16, 2, rows.astype(">u2").tobytes())
    np.testing.assert_array_equal(decode(data), rows >> 8)
    header = read_header(data)
    assert not header.sixteen_bit
    assert "sixteen_bit_colour" in header.notes
    assert sixteen_bit_peak(data) is None


def test_cmyk_jpeg_as_adobe_writes_it_has_the_colours_that_print() -> None:
    inks = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (0, 255, 255, 128)]
    expected = [(255, 255, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0), (127, 0, 0)]
    for ink, colour in zip(inks, expected, strict=True):
        data = saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100)
        assert b"Adobe" in data
        assert np.abs(decode(data).astype(int) - colour).max() <= 2, ink


def test_ycck_jpeg_is_turned_into_cmyk_and_then_rgb() -> None:
    # A file of YCCK is the one of CMYK with other numbers in it and a 2 in the Adobe segment. (200, 50, 100) in RGB is
    # this YCbCr (ITU-T T.871); it stands for inverted inks, so the picture shows 255 minus it.
    y, cb, cr = 100.55, 127.69, 198.93
    stored = (255 - round(y), 255 - round(cb), 255 - round(cr), 0)
    data = bytearray(saved(Image.new("CMYK", (16, 16), stored), "JPEG", quality=100, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    assert np.abs(decode(bytes(data)).astype(int) - (55, 205, 155)).max() <= 3


def test_cmyk_tiff_is_not_inverted() -> None:
    got = decode(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF"))
    np.testing.assert_array_equal(got[0, 0], [255, 0, 0])


def test_lab_tiff_gives_the_colour_it_means() -> None:
    # sRGB red under D50 is about L* 54.3, a* 80.8, b* 69.9; a TIFF stores L* over 255 and the others with a sign.
    data = saved(Image.new("LAB", (16, 16), (138, 81 + 128, 70 + 128)), "TIFF")
    assert bytes([138, 81, 70]) * 3 in data
    assert np.abs(decode(data)[0, 0].astype(int) - (255, 0, 0)).max() <= 8


def test_ycbcr_tiff_gives_the_colour_it_means() -> None:
    pixels = np.full((16, 16, 3), (200, 50, 100), dtype=np.uint8)
    got = decode(saved(Image.fromarray(pixels).convert("YCbCr"), "TIFF"))
    assert np.abs(got.astype(int) - pixels).max() <= 2


def turned(a: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """How a viewer shows stored pixels, after the table of the Exif standard (row 0 and column 0 of what is stored)."""
    return {
        1: a,
        2: a[:, ::-1],  # row 0 is the top, column 0 the right side
        3: a[::-1, ::-1],  # bottom, right
        4: a[::-1],  # bottom, left
        5: a.transpose(1, 0, 2),  # left side, top
        6: a.transpose(1, 0, 2)[:, ::-1],  # right side, top
        7: a.transpose(1, 0, 2)[::-1, ::-1],  # right side, bottom
        8: a.transpose(1, 0, 2)[::-1],  # left side, bottom
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "TIFF lzw", "JPEG"])
def test_every_orientation_is_shown_upright_and_the_header_says_its_size(kind: str, orientation: int) -> None:
    # Blocks of 8 pixels survive JPEG; noise of blocks has no symmetry that could hide a wrong turn.
    stored = noise(3, 5).repeat(8, axis=0).repeat(8, axis=1)
    options = LOSSLESS.get(kind, {"quality": 100, "subsampling": 0})
    if kind.startswith("TIFF"):
        options = {**options, "tiffinfo": {0x0112: orientation}}
    else:
        options = {**options, "exif": exif(orientation, "<" if orientation % 2 else ">")}
    data = saved(Image.fromarray(stored), kind.split()[0], **options)
    expected = turned(stored, orientation)
    got = decode(data)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= (6 if kind == "JPEG" else 0)
    header = read_header(data)
    assert (header.height, header.width) == expected.shape[:2]
    assert header.orientation == orientation


BROKEN_EXIF = {
    "orientation 0": exif(0),
    "orientation 99": exif(99),
    "cut": exif(6)[:18],
    "empty": b"Exif\0\0",
    "no byte order": b"Exif\0\0XX*\0" + exif(6)[10:],
    "directory points at itself": b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHII", 0x8769, 4, 1, 8),
    "a resolution that lies outside": b"Exif\0\0II*\0"
    + struct.pack("<IH", 8, 2)
    + struct.pack("<HHII", 0x011A, 5, 1, 60000)
    + struct.pack("<HHII", 0x0128, 3, 900, 60000),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("damage", BROKEN_EXIF)
def test_broken_exif_is_ignored_without_a_warning(kind: str, damage: str) -> None:
    pixels = noise(16, 24)
    data = saved(Image.fromarray(pixels), kind, exif=BROKEN_EXIF[damage])
    np.testing.assert_array_equal(decode(data), decode(saved(Image.fromarray(pixels), kind)))
    assert read_header(data).orientation == 1


def test_broken_tiff_tags_do_not_warn() -> None:
    data = saved(Image.fromarray(noise(16, 24)), "TIFF", tiffinfo={270: "a description that is longer than 4 bytes"})
    at = data.index(struct.pack("<HH", 270, 2))
    broken = data[: at + 8] + struct.pack("<I", 10**6) + data[at + 12 :]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(PictureError):
            decode(broken)
    assert not caught


def test_the_pages_of_a_tiff_are_counted_without_going_round_in_circles() -> None:
    page = Image.fromarray(noise(16, 24))
    data = bytearray(saved(page, "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * entries, directory)
    assert read_header(bytes(data)).num_frames == 1
    struct.pack_into("<I", data, directory + 2 + 12 * entries, 10**9)
    assert read_header(bytes(data)).num_frames is None
    np.testing.assert_array_equal(decode(bytes(data)), np.asarray(page))


def test_of_an_animation_the_first_frame_is_taken_and_noted() -> None:
    frames = [Image.fromarray(noise(16, 24, seed=seed)) for seed in range(3)]
    first = np.asarray(frames[0])
    for kind in ("PNG", "WEBP", "TIFF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **LOSSLESS[kind])
        np.testing.assert_array_equal(decode(data), first)
        header = read_header(data)
        assert header.num_frames == 3
        assert ("several_pages" if kind == "TIFF" else "several_frames") in header.notes
    greys = [frame.convert("L") for frame in frames]
    data = saved(greys[0], "GIF", save_all=True, append_images=greys[1:])
    np.testing.assert_array_equal(decode(data)[..., 0], np.asarray(greys[0]))
    assert "several_frames" in read_header(data).notes
    assert read_header(data).num_frames == 3


def test_a_colour_profile_is_ignored_even_a_huge_or_broken_one() -> None:
    pixels = noise(16, 24)
    rng = np.random.default_rng(0)
    for profile in (b"not a profile", rng.bytes(3_000_000)):
        for kind in ("PNG", "WEBP", "TIFF"):
            data = saved(Image.fromarray(pixels), kind, icc_profile=profile, **LOSSLESS[kind])
            np.testing.assert_array_equal(decode(data), pixels)
        plain = decode(saved(Image.fromarray(pixels), "JPEG"))
        np.testing.assert_array_equal(decode(saved(Image.fromarray(pixels), "JPEG", icc_profile=profile)), plain)
    rows = pixels.tobytes()
    for broken in (b"name\0\0no zlib stream", b"name\0\x07unknown method"):
        np.testing.assert_array_equal(decode(png(24, 16, 8, 2, rows, chunk(b"iCCP", broken))), pixels)


def test_a_file_and_its_bytes_decode_alike_whatever_the_name(tmp_path: Path) -> None:
    data = saved(Image.fromarray(noise(16, 24)), "PNG")
    for name in ("a.png", "b.JPG.jpg", "c", "d.eps", "é\n.tiff"):
        path = tmp_path / name
        path.write_bytes(data)
        np.testing.assert_array_equal(decode(path), decode(data))
        assert read_header(path).format == "PNG"
    assert read_header(tmp_path / "a.png").notes == ()
    assert read_header(tmp_path / "b.JPG.jpg").notes == ("extension_lies",)
    assert read_header(tmp_path / "c").notes == ()
