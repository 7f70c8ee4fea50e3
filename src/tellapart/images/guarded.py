"""Decoding that pays nothing for ordinary pictures and that no file can crash, hang or exhaust.

Many pictures at a time may go to a guard in any case (`prepare_apart`). Of others, a picture whose header looks costly
is decoded by a guard, in a process with limits, and so is one that failed here, for a second and last time.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ImageFile

from tellapart.errors import PictureError
from tellapart.images.decode import Pixels, decode, decoded
from tellapart.images.guard import Answer, Guard, memory_for
from tellapart.images.header import Header, opened, shown_name
from tellapart.images.preprocess import DecodePolicy, Preprocess
from tellapart.images.resize import prepare, prepared

__all__ = [
    "MAX_FILE_BYTES",
    "decode_guarded",
    "decoded_there",
    "looks_costly",
    "prepare_apart",
    "prepare_guarded",
    "prepared_there",
]

_COSTLY_PIXELS = 30_000_000
_COSTLY_BYTES = 32 << 20
# Some seconds of libjpeg; a photo of 12 MP with the usual ten scans has 120 million.
_COSTLY_SCANNED_PIXELS = 300_000_000
MAX_FILE_BYTES = 1 << 30
_SLOW_PIXELS = 1_000_000  # for decoders that are written in Python
_START_OF_SCAN = b"\xff\xda"
_SCAN_BYTES = 10  # the least that a scan takes
_SHAPE = struct.Struct("<II")
_PREPARED_THERE = "tellapart.images.guarded:prepared_there"
# What may have been bad luck, or a limit of this process.
_AGAIN = frozenset({"truncated", "corrupt", "decode_oom"})


def prepare_guarded(source: Path | bytes, preprocess: Preprocess) -> Pixels:
    """Return what `prepare` does, uint8 [S, S, 3]; no file can crash, hang or exhaust this process.

    Raises PictureError as `prepare` does, and with the codes `decoder_crash`, `decode_timeout`, `too_many_bytes`.
    """
    return _guarded(
        source,
        preprocess.decode,
        lambda picture, header: prepared(picture, header, preprocess),
        _PREPARED_THERE,
        lambda: {"preprocess": dataclasses.asdict(preprocess)},
    )


def prepare_apart(files: Sequence[Path], preprocess: Preprocess, guard: Guard) -> list[Pixels]:
    """Return what `prepare_guarded` does of some pictures, in order, worked out in one other process.

    So several threads that ask get as many processors, which decoding small pictures in this process does not give
    them: most of that is Python's own. Raises PictureError.
    """
    contents: list[bytes] = []
    for file in files:
        try:
            with file.open("rb") as opened_file:
                contents.append(_whole(opened_file, file))
        except (OSError, PictureError):
            contents.append(b"")  # told below as of any other picture
    options = {"preprocess": dataclasses.asdict(preprocess)}
    answers = guard.run(_PREPARED_THERE, contents, options, memory_for(preprocess.decode.max_pixels))
    return [
        _prepared(file, content, answer, preprocess)
        for file, content, answer in zip(files, contents, answers, strict=True)
    ]


def _prepared(file: Path, content: bytes, answer: Answer, preprocess: Preprocess) -> Pixels:
    if answer.error is None:
        return _pixels(answer.value)
    if not content:
        return prepare_guarded(file, preprocess)  # which says why it cannot be read
    raise _named(answer, file)


def decode_guarded(source: Path | bytes, at_least_px: int | None, policy: DecodePolicy) -> Pixels:
    """Return what `decode` does, uint8 [H, W, 3]; otherwise as `prepare_guarded`."""
    return _guarded(
        source,
        policy,
        lambda picture, header: decoded(picture, header, at_least_px, policy),
        "tellapart.images.guarded:decoded_there",
        lambda: {"at_least_px": at_least_px, "policy": dataclasses.asdict(policy)},
    )


def prepared_there(content: bytes, preprocess: Mapping[str, Any]) -> bytes:
    """`prepare` as a function for a guard."""
    return _packed(prepare(content, Preprocess.of(preprocess)))


def decoded_there(content: bytes, at_least_px: int | None, policy: Mapping[str, Any]) -> bytes:
    """`decode` as a function for a guard."""
    return _packed(decode(content, at_least_px, DecodePolicy.of(policy)))


def _guarded(
    source: Path | bytes,
    policy: DecodePolicy,
    here: Callable[[ImageFile.ImageFile, Header], Pixels],
    there: str,
    options: Callable[[], Mapping[str, Any]],
) -> Pixels:
    failed: PictureError | None = None
    content = b""
    try:
        with opened(source, policy) as (picture, header, file):
            if not looks_costly(picture, header, file):
                return here(picture, header)
            content = _whole(file, source)
    except PictureError as error:
        if error.code not in _AGAIN:
            raise
        failed = error
    if failed is not None:
        content = source if isinstance(source, bytes) else _read(source, failed)
    (answer,) = Guard().run(there, [content], options(), memory_for(policy.max_pixels))
    if answer.error is None:
        return _pixels(answer.value)
    if failed is not None and failed.code == answer.error.code:
        raise failed
    raise _named(answer, source)


def _named(answer: Answer, source: Path | bytes) -> PictureError:
    """Return the error that a guard answered with, with the name of the picture."""
    assert answer.error is not None
    said = f" The decoder said: {answer.noise}" if answer.noise else ""
    message = answer.error.message.replace("The picture", shown_name(source), 1)
    return PictureError(answer.error.code, f"{message}{said}", answer.error.next)


def _whole(file: BinaryIO, source: Path | bytes) -> bytes:
    size = file.seek(0, os.SEEK_END)
    if size > MAX_FILE_BYTES:
        raise PictureError(
            "too_many_bytes",
            f"{shown_name(source)} has {size:,} bytes; the most is {MAX_FILE_BYTES:,}.",
            "Save it smaller.",
        )
    file.seek(0)
    return file.read()


def _read(path: Path, failed: PictureError) -> bytes:
    try:
        with path.open("rb") as file:
            return _whole(file, path)
    except OSError:
        raise failed from None


def _pixels(packed: bytes) -> Pixels:
    height, width = _SHAPE.unpack_from(packed)
    return np.frombuffer(bytearray(packed), np.uint8, offset=_SHAPE.size).reshape(height, width, 3)


def _packed(pixels: Pixels) -> bytes:
    return _SHAPE.pack(*pixels.shape[:2]) + pixels.tobytes()


def looks_costly(picture: ImageFile.ImageFile, header: Header, file: BinaryIO) -> bool:
    """Say whether a picture that is opened, not decoded, may take long or much memory, or goes to a fragile decoder."""
    pixels = header.width * header.height
    if header.format == "TIFF" or pixels > _COSTLY_PIXELS:
        return True
    size = file.seek(0, os.SEEK_END)
    if size > _COSTLY_BYTES:
        return True
    if header.format == "BMP":
        return pixels > _SLOW_PIXELS and bool(picture.tile) and picture.tile[0].codec_name != "raw"
    if header.format == "JPEG" and pixels * size > _COSTLY_SCANNED_PIXELS * _SCAN_BYTES:
        file.seek(0)
        return pixels * file.read().count(_START_OF_SCAN) > _COSTLY_SCANNED_PIXELS
    return False
