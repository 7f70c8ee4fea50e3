"""When the command began: with its process or, where another program runs it inside its own, when it was called.

And whether it is one of several that a launcher started, and not the one that speaks.
"""

from __future__ import annotations

import os
import time
from contextvars import ContextVar

__all__ = ["called", "follows", "spent"]

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


def follows() -> bool:
    """Return whether another process, of rank 0, runs the same command and says what there is to say."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"
