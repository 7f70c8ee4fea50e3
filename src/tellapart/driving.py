"""Driving a verb: its events are written and shown, and it is interrupted when the user or the system asks."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from tellapart.errors import InterruptedRunError
from tellapart.events import ASKED_TO_END, Decision, Event, EventLog, Recall, Steps
from tellapart.interrupts import forget_waiting, raise_signalled

__all__ = ["Signals", "drive", "finish"]

T = TypeVar("T")

_STOP_LOOKED_FOR_EVERY_SECONDS = 0.5
# A launcher of several processes passes on the signal that a terminal has sent to all of them: that is one wish.
_SAME_WISH_SECONDS = 2.0


def finish(steps: Steps[T], watch: Callable[[Event], None] | None = None) -> T:
    """Run a verb to its end and return its result, showing its events."""
    try:
        while True:
            event = next(steps)
            if watch is not None and not isinstance(event, Recall):
                watch(event)
    except StopIteration as end:
        result: T = end.value
        return result


def drive(
    steps: Steps[T],
    run: Path,
    watch: Callable[[Event], None] | None,
    on_interrupt: Callable[[], None],
    signals: Signals | None = None,
    recorded: Mapping[str, deque[Decision]] | None = None,
) -> tuple[T, int]:
    """Run a verb that has a run folder; return its result and the exit code (0, or 130 or 143 when interrupted).

    The first SIGINT or SIGTERM, or a file named STOP in the folder, calls `on_interrupt` and throws
    InterruptedRunError in at the next event, so that the best so far is kept; a second signal ends everything,
    during an import as soon as that is done.
    `signals` are those that are watched for already; `recorded` is what an attempt that was cut off had decided.
    """
    log = EventLog(run / "events.jsonl")
    exit_code = 0
    with contextlib.nullcontext(signals) if signals is not None else Signals() as signals:
        looked, stop_seen = time.monotonic(), False
        try:
            event = next(steps)
            while True:
                if isinstance(event, Recall):
                    event.decided = (recorded or {}).get(event.name, event.decided)
                else:
                    log.write(event)
                    if watch is not None:
                        watch(event)
                number = signals.take()
                if number is None and not stop_seen and time.monotonic() - looked > _STOP_LOOKED_FOR_EVERY_SECONDS:
                    looked, stop_seen = time.monotonic(), (run / "STOP").exists()
                    number = 0 if stop_seen else None
                if number is None:
                    event = next(steps)
                    continue
                error = InterruptedRunError(number)
                exit_code = error.exit_code
                asked = Decision(ASKED_TO_END, True, "what is decided from here on holds for this attempt alone")
                log.write(asked)
                if watch is not None:
                    watch(asked)
                on_interrupt()
                recorded = None  # an attempt that was in no hurry decided that
                event = steps.throw(error)
        except StopIteration as end:
            return end.value, exit_code
        finally:
            steps.close()
            log.close()


class Signals:
    """Remembers the first SIGINT or SIGTERM; the second raises Signalled. Only in the main thread.

    Of several processes (`WORLD_SIZE`), each gets a signal from the terminal and from their launcher: those within two
    seconds count as one.
    """

    def __init__(self) -> None:
        self._pending: int | None = None
        self._seen_at: float | None = None
        self._one_wish = _SAME_WISH_SECONDS if os.environ.get("WORLD_SIZE", "1") != "1" else 0.0
        self._before: dict[int, Any] = {}

    def take(self) -> int | None:
        """Return the number of the signal that came since this was asked last, if any."""
        pending, self._pending = self._pending, None
        return pending

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._seen_at is None:
            self._seen_at, self._pending = time.monotonic(), number
        elif time.monotonic() - self._seen_at >= self._one_wish:
            raise_signalled(number, frame)

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        forget_waiting()
        for number, handler in self._before.items():
            signal.signal(number, handler)
