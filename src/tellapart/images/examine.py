"""What decoding a picture once tells of it: its size, whether it is grey, what tells its pixels from others'."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tellapart.errors import PictureError
from tellapart.images import structure
from tellapart.images.decode import sixteen_bit_peak, upright
from tellapart.images.header import Header, complete, opened
from tellapart.images.measure import MEASURES, measure
from tellapart.images.preprocess import DecodePolicy

__all__ = ["PictureFacts", "Refusal", "digested", "examine", "examined", "pack", "parted", "unpack", "white_of"]

# JPEG files with more pixels are decoded at a reduced scale, which still reads every byte of them.
REDUCE_ABOVE_PIXELS = 1_000_000
_REDUCED_PX = 256
_STRIP_PIXELS = 1 << 18
_RECORD = struct.Struct("<BBIIi")
_LENGTH = struct.Struct("<I")


@dataclasses.dataclass(frozen=True, slots=True)
class PictureFacts:
    """One picture that decodes. Width and height are in pixels, after EXIF orientation.

    `grey`: red, green and blue are equal everywhere. `sixteen_bit_peak`: the highest level of a 16-bit grey picture,
    else None. `pixels`: 16 bytes that are equal for equal pixels; None where the picture was decoded at a reduced scale
    alone. `signature`: uint8 [8, 8, 3] mean colours as bytes, for pictures of more than 1 MP, else None. `measures`:
    one record of `images.measure.MEASURES`: perceptual hashes, what the header says, levels. `notes`: what is odd about
    the bytes, names of `header.ODDITIES`, with words after a colon where there is more to say.
    """

    sha256: str
    width: int
    height: int
    grey: bool
    sixteen_bit_peak: int | None
    pixels: bytes | None
    signature: bytes | None
    measures: bytes
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A file that cannot be used: a stable code, and a sentence."""

    code: str
    note: str


def examine(content: bytes, sha256: str, policy: DecodePolicy) -> tuple[PictureFacts | Refusal, bytes]:
    """Return what a picture's bytes tell, having decoded them, and its thumbnail (see `Measured`), empty for a refusal.

    16-bit pictures are measured at the scale that a data set of them alone would have.
    """
    try:
        with opened(content, policy) as (picture, header, file):
            peak = sixteen_bit_peak(content, policy) if header.sixteen_bit else None
            many = header.width * header.height > REDUCE_ABOVE_PIXELS
            reduced = many and header.format == "JPEG"
            scaled = dataclasses.replace(policy, sixteen_bit_scale=white_of([peak])) if peak is not None else policy
            flat, box = upright(picture, header, _REDUCED_PX if reduced else None, scaled)
            header, early = complete(header, file, decodes=True), structure.ends_early(file, header.format)
            measured = measure(picture, header, flat, box, len(content))
            if reduced:
                digest = None
            elif peak is not None:
                digest = _pixels_digest(content, policy, peak)
            else:
                digest = _digest(flat)
    except PictureError as error:
        return Refusal(error.code, str(error)), b""
    signature = flat.resize((8, 8), Image.Resampling.BOX, box=box).convert("RGB").tobytes() if many else None
    facts = PictureFacts(
        sha256,
        header.width,
        header.height,
        flat.mode == "L" or _is_grey(flat),
        peak,
        digest,
        signature,
        measured.measures,
        _notes(header, early and policy.allow_truncated),
    )
    return facts, measured.thumbnail


def white_of(peaks: Sequence[int]) -> int:
    """Return the 16-bit level that is white in pictures with these highest levels: 4095 if they fit, else 65535."""
    return 4095 if peaks and max(peaks) <= 4095 else 65535


def _notes(header: Header, truncated: bool) -> tuple[str, ...]:
    several = f": {header.num_frames:,}" if header.num_frames else ""
    told = tuple(note + several if note in ("several_frames", "several_pages") else note for note in header.notes)
    if truncated:
        return (*(note for note in told if note != "trailing_bytes"), "truncated")
    return told


def examined(content: bytes, policy: Mapping[str, Any]) -> bytes:
    """Return what `parted` takes apart: `examine` as a function for `guard.Guard`, the policy as a mapping."""
    fact, thumbnail = examine(content, "", DecodePolicy.of(policy))
    record = pack(fact)
    return _LENGTH.pack(len(record)) + record + thumbnail


def parted(value: bytes) -> tuple[bytes, bytes]:
    """Return the record and the thumbnail that `examined` gave."""
    (length,) = _LENGTH.unpack_from(value)
    return value[_LENGTH.size :][:length], value[_LENGTH.size + length :]


def digested(content: bytes, policy: Mapping[str, Any]) -> bytes:
    """Return 16 bytes that are equal for pictures with equal pixels, as a function for `guard.Guard`.

    The policy is a mapping. Raises PictureError.
    """
    return _pixels_digest(content, DecodePolicy.of(policy))


def _pixels_digest(content: bytes, policy: DecodePolicy, peak: int | None = None) -> bytes:
    """Return 16 bytes that are equal for pictures with equal pixels. Raises PictureError.

    A 16-bit picture is compared at its own scale, for at the data set's many levels may become one.
    """
    if peak is not None:
        policy = dataclasses.replace(policy, sixteen_bit_scale=max(255, peak))
    with opened(content, policy) as (picture, header, _):
        return _digest(upright(picture, header, None, policy)[0], peak or 0)


def pack(fact: PictureFacts | Refusal) -> bytes:
    """Return a record of all but the sha256, as caches and pipes hold it."""
    if isinstance(fact, Refusal):
        return b"\0" + json.dumps([fact.code, fact.note]).encode()
    peak = -1 if fact.sixteen_bit_peak is None else fact.sixteen_bit_peak
    flags = (fact.pixels is not None) | (fact.signature is not None) << 1
    notes = json.dumps(fact.notes).encode() if fact.notes else b""
    return (
        _RECORD.pack(1 + fact.grey, flags, fact.width, fact.height, peak)
        + fact.measures
        + (fact.pixels or b"")
        + (fact.signature or b"")
        + notes
    )


def unpack(sha256: str, record: bytes) -> PictureFacts | Refusal | None:
    """Return what a record holds; None when it is damaged."""
    try:
        if record[:1] == b"\0":
            code, note = json.loads(record[1:])
            return Refusal(str(code), str(note))
        kind, flags, width, height, peak = _RECORD.unpack_from(record)
        measures = record[_RECORD.size :][: MEASURES.itemsize]
        rest = record[_RECORD.size + MEASURES.itemsize :]
        cut, end = 16 * (flags & 1), 16 * (flags & 1) + 192 * (flags >> 1 & 1)
        if kind not in (1, 2) or len(measures) != MEASURES.itemsize or len(rest) < end:
            return None
        return PictureFacts(
            sha256,
            width,
            height,
            kind == 2,
            None if peak < 0 else peak,
            rest[:cut] or None,
            rest[cut:end] or None,
            measures,
            tuple(map(str, json.loads(rest[end:]))) if rest[end:] else (),
        )
    except (struct.error, ValueError):
        return None


def _digest(flat: Image.Image, peak: int = 0) -> bytes:
    hashed = hashlib.sha256(struct.pack("<III", *flat.size, peak))
    for part in _strips(flat):
        hashed.update((part if part.mode == "RGB" else part.convert("RGB")).tobytes())
    return hashed.digest()[:16]


def _is_grey(flat: Image.Image) -> bool:
    for part in _strips(flat):
        pixels = np.asarray(part).reshape(-1, 3)
        few, most = pixels[::97], pixels  # few colour pictures pass the first look
        if not all(bool((some == some[:, :1]).all()) for some in (few, most)):
            return False
    return True


def _strips(flat: Image.Image) -> Iterator[Image.Image]:
    """Yield a picture in strips from the top, so that no second copy of all of it is needed."""
    width, height = flat.size
    rows = max(1, _STRIP_PIXELS // width)
    if rows >= height:
        yield flat
        return
    for top in range(0, height, rows):
        yield flat.crop((0, top, width, min(height, top + rows)))
