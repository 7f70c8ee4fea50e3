"""The bad inputs that are pictures: cases 1 to 42, each made here, from nothing but Pillow, struct and zlib.

A case gives the bytes of one file and says what is to come of it: left out with a code, or used, with notes on the
picture and perhaps a colour that its first pixel has to have. `options` are what a person has to have asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["CASES", "Case", "chunk", "photo", "png", "profile", "saved"]

Colour = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Case:
    """One bad picture. `left` is the code of what is left out; `notes` are of what is used; `words` stand in a message.

    `colour` is what the pixel at the top left is to be, within `within` levels; `twin` makes a file of the same pixels.
    """

    number: int
    name: str
    build: Callable[[], bytes]
    left: str | None = None
    notes: tuple[str, ...] = ()
    words: str = ""
    colour: Colour | None = None
    within: int = 2
    twin: Callable[[], bytes] | None = None
    suffix: str = ".jpg"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def id(self) -> str:
        """How a test of this case is called."""
        return f"case {self.number:02d} {self.name}"


def photo(width: int = 48, height: int = 40, seed: int = 0) -> Image.Image:
    """Return a picture with shapes, edges and grain, mode RGB."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 7 + k + seed) + np.cos(y / 5 - k) for k in range(3)], axis=-1)
    grain = np.random.default_rng(seed).normal(0, 4, (height, width, 1))
    return Image.fromarray(np.clip(128 + 50 * waves + grain, 0, 255).astype(np.uint8))


def saved(picture: Image.Image, format: str = "JPEG", **options: Any) -> bytes:
    """Return the bytes of a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes | None, *before: bytes) -> bytes:
    """Return a PNG written by hand; `rows` without filter bytes, or None for one whose pixels do not matter."""
    data = b"" if rows is None else _filtered(rows, height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    parts = [b"\x89PNG\r\n\x1a\n", head, *before, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"".join(parts)


def _filtered(rows: bytes, height: int) -> bytes:
    stride = len(rows) // height
    return b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))


def exif(*entries: tuple[int, int, int, bytes], directory: int = 8, after: bytes = b"") -> bytes:
    """Return an EXIF block: (tag, type, count, four bytes) each, and what follows the first directory."""
    body = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    head = b"Exif\0\0II*\0" + struct.pack("<IH", directory, len(entries))
    return head + body + struct.pack("<I", 0) + after


def turned(orientation: int) -> bytes:
    """Return an EXIF block with an orientation."""
    return exif((0x0112, 3, 1, struct.pack("<HH", orientation, 0)))


def placed() -> bytes:
    """Return an EXIF block that tells a place: 48 degrees north, 11 degrees east."""
    at = 8 + 2 + 12 + 4
    degrees = struct.pack("<6I", 48, 1, 8, 1, 0, 1) + struct.pack("<6I", 11, 1, 34, 1, 0, 1)
    values = at + 2 + 4 * 12 + 4
    entries = [(1, 2, 2, b"N\0\0\0"), (2, 5, 3, struct.pack("<I", values)), (3, 2, 2, b"E\0\0\0")]
    entries.append((4, 5, 3, struct.pack("<I", values + 24)))
    place = struct.pack("<H", 4) + b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return exif((0x8825, 4, 1, struct.pack("<I", at)), after=place + struct.pack("<I", 0) + degrees)


def profile(primaries: tuple[tuple[float, float, float], ...], gamma: float) -> bytes:
    """Return an ICC profile (version 2) of three primaries, XYZ under D50 each, and a plain gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {
        **{
            name: b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in xyz))
            for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True)
        },
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"wide\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
    }
    start = 128 + 4 + 12 * len(tags)
    table, content = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, start + len(content), len(tag))
        content += tag + bytes(-len(tag) % 4)
    size = start + len(content)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + bytes(12) + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + content


# XYZ under D50 of the primaries; the gamma that Adobe RGB names, and one near that of Display P3.
ADOBE_RGB = profile(((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 2.19921875)
DISPLAY_P3 = profile(((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)), 2.2)


def gif(frames: int, side: int = 40) -> bytes:
    """Return a GIF of so many frames, the first of grey level 200."""
    first, *more = [Image.new("L", (side, side), (200 + 7 * number) % 256) for number in range(frames)]
    return saved(first, "GIF", save_all=True, append_images=more, duration=10)


def animated(format: str) -> bytes:
    """Return an animation of three frames; the first is red."""
    frames = [Image.new("RGB", (40, 40), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    options = {"lossless": True} if format == "WEBP" else {}
    return saved(frames[0], format, save_all=True, append_images=frames[1:], **options)


def many_scans(side: int, scans: int) -> bytes:
    """Return a grey progressive JPEG whose last scan comes so many times: a few bytes each, all the work each time."""
    once = saved(Image.new("L", (side, side), 128), progressive=True)
    last = once.rindex(b"\xff\xda")
    return once[:last] + once[last:-2] * scans + b"\xff\xd9"


def levels(scale: int = 257) -> NDArray[np.uint16]:
    """Return a ramp of 16-bit levels, [40, 48], that begins at 100 times the scale."""
    return (np.arange(40 * 48, dtype=np.uint16).reshape(40, 48) % 100 + np.uint16(100)) * np.uint16(scale)


def noisy_tiff() -> bytes:
    """Return a fax that decodes, and whose decoder complains: one bit of a line is wrong."""
    data = bytearray(saved(photo().convert("1"), "TIFF", compression="group3"))
    data[240] = 208
    return bytes(data)


JPEG = saved(photo(), quality=90)
PNG = saved(photo(), "PNG")
BOX = b"\x00\x00\x00\x20ftyp"
RED = (254, 0, 0)


def _zeroed(data: bytes) -> bytes:
    """Return a file whose second half is overwritten by zero bytes, as a copy leaves it that broke off."""
    return data[: len(data) // 2].ljust(len(data), b"\0")


_LEFT_OUT: tuple[tuple[int, str, Callable[[], bytes], str, str], ...] = (
    (1, "empty", lambda: b"", "empty_file", "empty"),
    (2, "a page of html", lambda: b"<!DOCTYPE html><html>404</html>", "not_an_image", "HTML"),
    (2, "json", lambda: b'{"error": "not found"}', "not_an_image", "JSON"),
    (2, "xml", lambda: b'<?xml version="1.0"?><Error/>', "not_an_image", "XML"),
    (3, "truncated jpeg", lambda: JPEG[: len(JPEG) // 2], "truncated", "ends early"),
    (3, "truncated progressive jpeg", lambda: saved(photo(), progressive=True)[:-200], "truncated", "ends early"),
    (3, "jpeg cut in its header", lambda: JPEG[:150], "truncated", "ends early"),
    (4, "jpeg without its last two bytes", lambda: JPEG[:-2], "truncated", "end marker"),
    (
        4,
        "jpeg whose second half is zeros",
        lambda: _zeroed(saved(photo(), progressive=True)),
        "truncated",
        "ends early",
    ),
    (4, "jpeg without its last byte", lambda: JPEG[:-1], "truncated", "end marker"),
    (5, "truncated png", lambda: PNG[: len(PNG) // 2], "truncated", "ends early"),
    (5, "truncated webp", lambda: saved(photo(), "WEBP")[:200], "truncated", "ends early"),
    (5, "truncated gif", lambda: saved(photo().quantize(64), "GIF")[:900], "truncated", "ends early"),
    (10, "eps", lambda: b"\xc5\xd0\xd3\xc6" + bytes(30), "unsupported_format", "EPS"),
    (10, "postscript", lambda: b"%!PS-Adobe-3.0\n%%BoundingBox: 0 0 9 9\n", "unsupported_format", "PostScript"),
    (10, "pdf", lambda: b"%PDF-1.7\n", "unsupported_format", "PDF"),
    (11, "svg", lambda: b'<?xml version="1.0"?><svg><script/></svg>', "unsupported_format", "SVG"),
    (12, "heic", lambda: BOX + b"heic" + bytes(20), "unsupported_format", "HEIC"),
    (12, "camera raw", lambda: b"II*\0\x10\0\0\0CR\x02\0" + bytes(30), "unsupported_format", "raw"),
    (13, "avif", lambda: BOX + b"avif" + bytes(20), "unsupported_format", "AVIF"),
    (13, "jpeg 2000", lambda: saved(photo(), "JPEG2000"), "unsupported_format", "JPEG 2000"),
    (13, "icon", lambda: saved(photo(32, 32), "ICO"), "unsupported_format", "icon"),
    (13, "ppm", lambda: saved(photo(), "PPM"), "unsupported_format", "PPM"),
    (18, "float tiff", lambda: saved(photo().convert("F"), "TIFF"), "unsupported_format", "floating-point"),
    (18, "32-bit tiff", lambda: saved(photo().convert("I"), "TIFF"), "unsupported_format", "integer"),
    (26, "frames over the budget", lambda: gif(600, 300), "too_many_pixels", "600 frames"),
    (28, "one pixel", lambda: saved(Image.new("RGB", (1, 1)), "PNG"), "too_small", "1x1"),
    (28, "seven pixels high", lambda: saved(photo(48, 7)), "too_small", "48x7"),
    (29, "a strip", lambda: saved(Image.new("L", (50_000, 8)), "PNG"), "extreme_aspect", "50000x8"),
    (29, "one row", lambda: saved(Image.new("L", (50_000, 1)), "PNG"), "extreme_aspect", "50000x1"),
    (30, "no width", lambda: png(0, 20, 8, 2, None), "corrupt", "damaged"),
    (30, "no height", lambda: png(20, 0, 8, 2, None), "corrupt", "damaged"),
    (31, "bomb", lambda: png(20_000, 20_000, 1, 0, bytes(2500 * 20_000)), "too_many_pixels", "400,000,000"),
    (32, "81 megapixels", lambda: png(9000, 9000, 8, 2, None), "too_many_pixels", "81,000,000"),
    (33, "text bomb", lambda: png(20, 20, 8, 2, None, _text_bomb(b"zTXt")), "corrupt", "damaged"),
    (33, "international text bomb", lambda: png(20, 20, 8, 2, None, _text_bomb(b"iTXt")), "corrupt", "damaged"),
    (34, "gzip bomb", lambda: _gzip(bytes(10**7)), "not_an_image", "gzip"),
    (34, "fits", lambda: b"SIMPLE  =                    T".ljust(2880), "unsupported_format", "FITS"),
    (36, "a progressive jpeg of thousands of scans", lambda: many_scans(6000, 8000), "decode_timeout", "seconds"),
    (37, "bad crc of a header", lambda: PNG[:29] + bytes([PNG[29] ^ 1]) + PNG[30:], "corrupt", "damaged"),
    (37, "bad crc of pixels", lambda: _bad_idat(PNG), "corrupt", "damaged"),
)


def _text_bomb(kind: bytes) -> bytes:
    flags = b"\0\1\0\0\0" if kind == b"iTXt" else b"\0\0"
    return chunk(kind, b"comment" + flags + zlib.compress(bytes(2 * 10**8), 1))


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def _bad_idat(data: bytes) -> bytes:
    at = data.index(b"IDAT") + 40
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _rgba() -> Image.Image:
    picture = photo().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 10, 10))
    return picture


def _palette() -> bytes:
    picture = Image.new("P", (40, 40), 2)
    picture.putpalette([9, 8, 7, 200, 0, 0, 0, 0, 200])
    picture.paste(1, (20, 20, 40, 40))
    return saved(picture, "PNG", transparency=2)


def _ycck() -> bytes:
    # A file of YCCK is the one of CMYK with a 2 in the Adobe segment. This YCbCr stands for the inks (55, 205, 155).
    data = bytearray(saved(Image.new("CMYK", (16, 16), (154, 127, 56, 0)), quality=100, subsampling=0))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def _sixteen_bit_colour() -> bytes:
    rows = np.full((16, 16, 3), (40_000, 20_000, 10_000), dtype=">u2")
    return png(16, 16, 16, 2, rows.tobytes())


def _cyclic() -> bytes:
    return exif((0x8769, 4, 1, struct.pack("<I", 8)))


def _red_left(orientation: int) -> bytes:
    """Return a picture that is red at the top left when it is upright."""
    picture = Image.new("RGB", (64, 32), (0, 0, 254))
    corner = {1: (0, 0), 2: (48, 0), 3: (48, 16), 4: (0, 16), 5: (0, 0), 6: (0, 16), 7: (48, 16), 8: (48, 0)}
    x, y = corner[orientation]
    picture.paste(RED, (x, y, x + 16, y + 16))
    return saved(picture, quality=100, subsampling=0, exif=turned(orientation))


def _flat(colour: Any, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (40, 40), colour)


_PAGES = {"save_all": True, "append_images": [_flat((0, 250, 0))]}
_USED = (
    Case(
        7, "trailing bytes of a jpeg", lambda: JPEG + b"<?php echo 1; ?>", notes=("trailing_bytes",), twin=lambda: JPEG
    ),
    Case(7, "much after a jpeg", lambda: JPEG + b"\1" * 200_000, notes=("trailing_bytes",), twin=lambda: JPEG),
    Case(
        7,
        "trailing bytes of a png",
        lambda: PNG + b"PK\3\4",
        None,
        ("trailing_bytes",),
        suffix=".png",
        twin=lambda: PNG,
    ),
    Case(7, "trailing bytes of a gif", lambda: gif(1) + b"PK\3\4", None, ("trailing_bytes",), suffix=".gif"),
    Case(8, "a png called jpg", lambda: PNG, notes=("extension_lies",), twin=lambda: PNG),
    Case(9, "no extension", lambda: JPEG, suffix="", twin=lambda: JPEG),
    Case(9, "two extensions", lambda: JPEG, suffix=".JPG.jpg", twin=lambda: JPEG),
    Case(9, "upper case", lambda: JPEG, suffix=".JPEG", twin=lambda: JPEG),
    Case(14, "cmyk jpeg", lambda: saved(_flat((0, 255, 255, 0), "CMYK"), quality=100), colour=(255, 0, 0)),
    Case(14, "ycck jpeg", _ycck, colour=(55, 205, 155), within=3),
    Case(15, "grey jpeg", lambda: saved(_flat(77, "L")), colour=(77, 77, 77)),
    Case(15, "one bit", lambda: saved(_flat(1, "1"), "PNG"), None, suffix=".png", colour=(255, 255, 255)),
    Case(15, "grey with alpha", lambda: saved(_flat((50, 0), "LA"), "PNG"), suffix=".png", colour=(255, 255, 255)),
    Case(16, "16-bit grey png", lambda: saved(Image.fromarray(levels()), "PNG"), suffix=".png", colour=(100, 100, 100)),
    Case(
        16, "16-bit grey tiff", lambda: saved(Image.fromarray(levels()), "TIFF"), suffix=".tif", colour=(100, 100, 100)
    ),
    Case(17, "16-bit colour", _sixteen_bit_colour, None, ("sixteen_bit_colour",), suffix=".png", colour=(156, 78, 39)),
    Case(19, "rgba", lambda: saved(_rgba(), "PNG"), suffix=".png", colour=(255, 255, 255)),
    Case(
        19,
        "rgba on black",
        lambda: saved(_rgba(), "PNG"),
        suffix=".png",
        colour=(0, 0, 0),
        options={"background": (0, 0, 0)},
    ),
    Case(19, "a palette with a transparent colour", _palette, suffix=".png", colour=(255, 255, 255)),
    Case(
        20,
        "lab tiff",
        lambda: saved(_flat((138, 209, 198), "LAB"), "TIFF"),
        suffix=".tif",
        colour=(255, 0, 0),
        within=8,
    ),
    Case(
        20,
        "ycbcr tiff",
        lambda: saved(_flat((200, 50, 100)).convert("YCbCr"), "TIFF"),
        suffix=".tif",
        colour=(200, 50, 100),
    ),
    Case(
        21,
        "a profile that is none",
        lambda: saved(photo(), icc_profile=b"none", quality=90),
        notes=("icc_profile_broken",),
        twin=lambda: JPEG,
    ),
    Case(
        21,
        "a huge profile",
        lambda: saved(photo(), icc_profile=bytes(3 << 20), quality=90),
        notes=("icc_profile_broken",),
        twin=lambda: JPEG,
    ),
    Case(
        21,
        "a png's profile that is no zlib",
        lambda: _with_chunk(b"iCCP", b"name\0\0none"),
        None,
        ("icc_profile_broken",),
        suffix=".png",
        twin=lambda: PNG,
    ),
    Case(
        21,
        "a profile whose tags lie outside",
        lambda: saved(photo(), icc_profile=DISPLAY_P3[:300], quality=90),
        notes=("icc_profile_broken",),
        twin=lambda: JPEG,
    ),
    Case(
        22,
        "display p3",
        lambda: saved(_flat((200, 100, 50)), "PNG", icc_profile=DISPLAY_P3),
        None,
        ("wide_gamut",),
        suffix=".png",
        colour=(216, 93, 24),
    ),
    Case(
        22,
        "adobe rgb",
        lambda: saved(_flat((100, 200, 100)), "PNG", icc_profile=ADOBE_RGB),
        None,
        ("wide_gamut",),
        suffix=".png",
        colour=(0, 201, 92),
        within=3,
    ),
    Case(
        22,
        "display p3 ignored",
        lambda: saved(_flat((200, 100, 50)), "PNG", icc_profile=DISPLAY_P3),
        None,
        ("wide_gamut_ignored",),
        suffix=".png",
        colour=(200, 100, 50),
        options={"colour_profiles": "ignore"},
    ),
    *(Case(23, f"orientation {number}", functools.partial(_red_left, number), colour=RED) for number in range(1, 9)),
    Case(
        24,
        "orientation 99",
        lambda: saved(photo(), exif=turned(99), quality=90),
        notes=("exif_broken",),
        twin=lambda: JPEG,
    ),
    Case(
        24,
        "cut exif",
        lambda: saved(photo(), exif=turned(6)[:18], quality=90),
        notes=("exif_broken",),
        twin=lambda: JPEG,
    ),
    Case(
        24, "cyclic exif", lambda: saved(photo(), exif=_cyclic(), quality=90), notes=("exif_broken",), twin=lambda: JPEG
    ),
    Case(25, "a place in exif", lambda: saved(photo(), exif=placed(), quality=90), notes=("place",), twin=lambda: JPEG),
    Case(
        25,
        "a place in a png",
        lambda: saved(photo(), "PNG", exif=placed()),
        None,
        ("place",),
        suffix=".png",
        twin=lambda: PNG,
    ),
    Case(
        25,
        "a place in xmp",
        lambda: saved(photo(), xmp=b"<x exif:GPSLatitude='48,8N'/>", quality=90),
        notes=("place",),
        twin=lambda: JPEG,
    ),
    Case(26, "animated gif", lambda: gif(5), None, ("several_frames: 5",), suffix=".gif", colour=(200, 200, 200)),
    Case(26, "animated png", lambda: animated("PNG"), None, ("several_frames: 3",), suffix=".png", colour=(250, 0, 0)),
    Case(
        26, "animated webp", lambda: animated("WEBP"), None, ("several_frames: 3",), suffix=".webp", colour=(250, 0, 0)
    ),
    Case(
        27,
        "two pages",
        lambda: saved(_flat((250, 0, 0)), "TIFF", **_PAGES),
        None,
        ("several_pages: 2",),
        suffix=".tif",
        colour=(250, 0, 0),
    ),
    Case(
        3,
        "truncated jpeg, allowed",
        lambda: JPEG[:-300],
        notes=("truncated",),
        options={"allow_truncated": True},
    ),
    Case(
        4,
        "jpeg without its end, allowed",
        lambda: JPEG[:-2],
        notes=("truncated",),
        twin=lambda: JPEG,
        options={"allow_truncated": True},
    ),
    Case(
        5,
        "truncated png, allowed",
        lambda: PNG[: len(PNG) // 2],
        None,
        ("truncated",),
        suffix=".png",
        options={"allow_truncated": True},
    ),
    Case(
        3,
        "nothing but a header, allowed",
        lambda: PNG[:33],
        "truncated",
        suffix=".png",
        options={"allow_truncated": True},
    ),
    Case(40, "a tiff that is complained of", noisy_tiff, None, ("decoder_noise",), suffix=".tif"),
    Case(41, "blank", lambda: saved(_flat((255, 255, 255))), colour=(255, 255, 255)),
)


def _with_chunk(kind: bytes, content: bytes) -> bytes:
    return PNG[:33] + chunk(kind, content) + PNG[33:]


CASES = (
    *(Case(number, name, build, code, words=words) for number, name, build, code, words in _LEFT_OUT),
    *_USED,
)
