"""Pictures damaged in seeded ways: python -m tests.promises.mutants COUNT [SEED] looks at COUNT of them."""

from __future__ import annotations

import collections
import io
import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tellapart.data.facts import gather
from tellapart.images import DecodePolicy, default_threads
from tellapart.images.examine import Refusal

_AT_ONCE = 2_000


def seeds() -> list[bytes]:
    """Return small pictures of every format and mode that is read, with EXIF, colour profiles and texts in some."""
    rng = np.random.default_rng(0)
    colour = Image.fromarray(rng.integers(0, 256, (40, 56, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    wanted: list[tuple[Image.Image, str, dict[str, object]]] = [
        (colour, "JPEG", {"quality": 80, "exif": exif}),
        (colour, "JPEG", {"quality": 60, "progressive": True, "icc_profile": bytes(600)}),
        (colour.convert("L"), "JPEG", {}),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "PNG", {"exif": exif}),
        (colour.convert("P"), "PNG", {"transparency": 3}),
        (colour.convert("1"), "PNG", {}),
        (colour.convert("RGBA"), "PNG", {"icc_profile": bytes(600)}),
        (Image.fromarray(rng.integers(0, 65536, (40, 56)).astype(np.uint16)), "PNG", {}),
        (colour, "WEBP", {"quality": 70}),
        (colour.convert("RGBA"), "WEBP", {"lossless": True}),
        (colour.convert("P"), "GIF", {"save_all": True, "append_images": [colour.convert("P")]}),
        (colour, "BMP", {}),
        (colour.convert("P"), "BMP", {}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (colour, "TIFF", {"compression": "jpeg"}),
        (colour.convert("L"), "TIFF", {"compression": "tiff_adobe_deflate"}),
    ]
    made = []
    for picture, kind, options in wanted:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        made.append(file.getvalue())
    return made


def mutant(number: int, seed: int, whole: list[bytes]) -> bytes:
    """Return picture `number`, damaged in one to four ways, a function of (seed, number)."""
    rng = np.random.default_rng([seed, number])
    content = bytearray(whole[number % len(whole)])
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(content)))
        way = int(rng.integers(0, 7))
        if way == 0:  # bits turn
            content[at] ^= 1 << int(rng.integers(0, 8))
        elif way == 1:  # bytes turn
            end = min(len(content), at + int(rng.integers(1, 9)))
            content[at:end] = rng.integers(0, 256, end - at).astype(np.uint8).tobytes()
        elif way == 2:  # a length, or another number, grows out of measure
            content[at : at + 4] = bytes(rng.choice([0x00, 0x7F, 0x80, 0xFF], 4).astype(np.uint8).tolist())
        elif way == 3 and len(content) > 40:  # the rest is lost
            del content[max(16, at) :]
        elif way == 4:  # a part comes twice
            content[at:at] = content[at : at + int(rng.integers(1, 200))]
        elif way == 5:  # a part is lost
            del content[at : at + int(rng.integers(1, 60))]
            content = content or bytearray(b"\0")
        else:  # a part of another picture lies in its place
            other = whole[int(rng.integers(0, len(whole)))]
            start = int(rng.integers(0, len(other)))
            part = other[start : start + int(rng.integers(1, 300))]
            content[at : at + len(part)] = part
    return bytes(content)


def known_codes() -> set[str]:
    """Return every code that has a section in docs/errors.md."""
    text = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    return set(re.findall(r"^#+ `?([a-z_0-9]+)`?$", text, flags=re.MULTILINE))


def looked_at(count: int, seed: int = 0) -> collections.Counter[str]:
    """Let the scan's own code look at `count` mutants; return how often each verdict was given, `used` among them."""
    whole, verdicts = seeds(), collections.Counter[str]()
    for start in range(0, count, _AT_ONCE):
        with tempfile.TemporaryDirectory() as place:
            names = [f"{number}.bin" for number in range(start, min(count, start + _AT_ONCE))]
            for name in names:
                Path(place, name).write_bytes(mutant(int(name[:-4]), seed, whole))
            steps = gather(Path(place), names, DecodePolicy(), Path(place, "cache"), default_threads())
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    found = end.value
                    break
            assert len(found) == len(names)
            verdicts.update(fact.code if isinstance(fact, Refusal) else "used" for fact in found)
    return verdicts


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
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = time.monotonic()
    for code, times in looked_at(count, seed).most_common():
        print(f"{times:8,}  {code}")
    print(f"{count:,} in {time.monotonic() - began:.0f} s; largest process {largest_child_bytes() / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
