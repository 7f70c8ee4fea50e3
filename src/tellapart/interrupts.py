"""SIGINT and SIGTERM to a command: while it starts, it ends at once; once it works, it is told by an exception.

An exception that comes while modules are imported ends up in places where it is lost, or changed into another, so it
waits until they are.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Signalled", "at_once", "by_exception", "forget_waiting", "raise_signalled", "signalled_by"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

# While modules are imported: how often it is looked whether they are, and how long that is waited for.
_LOOK_SECONDS = 0.02
_WAIT_SECONDS = 5.0
_IMPORT = "<frozen importlib._bootstrap>"  # the file of frames that import


class Signalled(KeyboardInterrupt):
    """A signal that asks the process to end, raised in the main thread."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def at_once(tell: Callable[[], None], *, last: bool) -> Iterator[None]:
    """Let a signal end the process with exit code 128 + its number, after `tell()`, until `by_exception` is called.

    When the block ends, signals are let go by if nothing but the process's end comes after it (`last`); else they are
    handled as before. Does nothing outside of the main thread.
    """

    def end(number: int, frame: FrameType | None) -> None:
        try:
            tell()
        finally:
            os._exit(128 + number)

    end.tellapart = True  # type: ignore[attr-defined]
    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        for number in _NUMBERS:
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        forget_waiting()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if last else handler)


def by_exception() -> None:
    """Let a signal raise `Signalled` from now on, where it would have ended the process: work begins."""
    for number in _NUMBERS:
        if getattr(signal.getsignal(number), "tellapart", False):
            signal.signal(number, raise_signalled)


def raise_signalled(number: int, frame: FrameType | None) -> None:
    """Raise `Signalled`, or, where `frame` is inside an import, as soon as that is done (5 s at most).

    For a handler of signals, in the main thread: where it has to wait it returns, and the signal comes again soon, to
    whatever handles it then. One that comes meanwhile joins it, whatever its number: one alone is raised.
    """
    since = _waiting.since if _waiting.again is not None else time.monotonic()
    forget_waiting()
    if not _imports(frame) or time.monotonic() - since > _WAIT_SECONDS:
        raise Signalled(number)
    _waiting.since = since
    _waiting.again = threading.Timer(_LOOK_SECONDS, _send, [number])
    _waiting.again.daemon = True
    _waiting.again.start()


def _send(number: int) -> None:
    """Send the signal to the main thread, which may be waiting for something; elsewhere it hears it when it goes on."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        signal.raise_signal(number)


def forget_waiting() -> None:
    """Let a signal that waits for an import go: whoever would have heard it has ended."""
    if _waiting.again is not None:
        _waiting.again.cancel()
        _waiting.again = None


class _Waiting:
    """The signal that waits for an import, if any: what makes it come again, and since when it waits."""

    again: threading.Timer | None = None
    since: float = 0.0


_waiting = _Waiting()


def signalled_by(error: BaseException) -> Signalled | None:
    """Return the signal that is behind `error`: itself, or what it was made of (its causes, not its context)."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, Signalled):
        cause = cause.__cause__
    return cause


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            return True
        frame = frame.f_back
    return False
