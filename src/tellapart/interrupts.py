"""SIGINT and SIGTERM to a command: while it starts, it ends at once; once it works, it is told by an exception.

An exception that comes while modules are imported ends up in places where it is lost, or changed into another.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Signalled", "at_once", "by_exception"]

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


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
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if last else handler)


def by_exception() -> None:
    """Let a signal raise `Signalled` from now on, where it would have ended the process: work begins."""
    for number in _NUMBERS:
        if getattr(signal.getsignal(number), "tellapart", False):
            signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Signalled(number)
