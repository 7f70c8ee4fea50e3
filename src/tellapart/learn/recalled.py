"""What an attempt at a fit that was cut off had decided, so that the one that goes on decides alike."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from tellapart.errors import OutOfTimeError
from tellapart.events import Decision, Recall, Steps

__all__ = ["Before", "decided_before"]


@dataclasses.dataclass(frozen=True)
class Before:
    """Where, in an attempt that was cut off, the horizon was moved and memory was too little, by step; at which step
    the time was up; at which place of the fit the rung's was; whether the fit was over. No clock is asked then.
    """

    moves: dict[int, Decision]
    halves: dict[int, list[Decision]]
    last_step: int | None
    cut_off: list[int] | None
    over: bool

    @property
    def decided(self) -> bool:
        """Whether it is known where the fit ended, so that no clock is asked."""
        return self.over or self.last_step is not None or self.cut_off is not None

    def cut(self, steps: Steps[None], place: Callable[[], list[int]]) -> Steps[None]:
        """Yield what `steps` do; raise OutOfTimeError at the place where the rung's time was up, or past it.

        It closes them then. A place is a list of numbers that never goes back.
        """
        with contextlib.closing(steps):
            while True:
                if self.cut_off is not None and place() >= self.cut_off:
                    raise OutOfTimeError
                try:
                    event = next(steps)
                except StopIteration:
                    return
                yield event


def decided_before(stage: str) -> Steps[Before]:
    """Return what was decided under the names of a fit."""
    moves = yield from _recalled(f"{stage}.horizon")
    halves: dict[int, list[Decision]] = {}
    for half in (yield from _recalled(f"{stage}.micro_batch")):
        halves.setdefault(half.value["at"], []).append(half)
    ends = yield from _recalled(f"{stage}.time_up")
    cuts = yield from _recalled(f"{stage}.cut_off")
    over = bool((yield from _recalled(f"{stage}.ended")))
    moved = {move.value["at"]: move for move in moves}
    return Before(moved, halves, ends[0].value if ends else None, cuts[0].value if cuts else None, over)


def _recalled(name: str) -> Steps[list[Decision]]:
    asked = Recall(name)
    yield asked
    return list(asked.decided)
