"""What is no usable picture is refused with its code and one sentence, and nothing but PictureError ever comes out."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tellapart.errors import PictureError
from tellapart.images import DecodePolicy, Preprocess, decode, prepare, read_header, sixteen_bit_peak


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_head(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


NOISE = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
RGB = Image.fromarray(NOISE[..., :3])
JPEG = saved(RGB, "JPEG")
PNG = saved(RGB, "PNG")
BOX = b"\x00\x00\x00\x20ftyp"

REFUSED: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "empty_file", "empty"),
    "html": (b"\n<!DOCTYPE html><html><body>404</body></html>", "not_an_image", "HTML"),
    "html with a BOM": (b"\xef\xbb\xbf<html>", "not_an_image", "HTML"),
    "json": (b'{"error": "not found"}', "not_an_image", "JSON"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "not_an_image", "XML"),
    "text": ("nur ein Text, grün".encode(), "not_an_image", "text"),
    "text that begins like a BMP": (b"BMW is a maker of cars in Munich, Bavaria", "not_an_image", "text"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not_an_image", "Git LFS"),
    "zip": (b"PK\x03\x04" + b"\x00" * 99, "not_an_image", "zip"),
    "empty zip": (b"PK\x05\x06" + b"\x00" * 18, "not_an_image", "a zip archive"),
    "zip in parts": (b"PK\x07\x08PK\x03\x04" + b"\x00" * 99, "not_an_image", "a zip archive"),
    "gzip": (b"\x1f\x8b\x08" + b"\x01" * 99, "not_an_image", "gzip"),
    "video": (BOX + b"isom" + b"\0" * 20, "not_an_image", "video"),
    "zeros": (bytes(1000), "not_an_image", "zero bytes"),
    "noise": (bytes(NOISE[7:, ..., 3].ravel()), "not_an_image", "no known format"),
    "svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "unsupported_format", "SVG"),
    "bare svg": (b"<svg/>", "unsupported_format", "SVG"),
    "heic": (BOX + b"heic" + b"\0" * 20, "unsupported_format", "HEIC"),
    "avif": (BOX + b"avif" + b"\0" * 20, "unsupported_format", "AVIF"),
    "pdf": (b"%PDF-1.7\n", "unsupported_format", "PDF"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format", "PostScript"),
    "eps": (b"\xc5\xd0\xd3\xc6" + b"\0" * 30, "unsupported_format", "EPS"),
    "raw": (b"II*\0\x10\0\0\0CR\x02\0" + b"\0" * 30, "unsupported_format", "camera raw"),
    "jpeg 2000": (saved(RGB, "JPEG2000"), "unsupported_format", "JPEG 2000"),
    "icon": (saved(RGB, "ICO"), "unsupported_format", "icon"),
    "ppm": (saved(RGB, "PPM"), "unsupported_format", "PPM"),
    "float": (saved(Image.fromarray(NOISE[..., 0].astype(np.float32)), "TIFF"), "unsupported_format", "floating-point"),
    "int32": (saved(Image.fromarray(NOISE[..., 0].astype(np.int32)), "TIFF"), "unsupported_format", "integer"),
    "half a jpeg": (JPEG[: len(JPEG) // 2], "truncated", "ends early"),
    "jpeg without its last two bytes": (JPEG[:-2], "truncated", "end marker"),
    "jpeg cut in its header": (JPEG[:100], "truncated", "ends early"),
    "half a png": (PNG[: len(PNG) // 2], "truncated", "ends early"),
    "half a webp": (saved(RGB, "WEBP")[:60], "truncated", "ends early"),
    "half a gif": (saved(RGB.quantize(16), "GIF")[:200], "truncated", "ends early"),
    "half a bmp": (saved(RGB, "BMP")[:500], "truncated", "ends early"),
    "half a tiff": (saved(RGB, "TIFF")[:500], "truncated", "ends early"),
    "half an lzw tiff": (saved(RGB, "TIFF", compression="tiff_lzw")[:500], "truncated", "ends early"),
    "wrong crc": (PNG[:29] + bytes([PNG[29] ^ 1]) + PNG[30:], "corrupt", "damaged PNG"),
    "no pixels": (png_head(24, 20) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""), "truncated", "PNG"),
    "no zlib": (png_head(24, 20) + chunk(b"IDAT", b"rubbish!") + chunk(b"IEND", b""), "corrupt", "damaged PNG"),
    "unknown colour type": (png_head(24, 20, 8, 5) + PNG[33:], "corrupt", "damaged PNG"),
    "text bomb": (
        png_head(24, 20) + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))) + PNG[33:],
        "corrupt",
        "too large",
    ),
    "no width": (png_head(0, 20) + PNG[33:], "corrupt", "damaged PNG"),
    "one pixel": (saved(Image.new("RGB", (1, 1)), "PNG"), "too_small", "1x1"),
    "too low": (saved(Image.new("RGB", (100, 7)), "JPEG"), "too_small", "100x7"),
    "too long": (saved(Image.new("L", (10000, 9)), "PNG"), "extreme_aspect", "10000x9"),
    "bomb": (png_head(20000, 20000) + PNG[33:], "too_many_pixels", "400,000,000"),
    "a bomb beyond what Pillow allows": (png_head(2**31 - 1, 2**31 - 1) + PNG[33:], "too_many_pixels", "pixels"),
    "webp bomb": (
        b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3e\0" * 2 + b"\0" * 8,
        "too_many_pixels",
        "pixels",
    ),
    "gif bomb": (
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
        "too_many_pixels",
        "pixels",
    ),
    "bmp bomb": (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 154, 0, 0, 54, 40, 30000, 30000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100),
        "too_many_pixels",
        "900,000,000",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_code_and_one_sentence(kind: str, tmp_path: Path) -> None:
    data, code, words = REFUSED[kind]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    for source, name in ((data, "The picture"), (path, "photo.jpg")):
        with pytest.raises(PictureError) as caught:
            decode(source)
        error = caught.value
        assert error.code == code, error
        assert words in error.message
        assert error.message.startswith(name)
        assert error.message.endswith(".")
        assert error.next
        assert "\n" not in str(error)
        for verb in (lambda s: prepare(s, Preprocess(image_size=32)), sixteen_bit_peak):
            if code not in ("truncated", "corrupt"):
                with pytest.raises(PictureError, match=words):
                    verb(source)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.97])
def test_a_jpeg_whose_last_part_became_zeros_is_refused_though_a_decoder_takes_it(
    share: float, progressive: bool
) -> None:
    for pixels in (np.indices((300, 400)).sum(0) % 256, np.random.default_rng(0).integers(0, 256, (300, 400, 3))):
        whole = saved(Image.fromarray(pixels.astype(np.uint8)), "JPEG", quality=95, progressive=progressive)
        kept = int(share * len(whole))
        damaged = whole[:kept] + bytes(len(whole) - kept)
        with pytest.raises(PictureError) as caught:
            decode(damaged)
        assert caught.value.code == "truncated"
        assert decode(damaged, policy=DecodePolicy(allow_truncated=True)).shape == (300, 400, 3)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_that_ends_in_the_middle_is_not_said_to_have_all_of_its_pixels(subsampling: int) -> None:
    """With tables made for one picture, a few bytes of anything may be read as one block alone."""
    waves = np.fft.fft2(np.random.default_rng(0).normal(size=(400, 500, 3)), axes=(0, 1))
    length = np.hypot(np.fft.fftfreq(400)[:, None], np.fft.fftfreq(500)[None]) + 0.01
    like_a_photo = np.fft.ifft2(waves / length[..., None] ** 1.3, axes=(0, 1)).real
    pixels = (128 + 50 * like_a_photo / like_a_photo.std()).clip(0, 255).astype(np.uint8)
    whole = saved(Image.fromarray(pixels), "JPEG", quality=80, optimize=True, subsampling=subsampling)
    for share in (0.3, 0.5, 0.7, 0.9, 0.97):
        with pytest.raises(PictureError, match="a part of it is missing"):
            decode(whole[: int(share * len(whole))])
    with pytest.raises(PictureError, match="all of its pixels are there"):
        decode(whole[:-2])


@pytest.mark.parametrize("zeros", [1, 16, 4000, 200_000])
def test_zeros_that_fill_up_a_whole_jpeg_to_a_block_are_none_of_the_picture(zeros: int) -> None:
    assert (decode(JPEG + bytes(zeros)) == decode(JPEG)).all()


@pytest.mark.parametrize("filling", [65_533, 65_534, 65_535, 65_536, 300_000])
def test_a_jpeg_that_much_follows_is_whole_though_that_ends_in_zeros(filling: int) -> None:
    """A phone's moving picture has its film after it; films may end in zeros."""
    film = JPEG + b"\1" * filling + bytes(64)
    assert (decode(film) == decode(JPEG)).all()


def test_what_a_header_tells_is_refused_without_decoding() -> None:
    for kind in ("html", "bomb", "too long", "one pixel", "float", "heic", "text bomb", "no width"):
        with pytest.raises(PictureError) as caught:
            read_header(REFUSED[kind][0])
        assert caught.value.code == REFUSED[kind][1]
    assert read_header(JPEG[:-50]).width == 24, "a header is read from what is there"


def test_the_limits_are_the_policys_and_not_pillows() -> None:
    before = Image.MAX_IMAGE_PIXELS
    large = png_head(10_000, 9_500) + PNG[33:]  # 95 million pixels, where Pillow would warn
    with pytest.raises(PictureError) as caught:
        decode(large)
    assert caught.value.code == "too_many_pixels"
    assert read_header(large, DecodePolicy(max_pixels=95_000_000)).width == 10_000
    huge = png_head(10_000, 50_000) + PNG[33:]  # and where it would refuse
    assert read_header(huge, DecodePolicy(max_pixels=500_000_000)).height == 50_000
    assert before == Image.MAX_IMAGE_PIXELS
    strip = saved(Image.new("L", (1000, 4)), "PNG")
    assert decode(strip, policy=DecodePolicy(min_side_px=1, max_aspect=300)).shape == (4, 1000, 3)
    with pytest.raises(PictureError) as caught:
        decode(JPEG, policy=DecodePolicy(max_pixels=24 * 20 - 1))
    assert caught.value.code == "too_many_pixels"


def test_a_bomb_that_hides_behind_an_orientation_is_measured_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    header = read_header(saved(Image.new("RGB", (300, 10)), "JPEG", exif=exif), DecodePolicy())
    assert (header.width, header.height) == (10, 300)


def test_ghostscript_and_other_readers_are_never_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.Popen.__init__", forbidden)
    for kind in ("eps", "postscript", "pdf"):
        with pytest.raises(PictureError):
            decode(REFUSED[kind][0])


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    def code(path: Path) -> str:
        with pytest.raises(PictureError) as caught:
            decode(path)
        return caught.value.code

    assert code(tmp_path / "absent.jpg") == "unreadable"
    assert code(tmp_path) == "not_a_file"
    assert code(Path("nul\0byte.jpg")) == "unreadable"
    fifo = tmp_path / "fifo.jpg"
    os.mkfifo(fifo)
    assert code(fifo) == "not_a_file", "and it did not hang"
    loop = tmp_path / "loop.jpg"
    loop.symlink_to(loop)
    assert code(loop) == "unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)
    path.chmod(0)
    with pytest.raises(PictureError) as caught:
        decode(path)
    assert caught.value.code == "permission"


def test_a_hostile_name_does_not_break_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[31mb\udcff.jpg"
    path.write_bytes(b"")
    with pytest.raises(PictureError) as caught:
        decode(path)
    assert caught.value.message.isprintable()
    caught.value.message.encode()


def test_no_memory_is_a_refusal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.Image.core.new", exhausted)
    with pytest.raises(PictureError) as caught:
        decode(JPEG)
    assert caught.value.code == "decode_oom"


def test_bytes_after_the_end_are_noted_and_do_not_matter() -> None:
    for format in ("JPEG", "PNG", "WEBP", "BMP"):
        data = saved(RGB, format)
        assert read_header(data).notes == ()
        assert read_header(data + b"<?php echo 1; ?>").notes == ("trailing_bytes",)
        np.testing.assert_array_equal(decode(data + b"<?php echo 1; ?>"), decode(data))
    assert read_header(JPEG + bytes(100)).notes == (), "a camera that fills up a block"


GREY = RGB.convert("L")
WHOLE: dict[str, bytes] = {
    "jpeg": JPEG,
    "progressive jpeg": saved(RGB, "JPEG", progressive=True),
    "cmyk jpeg": saved(RGB.convert("CMYK"), "JPEG"),
    "png": PNG,
    "palette png": saved(RGB.quantize(7), "PNG", transparency=1),
    "16-bit png": saved(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257), "PNG"),
    "apng": saved(RGB, "PNG", save_all=True, append_images=[RGB.rotate(90)]),
    "webp": saved(RGB, "WEBP"),
    "lossless webp": saved(Image.fromarray(NOISE), "WEBP", lossless=True),
    "animated webp": saved(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(90)]),
    "gif": saved(RGB.quantize(50), "GIF"),
    "animated gif": saved(RGB.quantize(50), "GIF", save_all=True, append_images=[RGB.rotate(90).quantize(50)]),
    "bmp": saved(RGB, "BMP"),
    "1-bit bmp": saved(RGB.convert("1"), "BMP"),
    "tiff": saved(RGB, "TIFF"),
    "lzw tiff": saved(RGB, "TIFF", compression="tiff_lzw"),
    "jpeg tiff": saved(RGB, "TIFF", compression="jpeg"),
    "fax tiff": saved(RGB.convert("1"), "TIFF", compression="group4"),
    "two-page tiff": saved(RGB, "TIFF", save_all=True, append_images=[RGB.rotate(90)]),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_cut_anywhere_is_refused_or_changes_nothing(kind: str) -> None:
    whole = WHOLE[kind]
    expected = decode(whole)
    for cut in range(0, len(whole), max(1, len(whole) // 200)):
        try:
            got = decode(whole[:cut])
        except PictureError:
            continue
        np.testing.assert_array_equal(got, expected, err_msg=f"{kind} cut to {cut} of {len(whole)} bytes")


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
    head=st.booleans(),
)
@example(kind="tiff", flips=[(0.0, 0)], head=True)
def test_damage_anywhere_raises_picture_error_or_nothing(kind: str, flips: list[tuple[float, int]], head: bool) -> None:
    data = bytearray(WHOLE[kind])
    reach = min(200, len(data)) if head else len(data)
    for place, value in flips:
        data[int(place * reach)] = value
    policy = DecodePolicy(max_pixels=1_000_000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            header = read_header(bytes(data), policy)
            pixels = decode(bytes(data), policy=policy)
        except PictureError:
            pass
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape == (header.height, header.width, 3)
    assert not caught


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", *(data[:8] for data in WHOLE.values())]))
def test_any_bytes_at_all_raise_nothing_but_picture_error(tail: bytes, head: bytes) -> None:
    for verb in (decode, read_header):
        try:
            verb(head + tail)
        except PictureError as error:
            assert error.message.endswith(".")  # noqa: PT017
