"""The few facts that are read from a file's own structure: orientation, pages, an early or a late end.

All of it is defensive: a structure that is broken, cyclic or hostile gives the answer "unknown", never an error and
never a long loop.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection
from typing import IO, BinaryIO, NamedTuple

from tellapart.images.sniff import Format

__all__ = [
    "Exif",
    "ends_early",
    "exif_texts",
    "gif_frames",
    "has_trailing_bytes",
    "jpeg_ends_in_zeros",
    "png_without_profile",
    "read_exif",
    "tiff_pages",
]

_MAX_CHUNKS = 1_000_000
_MAX_PAGES = 1000
_TAIL_BYTES = 65536
_ZEROS = 16  # at a JPEG's end that make one look further
_ORIENTATION = 0x0112
_PLACE = 0x8825
_LATITUDE_LONGITUDE = frozenset({2, 4})
_EXIF_DIRECTORY = 0x8769
_MAX_TEXT_BYTES = 256
_TIFF_OFFSETS = {273: 279, 324: 325}  # strip and tile offsets, and the tags that hold their lengths
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


class Exif(NamedTuple):
    """What matters of an EXIF block: the orientation, 1 to 8, whether it tells a place, whether it is damaged."""

    orientation: int = 1
    place: bool = False
    broken: bool = False


def read_exif(exif: bytes | None) -> Exif:
    """Return what an EXIF block records; what is absent, out of range or broken is as if nothing were said.

    Source: JEITA CP-3451 (Exif 2.3): tags 274 (orientation) and 34853 (place) in the first directory of a TIFF
    structure; tags 2 and 4 (latitude, longitude) in the directory of the place.
    """
    if not exif:
        return Exif()
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    orientation, place, broken = 1, False, False
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for entry in range(count):
            at = directory + 2 + 12 * entry
            tag, kind, values, value = struct.unpack_from(order + "HHIH", tiff, at)
            if tag == _ORIENTATION:
                if kind == 3 and values == 1 and 1 <= value <= 8:
                    orientation = value
                else:
                    broken = True
            elif tag in (_EXIF_DIRECTORY, _PLACE):
                (inner,) = struct.unpack_from(order + "I", tiff, at + 8)
                broken |= inner == directory
                place |= tag == _PLACE and not _LATITUDE_LONGITUDE.isdisjoint(_tags_of(tiff, order, inner))
    except (KeyError, struct.error):
        broken = True
    return Exif(orientation, place, broken)


def _tags_of(tiff: bytes, order: str, directory: int) -> set[int]:
    (count,) = struct.unpack_from(order + "H", tiff, directory)
    return {struct.unpack_from(order + "H", tiff, directory + 2 + 12 * entry)[0] for entry in range(count)}


def exif_texts(exif: bytes | None, tags: Collection[int]) -> dict[int, bytes]:
    """Return those of the `tags` that an EXIF block holds as text, up to its first zero byte and 256 bytes at most.

    Tags are looked for in the first directory and in the one of the camera's settings (tag 34665).
    """
    found: dict[int, bytes] = {}
    if not exif:
        return found
    tiff = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        directories = [struct.unpack_from(order + "I", tiff, 4)[0]]
        for directory in directories:
            (count,) = struct.unpack_from(order + "H", tiff, directory)
            for entry in range(count):
                place = directory + 2 + 12 * entry
                tag, kind, length, value = struct.unpack_from(order + "HHII", tiff, place)
                if tag in tags and kind == 2:
                    start = place + 8 if length <= 4 else value
                    found.setdefault(tag, tiff[start : start + min(length, _MAX_TEXT_BYTES)].split(b"\0")[0])
                elif tag == _EXIF_DIRECTORY and len(directories) == 1:
                    directories.append(value)
    except (KeyError, struct.error):
        pass
    return found


def tiff_pages(file: BinaryIO) -> int | None:
    """Return how many pages a TIFF has, or None when it is broken, a BigTIFF, or has more than 1000."""
    try:
        file.seek(0)
        order = {b"II*\0": "<", b"MM\0*": ">"}[file.read(4)]
        (offset,) = struct.unpack(order + "I", file.read(4))
        seen: set[int] = set()
        while offset and offset not in seen and len(seen) <= _MAX_PAGES:
            seen.add(offset)
            file.seek(offset)
            (entries,) = struct.unpack(order + "H", file.read(2))
            file.seek(offset + 2 + 12 * entries)
            (offset,) = struct.unpack(order + "I", file.read(4))
        return len(seen) if not offset or offset in seen else None
    except (KeyError, struct.error):
        return None


def gif_frames(file: BinaryIO) -> tuple[int, int] | None:
    """Return how many frames a GIF has and where it ends, in bytes; None when it is broken.

    Source: CompuServe, Graphics Interchange Format, version 89a, sections 15 to 27.
    """
    file.seek(0)
    content = file.read()
    frames = 0
    try:
        at = 13 + _colours_bytes(content[10])
        for _ in range(_MAX_CHUNKS):
            block = content[at]
            if block == 0x3B:
                return frames, at + 1
            if block == 0x2C:
                frames += 1
                at += 10 + _colours_bytes(content[at + 9]) + 1
            elif block == 0x21:
                at += 2
            else:
                return None
            while content[at]:
                at += 1 + content[at]
            at += 1
    except IndexError:
        pass
    return None


def _colours_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def has_trailing_bytes(file: BinaryIO, format: Format, decodes: bool = False) -> bool:
    """Say whether a file goes on after the picture's own end, as far as a look at its tail can tell.

    Of a picture that `decodes` more can be told: it has an end, and where that is not in the tail, much follows it.
    Zero bytes that fill up a block do not count, nor does anything in a TIFF.
    """
    size = file.seek(0, os.SEEK_END)
    if format == "WEBP":
        return size > _webp_end(file)
    if format == "BMP":
        declared = _unpack_at(file, "<I", 2)
        return 54 < declared < size
    if format == "GIF":
        found = gif_frames(file)
        return found is not None and _more_than_zeros(file, found[1])
    if format not in ("JPEG", "PNG"):
        return False
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read().rstrip(b"\0")
    # The CRC of IEND never ends in a zero byte, and neither does the end marker of a JPEG.
    end = b"\xff\xd9" if format == "JPEG" else b"IEND\xaeB`\x82"
    return not tail.endswith(end) and (end in tail or (decodes and size > _TAIL_BYTES))


def jpeg_ends_in_zeros(file: IO[bytes]) -> bool:
    """Say whether zero bytes stand where the last part of a JPEG was; a decoder may take them for coded data.

    Zero bytes after the end marker, as copies in whole blocks have them, are none of the picture's.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ZEROS))
    if file.read().strip(b"\0"):
        return False
    end = size
    while end:
        start = max(0, end - _TAIL_BYTES)
        file.seek(start)
        if rest := file.read(end - start).rstrip(b"\0"):
            return _jpeg_ends_early(file, start + len(rest))
        end = start
    return True


def _more_than_zeros(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    return bool(file.read(_TAIL_BYTES).strip(b"\0"))


def png_without_profile(png: bytes) -> bytes | None:
    """Return the bytes of a PNG without its colour profile (iCCP), or None when it has none before the pixels."""
    offset = 8
    while offset + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, offset)
        kind = png[offset + 4 : offset + 8]
        if kind == b"iCCP":
            return png[:offset] + png[offset + 12 + length :]
        if kind == b"IDAT":
            return None
        offset += 12 + length
    return None


def ends_early(file: BinaryIO, format: Format) -> bool:
    """Say whether a file that failed to decode stops before its own structure does."""
    size = file.seek(0, os.SEEK_END)
    try:
        if format == "JPEG":
            return _jpeg_ends_early(file, size)
        if format == "PNG":
            return _png_ends_early(file, size)
        if format == "WEBP":
            return size < _webp_end(file)
        if format == "BMP":
            return size < _unpack_at(file, "<I", 2)
        if format == "GIF":
            file.seek(max(0, size - _TAIL_BYTES))
            return not file.read().rstrip(b"\0").endswith(b";")
        return _tiff_ends_early(file, size)
    except struct.error:
        return True


def _unpack_at(file: IO[bytes], layout: str, offset: int) -> int:
    file.seek(offset)
    return int(struct.unpack(layout, file.read(struct.calcsize(layout)))[0])


def _webp_end(file: BinaryIO) -> int:
    declared = _unpack_at(file, "<I", 4) + 8
    return declared + declared % 2


def _jpeg_ends_early(file: IO[bytes], size: int) -> bool:
    """Walk the segments up to the start of scan; after it, the end marker cannot occur in coded data."""
    offset = 2
    for _ in range(_MAX_CHUNKS):
        file.seek(offset)
        marker = file.read(2)
        if len(marker) < 2:
            return True
        if marker[0] != 0xFF:
            return False
        if marker[1] == 0xFF:
            offset += 1
        elif marker[1] in (0x01, *range(0xD0, 0xD9)):
            offset += 2
        elif marker[1] == 0xDA:
            return not _holds(file, b"\xff\xd9", offset, size)
        else:
            offset += 2 + _unpack_at(file, ">H", offset + 2)
    return False


def _holds(file: IO[bytes], wanted: bytes, start: int, end: int) -> bool:
    """Say whether two bytes stand together from `start` to before `end`; the end is where they mostly are."""
    while start < end:
        begin = max(start, end - _TAIL_BYTES)
        file.seek(begin)
        if wanted in file.read(end - begin):
            return True
        end = begin + 1 if begin > start else start  # the two may lie across the border
    return False


def _png_ends_early(file: BinaryIO, size: int) -> bool:
    offset = 8
    for _ in range(_MAX_CHUNKS):
        length = _unpack_at(file, ">I", offset)
        if file.read(4) == b"IEND":
            return False
        offset += 12 + length
        if offset > size:
            return True
    return False


def _tiff_ends_early(file: BinaryIO, size: int) -> bool:
    file.seek(0)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(file.read(4))
    if order is None:
        return False
    directory = _unpack_at(file, order + "I", 4)
    file.seek(directory)
    (count,) = struct.unpack(order + "H", file.read(2))
    tags: dict[int, tuple[int, ...]] = {}
    for entry in range(count):
        file.seek(directory + 2 + 12 * entry)
        tag, kind, values = struct.unpack(order + "HHI", file.read(8))
        length = _TYPE_BYTES.get(kind, 0) * values
        if length > 4:
            file.seek(struct.unpack(order + "I", file.read(4))[0])
            if file.tell() + length > size:
                return True
        if tag in (*_TIFF_OFFSETS, *_TIFF_OFFSETS.values()) and kind in (3, 4) and length <= size:
            tags[tag] = struct.unpack(f"{order}{values}{'H' if kind == 3 else 'I'}", file.read(length))
    return any(
        offset + length > size
        for starts, lengths in _TIFF_OFFSETS.items()
        for offset, length in zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False)
    )
