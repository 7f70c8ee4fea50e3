"""Functions on picture bytes, run in processes of their own, so that a picture that crashes, hangs or eats memory harms
nothing but itself.

A file may be made to break its decoder, and decoders have faults. So whatever decodes pictures that nobody has decoded
before does it in a child process with limits (`guard_child`). A child that dies tells which picture it was at, and
another takes its place. Where no child can be started, the function runs in this process, unguarded.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tellapart.errors import PictureError, TellapartError
from tellapart.images import guard_child
from tellapart.images.parallel import default_threads

__all__ = ["Answer", "Guard", "memory_for", "prepare_children"]

PICTURE_SECONDS = 5.0  # of a processor
_SILENT_SECONDS = 30.0  # of the clock on the wall, for a child that neither works nor answers
_SILENT_FACTOR = 6.0  # or as many times what it may take of a processor, if that is more
_START_SECONDS = 60.0
_MOST_PREPARED = 8
_GIVES_WAY = 4  # of nice
_LEAST_MEMORY = 256 << 20
_BYTES_A_PIXEL = 24
_NOISE_LENGTH = 300
_SENT_AT_ONCE = 1 << 17
_LIGHT = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # address space is what is limited
_NEXT = "Leave it out, or save it again with another program."


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came of one picture: the function's `value`, or the `error`. `noise` is what C libraries printed."""

    value: bytes = b""
    error: PictureError | None = None
    noise: str = ""


def memory_for(max_pixels: int) -> int:
    """Return the bytes that decoding may take, beyond the process itself, where a picture may have `max_pixels`."""
    return _LEAST_MEMORY + _BYTES_A_PIXEL * max_pixels


class Guard:
    """Runs functions in children, one for each thread that asks; idle children serve all guards, and soon end."""

    def __init__(self) -> None:
        self._busy: set[_Child] = set()
        self._stopped = False

    def run(
        self,
        function: str,
        pictures: Sequence[bytes],
        options: Mapping[str, Any],
        memory_bytes: int,
        seconds: float | None = None,
    ) -> list[Answer]:
        """Return what `function` (`module:name`, from bytes and JSON-able options to bytes) makes of each picture.

        It may raise PictureError, which becomes the answer. A picture gets `seconds` of a processor, five unless told
        (`decode_timeout`), and so much memory (`decode_oom`); one that kills its child twice, the second time alone, is
        a `decoder_crash`, and so is one for which the function raises anything else. Threads may share a guard. Raises
        TellapartError when the guard was stopped.
        """
        order = {
            "function": function,
            "options": dict(options),
            "memory_bytes": memory_bytes,
            "seconds": PICTURE_SECONDS if seconds is None else seconds,
        }
        answers: dict[int, Answer] = {}
        deaths: Counter[int] = Counter()
        while pending := [number for number in range(len(pictures)) if number not in answers]:
            part = [number for number in pending if deaths[number]][:1] or pending
            sent = [pictures[number] for number in part]
            try:
                with self._child() as child:
                    for number, answer in zip(part, child.answers(order, sent), strict=False):
                        answers[number] = answer
            except _NoChildError:
                for number in part:
                    answers[number] = _CRASHED if deaths[number] else _here(order, pictures[number])
            except _GoneError:
                continue
            except _DeathError as death:
                if self._stopped:
                    raise TellapartError("stopped", "Decoding was stopped.") from None
                if death.place >= len(sent):
                    continue  # once it had answered for all of them
                at = max(range(len(sent)), key=lambda place: len(sent[place])) if death.place < 0 else death.place
                deaths[part[at]] += 1
                if death.certain or deaths[part[at]] > 1:
                    answers[part[at]] = Answer(error=death.error, noise=death.noise)
        return [answers[number] for number in range(len(pictures))]

    def stop(self) -> None:
        """End what is being worked on, in whatever thread; `run` raises there."""
        self._stopped = True
        for child in list(self._busy):
            child.end()

    @contextlib.contextmanager
    def _child(self) -> Iterator[_Child]:
        child = _borrowed()
        self._busy.add(child)
        try:
            if self._stopped:
                child.end()
            yield child
        except BaseException:
            child.kill()
            raise
        else:
            with _lock:
                _idle.append(child)
        finally:
            self._busy.discard(child)


class _NoChildError(Exception):
    """No child can be started on this machine, or not now."""


class _GoneError(Exception):
    """A child had ended because nothing was asked of it."""


class _DeathError(Exception):
    """A child died at the picture of that place (-1: at none); `certain` means that a second try would be no better."""

    def __init__(self, place: int, noise: str, error: PictureError, certain: bool) -> None:
        super().__init__(str(error))
        self.place = place
        self.noise = noise
        self.error = error
        self.certain = certain


def _picture_error(code: str, message: str) -> PictureError:
    return PictureError(code, f"The picture {message}.", _NEXT)


def _crash(cause: str | None) -> PictureError:
    return _picture_error("decoder_crash", f"makes its decoder crash ({cause})")


_CRASHED = Answer(error=_crash("and no other can be started"))
_TIMEOUT = _picture_error("decode_timeout", f"takes longer than {PICTURE_SECONDS:g} seconds to decode")
_OOM = _picture_error("decode_oom", "needs more memory to decode than is allowed")

_lock = threading.Lock()
_idle: list[_Child] = []
_started = {True: 0, False: 0}


def _borrowed() -> _Child:
    """Return an idle child that still lives, or a new one. Raises _NoChildError."""
    while True:
        with _lock:
            child = _idle.pop() if _idle else None
        if child is None:
            return _new_child()
        if child.alive() and child.ready():
            return child
        child.kill()


def prepare_children() -> None:
    """Start a few children that will be asked soon, without waiting for them; not asked for some seconds, they end.

    Where processors are few they give way to the one process that others wait for.
    """
    for _ in range(min(default_threads(), _MOST_PREPARED)):
        with contextlib.suppress(_NoChildError):
            child = _Child()
            child.give_way()
            with _lock:
                _idle.append(child)


def _new_child() -> _Child:
    if _started[False] and not _started[True]:
        raise _NoChildError  # it failed the first time, so it will again
    try:
        child = _Child()
        if not child.ready():
            child.kill()
            raise _NoChildError
    except _NoChildError:
        _started[False] += 1
        raise
    _started[True] += 1
    return child


@atexit.register
def _end_idle() -> None:
    with _lock:
        while _idle:
            _idle.pop().kill()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)


class _Child:
    """One process of `guard_child`, and the pipes to it. It ends when this process does, since its stdin closes."""

    def __init__(self) -> None:
        self._noise: IO[bytes] = _scratch_file()
        try:
            self._process = subprocess.Popen(
                # Not the folder that the user is in: a numpy.py there would be loaded.
                [sys.executable, "-P", "-W", "ignore", "-m", guard_child.__name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._noise,
                bufsize=0,
                env={**os.environ, **_LIGHT, "PYTHONPATH": _search_path()},
                start_new_session=os.name == "posix",  # Ctrl-C is for this process, which then ends the child
            )
        except (OSError, ValueError):
            self._noise.close()
            raise _NoChildError from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(self._stdout, select.POLLIN)
        self._ready = False

    def ready(self) -> bool:
        """Wait until the process takes orders; False where it never does."""
        self._ready = self._ready or self._received(_START_SECONDS) == guard_child.READY
        return self._ready

    def give_way(self) -> None:
        """Let other processes go first, a little."""
        if hasattr(os, "setpriority"):
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + _GIVES_WAY)

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """End the process at once; whoever waits for it gets a _DeathError. Other threads may call this."""
        self._process.kill()

    def kill(self) -> None:
        """End the process, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for file in (self._stdin, self._stdout, self._noise):
            file.close()

    def answers(self, order: Mapping[str, Any], pictures: Sequence[bytes]) -> Iterator[Answer]:
        """Yield the answer to each picture. Raises _DeathError."""
        content = json.dumps(order).encode()
        try:
            waiting, size = [guard_child.ORDER.pack(len(content), len(pictures)), content], 0
            for picture in pictures:
                waiting.append(guard_child.LENGTH.pack(len(picture)))
                large = len(picture) > _SENT_AT_ONCE
                if not large:  # small pictures go together: each write wakes the other side
                    waiting.append(picture)
                    size += len(picture)
                if large or size > _SENT_AT_ONCE:
                    self._send(b"".join(waiting))
                    waiting, size = [], 0
                if large:
                    self._send(picture)
            self._send(b"".join(waiting))
        except OSError:
            raise self._death() from None
        buffer, silent = bytearray(), max(_SILENT_SECONDS, _SILENT_FACTOR * order["seconds"])
        for _ in pictures:
            kind, noise, size = guard_child.ANSWER.unpack(self._taken(buffer, guard_child.ANSWER.size, silent))
            said = _words(self._taken(buffer, noise, silent))
            value = self._taken(buffer, size, silent)
            if kind == guard_child.UNFORESEEN:
                yield Answer(error=_crash(_words(value)), noise=said)
            elif kind == guard_child.REFUSED:
                fault = json.loads(value)
                yield Answer(error=PictureError(fault["code"], fault["message"], fault["next"]), noise=said)
            else:
                yield Answer(value, noise=said)

    def _send(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[self._stdin.write(view) or 0 :]

    def _taken(self, buffer: bytearray, size: int, seconds: float) -> bytes:
        while len(buffer) < size:
            part = self._received(seconds)
            if not part:
                raise self._death()
            buffer += part
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    def _received(self, seconds: float) -> bytes:
        """Return what the child has written; nothing when it is dead or silent for so long."""
        if self._poll is not None:
            return os.read(self._stdout.fileno(), 1 << 20) if self._poll.poll(seconds * 1000) else b""
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            return os.read(self._stdout.fileno(), 1 << 20)
        finally:
            timer.cancel()

    def _death(self) -> _DeathError | _GoneError:
        """Return what this child died of; one that is merely silent is about to be killed for it."""
        try:
            status: int | None = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            status = None
        if status == 0:
            return _GoneError()
        self._noise.seek(0)
        left = self._noise.read(guard_child.NOISE_BYTES)
        place = guard_child.PLACE.unpack_from(left)[0] if len(left) >= guard_child.PLACE.size else -1
        noise = _words(left[guard_child.PLACE.size :])
        if status is None or status == -getattr(signal, "SIGPROF", 0):
            return _DeathError(place, noise, _TIMEOUT, certain=True)
        if status in (guard_child.NO_MEMORY, -getattr(signal, "SIGKILL", 0)):
            return _DeathError(place, noise, _OOM, certain=False)
        cause = signal.strsignal(-status) if status < 0 else f"exit status {status}"
        return _DeathError(place, noise, _crash(cause), certain=False)


def _here(order: Mapping[str, Any], picture: bytes) -> Answer:
    """Run the function in this process."""
    module, _, name = order["function"].partition(":")
    try:
        return Answer(getattr(importlib.import_module(module), name)(picture, **order["options"]))
    except PictureError as error:
        return Answer(error=error)
    except Exception as error:
        return Answer(error=_crash(_words(f"{type(error).__name__}: {error}".encode(errors="backslashreplace"))))


def _scratch_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("tellapart-noise"), "w+b", buffering=0)
    import tempfile  # what it imports in turn is for such systems alone

    return tempfile.TemporaryFile(buffering=0)


def _search_path() -> str:
    """Return a PYTHONPATH on which the child finds this very package."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join([str(Path(__file__).parents[2]), *([given] if given else [])])


def _words(noise: bytes) -> str:
    """Return what libraries printed as one short line."""
    text = " ".join(noise.decode(errors="replace").split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= _NOISE_LENGTH else f"{text[:_NOISE_LENGTH]}..."
