"""When the command began: with its process or, where another program runs it inside its own, when it was called."""

from __future__ import annotations

import time
from contextvars import ContextVar

__all__ = ["called", "spent"]

_CALLED: ContextVar[float | None] = ContextVar("called", default=None)


def called(inside: bool) -> None:
    """Note that the command was called; `inside` another program, whose own age is none of its budget's."""
    _CALLED.set(time.monotonic() if inside else None)


def spent() -> float:
    """Return the wall seconds of the command so far."""
    began = _CALLED.get()
    if began is not None:
        return time.monotonic() - began
    from tellapart.ladder.clock import seconds_since_process_creation

    return seconds_since_process_creation()
