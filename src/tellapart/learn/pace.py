"""How fast a fit goes of late, and how many steps there is time for."""

from __future__ import annotations

from collections import deque

__all__ = ["Pace"]

_CHECKS = 20  # how often in a fit the horizon is held against the clock
_CHECK_SECONDS = 0.5  # and not more often than that


class Pace:
    """How fast steps have been of late, by the seconds left at the last five looks; validation is told apart.

    `looked` seconds went into validation so far, and none of them into steps.
    """

    def __init__(self, seconds: float, step: int) -> None:
        self.looked = 0.0
        self._began = step
        self.anew(seconds, step)

    def anew(self, seconds: float, step: int) -> None:
        """Forget what was, for steps take another time from here on."""
        self._places = deque([(seconds + self.looked, step)], maxlen=5)

    def is_due(self, seconds: float) -> bool:
        """Say whether enough has gone by to look again."""
        return self._places[-1][0] - self.looked - seconds > max(_CHECK_SECONDS, seconds / _CHECKS)

    def steps_in(self, seconds: float, step: int, to_come: float) -> tuple[float, float]:
        """Return how many steps a second there were up to now, and how many there is time for in `seconds`.

        They will be `to_come` times as fast; validation takes as much of a step as it did.
        """
        self._places.append((seconds + self.looked, step))
        (then, before), (now, _) = self._places[0], self._places[-1]
        rate = to_come * (step - before) / (then - now)
        return rate, seconds / (1.0 / rate + self.looked / max(1, step - self._began))
