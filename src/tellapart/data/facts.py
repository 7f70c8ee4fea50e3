"""What is to be known of each picture: its sha256, its size, whether it decodes, what tells its pixels from others'.

Everything is kept in the cache by content, so that a picture is decoded once and never again while its bytes stay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import struct
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tellapart.cache import Space, digest_of
from tellapart.errors import PictureError
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, decode, map_ordered, sixteen_bit_peak
from tellapart.images.decode import upright
from tellapart.images.header import opened
from tellapart.images.sniff import HEAD_BYTES, sniff

__all__ = ["VERSION", "PictureFacts", "Refusal", "gather", "pixels_digest", "read_file"]

VERSION = 1

# JPEG files with more pixels are decoded at a reduced scale, which still reads every byte of them.
REDUCE_ABOVE_PIXELS = 1_000_000
_REDUCED_PX = 256
_MAX_FILE_BYTES = 1 << 30
_BATCH = 16
_HELD_BYTES = 8 << 20
_KEPT_AT_ONCE = 512
_TRANSIENT = frozenset({"decode_oom", "unreadable", "permission"})
_RECORD = struct.Struct("<BBIIi")


@dataclasses.dataclass(frozen=True, slots=True)
class PictureFacts:
    """One picture that decodes. Width and height are in pixels, after EXIF orientation.

    `grey`: red, green and blue are equal everywhere. `sixteen_bit_peak`: the highest level of a 16-bit grey picture,
    else None. `pixels`: 16 bytes that are equal for equal pixels; None where the picture was decoded at a reduced scale
    alone. `signature`: uint8 [8, 8, 3] mean colours as bytes, for pictures of more than 1 MP, else None.
    """

    sha256: str
    width: int
    height: int
    grey: bool
    sixteen_bit_peak: int | None
    pixels: bytes | None
    signature: bytes | None


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """A file that cannot be used: a stable code, and a sentence."""

    code: str
    note: str


def gather(
    root: Path, paths: Sequence[str], policy: DecodePolicy, cache: Path, threads: int
) -> Steps[list[PictureFacts | Refusal]]:
    """Return the facts of each file, in order. A file is read once; its bytes are dropped before the next are read."""
    key = digest_of({"version": VERSION, "decode": policy.model_dump()})
    found: list[PictureFacts | Refusal] = []
    fresh: list[tuple[str, bytes]] = []
    with Space(cache, "facts", key) as space:
        reader = _Reader(root, policy, space)
        batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
        kept = time.monotonic()
        results = map_ordered(reader.facts_of, batches, threads)
        try:
            for facts, entries in results:
                found += facts
                fresh += entries
                if len(fresh) >= _KEPT_AT_ONCE or (fresh and time.monotonic() - kept > 1.0):
                    reader.keep(fresh)
                    fresh, kept = [], time.monotonic()
                yield Progress("scan", len(found), len(paths))
        finally:
            # Closing waits for the threads, which use the space; what is known by then stays known.
            with contextlib.suppress(AttributeError):
                results.close()  # type: ignore[attr-defined]
            reader.keep(fresh)
    return found


def read_file(path: str) -> bytes | Refusal:
    """Return a file's bytes; only the first ones when they begin no picture or the file is too large to be one."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read(HEAD_BYTES)
            if len(content) < HEAD_BYTES or sniff(content) is None:
                return content
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_FILE_BYTES:
                return Refusal("too_many_bytes", f"It has {size:,} bytes; the most is {_MAX_FILE_BYTES:,}.")
            return content + file.readall()
    except PermissionError:
        return Refusal("permission", "It may not be read.")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return Refusal("path_too_long", "Its path is too long for this system.")
        return Refusal("unreadable", f"It cannot be read ({error.strerror}).")


class _Reader:
    """Reads, looks up and decodes; shared by threads."""

    def __init__(self, root: Path, policy: DecodePolicy, space: Space) -> None:
        self._root = str(root)
        self._policy = policy
        self._space = space
        self._lock = threading.Lock()

    def facts_of(self, paths: Sequence[str]) -> tuple[list[PictureFacts | Refusal], list[tuple[str, bytes]]]:
        """Return facts for each path, in order, and the records that the cache does not hold yet."""
        facts: list[PictureFacts | Refusal] = []
        fresh: list[tuple[str, bytes]] = []
        held: list[tuple[int, str, bytes]] = []
        size = 0
        for path in paths:
            content = read_file(os.path.join(self._root, path))
            if isinstance(content, Refusal):
                facts.append(content)
                continue
            held.append((len(facts), hashlib.sha256(content).hexdigest(), content))
            facts.append(_PENDING)
            size += len(content)
            if size > _HELD_BYTES:
                self._settle(held, facts, fresh)
                held, size = [], 0
        self._settle(held, facts, fresh)
        return facts, fresh

    def _settle(
        self,
        held: Sequence[tuple[int, str, bytes]],
        facts: list[PictureFacts | Refusal],
        fresh: list[tuple[str, bytes]],
    ) -> None:
        with self._lock:
            known = dict(self._space.get([sha256 for _, sha256, _ in held]))
        for number, (position, sha256, content) in enumerate(held):
            fact = _unpack(sha256, known[number]) if number in known else None
            if fact is None:
                fact = _examine(content, sha256, self._policy)
                if not (isinstance(fact, Refusal) and fact.code in _TRANSIENT):
                    fresh.append((sha256, _pack(fact)))
            facts[position] = fact

    def keep(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Store records."""
        if entries:
            with self._lock:
                self._space.put(entries)


_PENDING = Refusal("unreadable", "It was not read.")


def _examine(content: bytes, sha256: str, policy: DecodePolicy) -> PictureFacts | Refusal:
    """Return what a picture's bytes tell, having decoded them."""
    try:
        with opened(content, policy) as (picture, header, _):
            many = header.width * header.height > REDUCE_ABOVE_PIXELS
            reduced = many and header.format == "JPEG"
            flat, box = upright(picture, header, _REDUCED_PX if reduced else None, policy)
            rgb = flat if flat.mode == "RGB" else flat.convert("RGB")
            pixels = rgb.tobytes()
        peak = sixteen_bit_peak(content, policy) if header.sixteen_bit else None
        if reduced:
            digest = None
        elif peak is not None:
            digest = pixels_digest(content, policy, peak)
        else:
            digest = _digest(pixels, header.width, header.height)
    except PictureError as error:
        return Refusal(error.code, str(error))
    return PictureFacts(
        sha256,
        header.width,
        header.height,
        flat.mode == "L" or _is_grey(pixels),
        peak,
        digest,
        rgb.resize((8, 8), Image.Resampling.BOX, box=box).tobytes() if many else None,
    )


def pixels_digest(content: bytes, policy: DecodePolicy, peak: int | None = None) -> bytes:
    """Return 16 bytes that are equal for pictures with equal pixels. Raises PictureError.

    A 16-bit picture is compared at its own scale, for at the data set's many levels may become one.
    """
    if peak is not None:
        policy = policy.model_copy(update={"sixteen_bit_scale": max(255, peak)})
    pixels = decode(content, None, policy)
    height, width, _ = pixels.shape
    return _digest(pixels.tobytes(), width, height, peak or 0)


def _digest(pixels: bytes, width: int, height: int, peak: int = 0) -> bytes:
    hashed = hashlib.sha256(struct.pack("<III", width, height, peak))
    hashed.update(pixels)
    return hashed.digest()[:16]


def _is_grey(pixels: bytes) -> bool:
    flat = np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 3)
    few, most = flat[::97], flat  # few colour pictures pass the first look
    return all(bool((part == part[:, :1]).all()) for part in (few, most))


def _pack(fact: PictureFacts | Refusal) -> bytes:
    if isinstance(fact, Refusal):
        return b"\0" + json.dumps([fact.code, fact.note]).encode()
    peak = -1 if fact.sixteen_bit_peak is None else fact.sixteen_bit_peak
    flags = (fact.pixels is not None) | (fact.signature is not None) << 1
    return (
        _RECORD.pack(1 + fact.grey, flags, fact.width, fact.height, peak)
        + (fact.pixels or b"")
        + (fact.signature or b"")
    )


def _unpack(sha256: str, record: bytes) -> PictureFacts | Refusal | None:
    """Return what a record holds; None when it is damaged."""
    try:
        if record[:1] == b"\0":
            code, note = json.loads(record[1:])
            return Refusal(str(code), str(note))
        kind, flags, width, height, peak = _RECORD.unpack_from(record)
        rest = record[_RECORD.size :]
        cut = 16 * (flags & 1)
        if kind not in (1, 2) or len(rest) != cut + 192 * (flags >> 1 & 1):
            return None
        return PictureFacts(
            sha256, width, height, kind == 2, None if peak < 0 else peak, rest[:cut] or None, rest[cut:] or None
        )
    except (struct.error, ValueError):
        return None
