"""The program that runs functions on picture bytes within limits, for `images.guard`; pipes are its only contact.

    python -m tellapart.images.guard_child

It writes READY when it is. Then, until its stdin closes or nothing was asked for a while, it reads requests, each whole
before it answers. A request is ORDER (how many bytes the JSON object that follows has, how many pictures come), the
object (`function`, as `module:name`, `options`, `seconds`, `memory_bytes`), and each picture as its length and its
bytes. The answer to a picture is ANSWER (a kind, the length of the noise, the length of the value), the noise, the
value. Noise is what C libraries wrote to stdout or stderr meanwhile. Both are a file, whose first bytes (PLACE) say
which picture of the request is being worked on, so that it is known who did it when the program dies.

A picture that takes too long ends the program by SIGPROF: what counts is the processor's time, so that a busy machine
makes no picture slow. One that needs too much memory gets a MemoryError, as far as libraries ask politely.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tellapart.errors import PictureError

try:
    import resource
except ImportError:  # no such limits on Windows
    resource = None  # type: ignore[assignment]

__all__ = [
    "ANSWER",
    "LENGTH",
    "NOISE_BYTES",
    "NO_MEMORY",
    "ORDER",
    "PLACE",
    "READY",
    "REFUSED",
    "UNFORESEEN",
    "VALUE",
    "main",
]

READY = b"\1"
ORDER = struct.Struct("<II")
LENGTH = struct.Struct("<Q")
ANSWER = struct.Struct("<BIQ")
VALUE, REFUSED, UNFORESEEN = range(3)
PLACE = struct.Struct("<i")
NO_MEMORY = 70  # exit status: there was no memory to read a request into
NOISE_BYTES = 4096

_IDLE_SECONDS = 5.0
_SEND_SECONDS = 0.2
_SEND_BYTES = 1 << 16
_FILE_BYTES = 1 << 20

_OOM = PictureError("decode_oom", "The picture needs more memory to decode than there is.", "Scale it down.")

Function = Callable[..., bytes]


def main() -> int:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)
    os.lseek(2, PLACE.size, os.SEEK_SET)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    base = _limit()
    # What nearly every request needs is loaded before the first one comes.
    importlib.import_module("tellapart.images.examine")
    os.write(answers, READY)
    while (request := _read(ORDER.size)) is not None:
        _place(-1)
        try:
            length, count = ORDER.unpack(request)
            order = json.loads(_read(length) or b"")
            pictures = [_read(LENGTH.unpack(_read(LENGTH.size) or b"")[0]) or b"" for _ in range(count)]
        except MemoryError:
            return NO_MEMORY
        _limit_memory(base + order["memory_bytes"])
        _answer(order, pictures, answers)
        del order, pictures
    return 0


def _end_with_the_parent() -> None:
    """Wait until nobody holds the other end of stdin, also while a picture is being worked on."""
    if hasattr(select, "poll"):
        hang_up = select.poll()
        hang_up.register(0, 0)
        hang_up.poll()
        os._exit(0)


def _answer(order: dict[str, Any], pictures: list[bytes], answers: int) -> None:
    module, _, name = order["function"].partition(":")
    function: Function = getattr(importlib.import_module(module), name)
    waiting: list[bytes] = []
    sent = time.monotonic()
    for number, picture in enumerate(pictures):
        _place(number)
        pictures[number] = b""
        waiting.append(_one(function, picture, order))
        # Few writes wake the other side less often; what is not sent when this one dies is asked for again.
        now = time.monotonic()
        if now - sent > _SEND_SECONDS or sum(map(len, waiting)) > _SEND_BYTES or number == len(pictures) - 1:
            _write(answers, b"".join(waiting))
            waiting, sent = [], now


def _one(function: Function, picture: bytes, order: dict[str, Any]) -> bytes:
    _limit_time(order["seconds"])
    try:
        kind, value = VALUE, function(picture, **order["options"])
    except PictureError as error:
        kind, value = REFUSED, json.dumps(error.as_json()).encode()
    except MemoryError:
        refusal = PictureError(
            "decode_oom", "The picture needs more memory to decode than is allowed.", "Scale it down."
        )
        kind, value = REFUSED, json.dumps(refusal.as_json()).encode()
    except Exception as error:
        kind, value = UNFORESEEN, f"{type(error).__name__}: {error}".encode(errors="backslashreplace")[:NOISE_BYTES]
    _limit_time(0)
    noise = _noise()
    return ANSWER.pack(kind, len(noise), len(value)) + noise + value


def _read(size: int) -> bytes | None:
    """Return so many bytes of stdin; None when it is closed, or when nothing more is asked."""
    if size == ORDER.size and os.name == "posix" and not select.select([0], [], [], _IDLE_SECONDS)[0]:
        return None
    parts = bytearray()
    while len(parts) < size:
        part = os.read(0, min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _write(to: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(to, view) :]


def _place(number: int) -> None:
    os.lseek(2, 0, os.SEEK_SET)
    os.write(2, PLACE.pack(number))


def _noise() -> bytes:
    if os.fstat(2).st_size <= PLACE.size:
        return b""
    os.lseek(2, PLACE.size, os.SEEK_SET)
    noise = os.read(2, NOISE_BYTES)
    os.ftruncate(2, PLACE.size)
    os.lseek(2, PLACE.size, os.SEEK_SET)
    return noise


def _limit() -> int:
    """Set the limits that hold for good; return the bytes of address space that this program takes itself."""
    for name, most in (("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", _FILE_BYTES)):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))
    with contextlib.suppress(OSError, ValueError), open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    return 1 << 29


def _limit_memory(most: int) -> None:
    with contextlib.suppress(AttributeError, ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_time(seconds: float) -> None:
    with contextlib.suppress(AttributeError):
        signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    sys.exit(main())
