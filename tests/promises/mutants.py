"""Pictures damaged in seeded ways: python -m tests.promises.mutants COUNT [SEED] looks at COUNT of them.

A mutant is a function of its number and the seed. It begins as one of some sixty small pictures: all formats, their
modes, compressions and metadata. What is done to it: bits flipped, bytes set, ends cut, parts removed, doubled, moved,
or taken from another picture of the format; numbers that look like lengths changed; chunks of a PNG swapped. Checksums
of a PNG are put right half of the time, so that damage gets past them.
"""

from __future__ import annotations

import collections
import functools
import re
import struct
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tellapart.data.facts import PictureFacts, gather
from tellapart.images import DecodePolicy, default_threads
from tellapart.images.examine import Refusal

from ..corpus import pictures
from ..corpus.pictures import chunk, photo, png, saved

__all__ = ["known_codes", "largest_child_bytes", "looked_at", "mutant", "seeds"]

_AT_ONCE = 2_000
_GRAVE = ("decoder_crash", "decode_timeout", "decode_oom")
# Flips (0, 1), bytes, numbers (3, 4), a cut, less, more, from another, moved. A cut leaves little to be damaged.
_SHARES = (0.15, 0.15, 0.1, 0.15, 0.15, 0.02, 0.06, 0.06, 0.06, 0.1)
_NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


@functools.cache
def seeds() -> dict[str, tuple[bytes, ...]]:
    """Return the pictures that mutants are made of, by format."""
    rgb, grey = photo(), photo().convert("L")
    bits, palette = rgb.convert("1"), rgb.quantize(16)
    rgba = rgb.convert("RGBA")
    rgba.putalpha(grey)
    more = [photo(seed=1), photo(seed=2)]
    exif, icc, xmp = pictures.placed(), pictures.DISPLAY_P3, b"<x exif:GPSLatitude='48,8N'/>"
    deep = Image.fromarray(pictures.levels())
    texts = (chunk(b"tEXt", b"a\0words"), chunk(b"zTXt", b"a\0\0" + zlib.compress(b"words" * 99)))
    rows = np.arange(16 * 16 * 3, dtype=">u2").tobytes()
    layers = {"save_all": True, "append_images": more}
    tiffs = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd", "lzma")
    return {
        "JPEG": (
            saved(rgb),
            saved(rgb, progressive=True),
            saved(rgb, subsampling=0, quality=95, optimize=True),
            saved(rgb, restart_marker_blocks=2),
            saved(rgb, exif=exif, icc_profile=icc, xmp=xmp, comment="words"),
            saved(rgb, exif=pictures.turned(6), progressive=True, icc_profile=pictures.ADOBE_RGB),
            saved(grey),
            saved(grey, progressive=True),
            saved(rgb.convert("CMYK")),
            saved(photo(640, 480), quality=30),
        ),
        "PNG": (
            saved(rgb, "PNG"),
            saved(rgba, "PNG", exif=exif, icc_profile=icc),
            saved(grey, "PNG"),
            saved(Image.merge("LA", (grey, grey)), "PNG"),
            saved(bits, "PNG"),
            saved(palette, "PNG", transparency=3),
            saved(deep, "PNG"),
            saved(rgb, "PNG", **layers),
            png(16, 16, 16, 2, rows, *texts, chunk(b"tRNS", bytes(6))),
            png(16, 16, 2, 0, bytes(range(64)), chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"words"))),
        ),
        "WEBP": (
            saved(rgb, "WEBP"),
            saved(rgb, "WEBP", lossless=True),
            saved(rgba, "WEBP"),
            saved(rgba, "WEBP", lossless=True, exif=exif, icc_profile=icc, xmp=xmp),
            saved(rgb, "WEBP", **layers),
        ),
        "GIF": (
            saved(palette, "GIF"),
            saved(palette, "GIF", transparency=1, interlace=0),
            saved(grey, "GIF", comment=b"words"),
            saved(grey, "GIF", save_all=True, append_images=[other.convert("L") for other in more], loop=0),
        ),
        "BMP": (saved(rgb, "BMP"), saved(bits, "BMP"), saved(palette, "BMP"), saved(rgba, "BMP"), _run_lengths()),
        "TIFF": (
            *(saved(rgb, "TIFF", compression=kind) for kind in tiffs),
            *(saved(bits, "TIFF", compression=kind) for kind in ("group3", "group4", "tiff_ccitt")),
            saved(deep, "TIFF"),
            saved(deep, "TIFF", compression="tiff_lzw"),
            saved(grey.convert("F"), "TIFF"),
            saved(rgb.convert("CMYK"), "TIFF", compression="tiff_lzw"),
            saved(rgb.convert("LAB"), "TIFF"),
            saved(rgb.convert("YCbCr"), "TIFF", compression="jpeg"),
            saved(palette, "TIFF"),
            saved(rgba, "TIFF", compression="tiff_lzw"),
            saved(rgb, "TIFF", big_tiff=True),
            saved(rgb, "TIFF", tiffinfo={0x0112: 6, 270: "words"}, icc_profile=icc, **layers),
        ),
    }


def _run_lengths() -> bytes:
    """Return a BMP of 24 x 16 levels, packed by run lengths (RLE8)."""
    rows = b"".join(bytes([8, y, 0, 4, 1, 2, 3, 4, 12, 255 - y, 0, 0]) for y in range(16)) + b"\0\1"
    colours = b"".join(bytes([level, level, level, 0]) for level in range(256))
    start = 14 + 40 + len(colours)
    head = struct.pack("<IiiHHIIiiII", 40, 24, 16, 1, 8, 1, len(rows), 2835, 2835, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + colours + rows


def mutant(number: int, seed: int = 0) -> bytes:
    """Return the bytes of a mutant; the same for the same numbers, always."""
    draw = np.random.Generator(np.random.Philox(key=[seed, number]))
    kinds = sorted(seeds())
    family = seeds()[kinds[draw.integers(len(kinds))]]
    data = bytearray(family[draw.integers(len(family))])
    for _ in range(1 + draw.geometric(0.5)):
        _damage(data, family[draw.integers(len(family))], draw)
    if data.startswith(b"\x89PNG") and draw.random() < 0.5:
        return _with_checksums(bytes(data))
    return bytes(data)


def _damage(data: bytearray, other: bytes, draw: np.random.Generator) -> None:
    size = len(data)
    if size < 8:
        return
    # Headers are where it hurts.
    at = int(draw.integers(size if draw.random() < 0.5 else min(size, 200)))
    length = int(min(draw.geometric(0.02), size - at))
    kind = int(draw.choice(10, p=_SHARES))
    if kind <= 1:
        for place in draw.integers(at, min(size, at + 64), 1 + int(draw.integers(8))):
            data[place] ^= 1 << int(draw.integers(8))
    elif kind == 2:
        data[at : at + length] = bytes([int(draw.choice([0, 1, 127, 128, 255]))]) * length
    elif kind <= 4:
        layout = str(draw.choice(["<H", ">H", "<I", ">I"]))
        value = int(draw.choice(_NUMBERS)) if draw.random() < 0.7 else int(draw.integers(1 << 32))
        if at + struct.calcsize(layout) <= size:
            struct.pack_into(layout, data, at, value % (1 << 8 * struct.calcsize(layout)))
    elif kind == 5:
        del data[max(8, at) :]
    elif kind == 6:
        del data[at : at + length]
    elif kind == 7:
        target = int(draw.integers(size))
        data[target:target] = data[at : at + length] * int(draw.choice([1, 1, 2, 100]))
    elif kind == 8:
        start = int(draw.integers(len(other)))
        data[at : at + length] = other[start : start + int(draw.geometric(0.01))]
    elif data.startswith(b"\x89PNG"):
        _swap_chunks(data, draw)
    else:
        target = int(draw.integers(size))
        part = bytes(data[at : at + length])
        data[at : at + length] = data[target : target + length]
        data[target : target + len(part)] = part


def _chunks(data: bytes) -> list[bytes]:
    found, at = [], 8
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">I", data, at)[0]
        found.append(bytes(data[at:end]))
        at = end
    return [*found, bytes(data[at:])]


def _swap_chunks(data: bytearray, draw: np.random.Generator) -> None:
    found = _chunks(bytes(data))
    one, two = draw.integers(len(found), size=2).tolist()
    found[one], found[two] = found[two], found[one]
    if draw.random() < 0.3:
        found.insert(two, found[one])
    data[8:] = b"".join(found)


def _with_checksums(data: bytes) -> bytes:
    *found, rest = _chunks(data)
    return data[:8] + b"".join(chunk(part[4:8], part[8:-4]) if len(part) >= 12 else part for part in found) + rest


def known_codes() -> set[str]:
    """Return every code that has a section in docs/errors.md."""
    text = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    return set(re.findall(r"^#+ `?([a-z_0-9]+)`?$", text, flags=re.MULTILINE))


def _take(found: list[PictureFacts | Refusal], fact: PictureFacts | Refusal, _: tuple[int, int]) -> None:
    found.append(fact)


def looked_at(count: int, seed: int = 0) -> tuple[collections.Counter[str], list[str]]:
    """Let the scan's own code look at `count` mutants.

    Returns how often each verdict was given, `used` among them, and what is to be looked into: crashes and timeouts.
    """
    verdicts, grave = collections.Counter[str](), []
    # More of a picture is read where it may be cut.
    policies = [DecodePolicy(colour_profiles="srgb", allow_truncated=allowed) for allowed in (False, True)]
    for start in range(0, count, _AT_ONCE):
        with tempfile.TemporaryDirectory() as place:
            names = [f"{number}.bin" for number in range(start, min(count, start + _AT_ONCE))]
            for name in names:
                Path(place, name).write_bytes(mutant(int(name[:-4]), seed))
            found: list[PictureFacts | Refusal] = []
            policy, cache = policies[start // _AT_ONCE % 2], Path(place, "cache")
            take = functools.partial(_take, found)
            for _ in gather(Path(place), names, policy, cache, default_threads(), take):
                pass
            assert len(found) == len(names)
            verdicts.update(fact.code if isinstance(fact, Refusal) else "used" for fact in found)
            for name, fact in zip(names, found, strict=True):
                if isinstance(fact, Refusal) and fact.code in _GRAVE:
                    grave.append(f"{name[:-4]}: {fact.code}: {fact.note}")
    return verdicts, grave


def largest_child_bytes() -> int:
    """Return the largest resident memory that any child of this process, still there, has ever had (Linux; else 0)."""
    largest = 0
    for listed in Path("/proc/self/task").glob("*/children"):
        for child in listed.read_text().split():
            text = Path("/proc", child, "status").read_text()
            peak = re.search(r"VmHWM:\s+(\d+) kB", text)
            largest = max(largest, int(peak[1]) * 1024 if peak else 0)
    return largest


def main() -> None:
    """Look at mutants, and say what came of them."""
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = time.monotonic()
    verdicts, grave = looked_at(count, seed)
    for code, times in verdicts.most_common():
        print(f"{times:8,}  {code}")
    print(*grave, sep="\n")
    print(f"{count:,} in {time.monotonic() - began:.0f} s; largest process {largest_child_bytes() / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
