"""The learning-rate range test: a rate that rises from step to step, and what its losses say of the best one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

__all__ = ["Rates", "rate_at", "rate_from"]

_SMOOTH = 0.7  # how much of the running loss is kept
_SMOOTHED = ((1.0 - _SMOOTH) / (1.0 + _SMOOTH)) ** 0.5  # of the spread of losses is that of running ones
_FEW, _CLEAR = 6, 6.0  # losses that tell their spread; standard deviations, for the lowest is one of many
_BLOWN = 2.0  # times the lowest running loss: from there on nothing is learned of rates


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """The rates of a test, all above zero: from `lowest` to `highest`; `usual` is taken where there is no time for one.

    `below` is how many times below the one where the loss is lowest the rate is taken: there it is still falling.
    `within` is how many times above or below the usual one what a test finds may lie (infinity: anywhere).
    """

    lowest: float
    highest: float
    usual: float
    below: float = 4.0
    within: float = math.inf

    @classmethod
    def around(cls, usual: float, below: float, within: float) -> Rates:
        """Return rates from a fiftieth of the usual one to twenty times as high."""
        return cls(usual / 50.0, usual * 20.0, usual, below, within)

    def held(self, rate: float) -> float:
        """Return `rate`, or the nearest to it that may be."""
        return min(max(rate, self.usual / self.within), self.usual * self.within)


def rate_at(step: int, total: int, rates: Rates) -> float:
    """Return the rate of one of `total` steps (at least 2): evenly spaced on a logarithmic scale."""
    return rates.lowest * float((rates.highest / rates.lowest) ** (step / (total - 1)))


def rate_from(lrs: Sequence[float], losses: Sequence[float], below: float) -> tuple[float, str]:
    """Return the rate to use from the losses at rising rates, and in words where it comes from.

    It is the rate at which the loss is lowest, divided by `below`, where it clearly falls before. The loss of a fit
    that begins near its end, as one with a fitted head does, falls by less than batches differ, so that the place of
    the lowest is chance: then it is half of the highest rate before the loss rises by more than that. Losses are
    smoothed, and read up to where they have blown up to twice the lowest. Smith, "Cyclical learning rates for training
    neural networks" (2017), in the form that practitioners use.
    """
    smooth = list(itertools.accumulate(losses, lambda past, now: _SMOOTH * past + (1.0 - _SMOOTH) * now))
    lowest, best = smooth[0], 0
    for place, loss in enumerate(smooth):
        if not loss <= _BLOWN * lowest:
            break
        if loss < lowest:
            lowest, best = loss, place
    few = losses[: max(_FEW, len(losses) // 3)]
    noise = _SMOOTHED * _spread(few)
    before = few[:best] or few[:1]  # what rises after the lowest is no sign that the loss has fallen
    if len(few) < _FEW or sum(before) / len(before) - lowest > _CLEAR * noise:
        return lrs[best] / below, f"1/{below:g} of where the loss is lowest in {len(lrs)} steps at rising rates"
    highest = best
    while highest + 1 < len(smooth) and smooth[highest + 1] <= lowest + _CLEAR * noise:
        highest += 1
    return lrs[highest] / 2.0, f"half of the highest of {len(lrs)} rising rates before the loss rises; it falls at none"


def _spread(losses: Sequence[float]) -> float:
    """Return the standard deviation of losses along a line that may rise or fall, from each one and its neighbours."""
    bends = [
        (past - 2.0 * now + to_come) ** 2 for past, now, to_come in zip(losses, losses[1:], losses[2:], strict=False)
    ]
    return math.sqrt(sum(bends) / (6 * len(bends))) if bends else 0.0
