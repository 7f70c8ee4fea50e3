"""Wall time: how much of the budget is left, counted from the creation of the process."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["Clock", "processor_share", "seconds_since_process_creation"]

_LOOK_SECONDS = 0.02


def seconds_since_process_creation() -> float:
    """Return how long this process has existed, in seconds; where the system does not say, its processor time."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, AttributeError, ValueError, IndexError):
        return time.process_time()


def processor_share() -> float:
    """Return how much of a processor this thread gets now, in (0, 1]: what takes a second alone takes 1 / that.

    It works for 20 ms to find out, which takes as much longer as other programs are in the way.
    """
    began, worked = time.perf_counter(), time.thread_time()
    while (spent := time.thread_time() - worked) < _LOOK_SECONDS:
        pass
    return min(1.0, spent / max(spent, time.perf_counter() - began))


class Clock:
    """A budget of wall seconds on the monotonic clock. `spent_already` is what was used up before it was made."""

    def __init__(self, budget_seconds: float, spent_already: float = 0.0) -> None:
        self._started = time.monotonic() - spent_already
        self._ends = self._started + budget_seconds
        self.budget_seconds = budget_seconds
        self.interrupted = False

    def spent(self) -> float:
        """Return the seconds since the budget began."""
        return time.monotonic() - self._started

    def left(self) -> float:
        """Return the seconds until the budget ends; negative afterwards."""
        return self._ends - time.monotonic()

    def interrupt(self, seconds: float) -> None:
        """Let the budget end at most `seconds` from now, because someone asked; it is never made longer."""
        self.interrupted = True
        self._ends = min(self._ends, time.monotonic() + seconds)
