"""How long a network is trained and how fast it learns at each step: pure functions of numbers."""

from __future__ import annotations

import bisect
import dataclasses
import math
from typing import Literal

__all__ = [
    "Decay",
    "Horizon",
    "batch_size_for",
    "epochs_for",
    "image_size_for",
    "learning_rate",
    "shape_of",
    "smaller_side",
]


Decay = Literal["linear", "cosine"]


@dataclasses.dataclass(frozen=True, slots=True)
class Horizon:
    """How far a run has come, in [0, 1], as a function of its step: straight lines between knots (step, progress).

    It begins at (0, 0) and ends at (total, 1). Moving the end bends the line where the run stands: progress never
    jumps or goes back, so a machine that turns out slower than measured still sees its rate decay to zero.
    """

    knots: tuple[tuple[int, float], ...]

    @classmethod
    def of(cls, total: int) -> Horizon:
        """Return the straight line to `total` steps (at least 1)."""
        return cls(((0, 0.0), (total, 1.0)))

    @property
    def total(self) -> int:
        """The step at which the run ends."""
        return self.knots[-1][0]

    def progress(self, step: int) -> float:
        """Return the share of the run that is done before `step`."""
        if step >= self.total:
            return 1.0
        right = max(1, bisect.bisect_right(self.knots, (step, math.inf)))
        (x0, y0), (x1, y1) = self.knots[right - 1], self.knots[right]
        return y0 + (y1 - y0) * (step - x0) / (x1 - x0)

    def moved(self, step: int, total: int) -> Horizon:
        """Return the horizon that is this one up to `step` and from there goes straight to (total, 1).

        `total` is taken to be `step + 1` at the least.
        """
        if step <= 0:
            return Horizon.of(max(1, total))
        kept = tuple(knot for knot in self.knots if knot[0] < step)
        return Horizon((*kept, (step, self.progress(step)), (max(total, step + 1), 1.0)))


def learning_rate(progress: float, warmup: float = 0.15, stable: float = 0.0, decay: Decay = "linear") -> float:
    """Return the share of the peak rate at `progress` in [0, 1]: a straight climb, a plateau, then down to zero.

    `warmup` in (0, 1) is the share of the run that the climb takes, `stable` that of the plateau. Without one and with
    a straight decay it is the triangle of Smith and Topin, "Super-convergence" (2019); with one the warm-up, stable,
    decay of Hu and others, "MiniCPM" (arXiv 2404.06395); `cosine` is Loshchilov and Hutter, "SGDR" (2017).
    """
    if progress < warmup:
        return progress / warmup
    left = max(0.0, (1.0 - progress) / (1.0 - warmup - stable))
    if left >= 1.0:
        return 1.0
    return 0.5 * (1.0 - math.cos(math.pi * left)) if decay == "cosine" else left


def shape_of(schedule: Literal["wsd", "cosine"], stable: float) -> tuple[float, Decay]:
    """Return the share of the plateau and the decay of a schedule by its name; `wsd` has a plateau of `stable`."""
    return (stable, "linear") if schedule == "wsd" else (0.0, "cosine")


def batch_size_for(num_pictures: int) -> int:
    """Return the power of two in [8, 256] that is nearest to twice the root of the number of pictures."""
    return int(2 ** min(8, max(3, round(math.log2(2.0 * math.sqrt(max(1, num_pictures)))))))


def epochs_for(num_pictures: int) -> int:
    """Return how many passes are enough with time to spare: fewer pictures are seen more often, within limits."""
    return min(100, max(30, round(40 * math.sqrt(5000 / max(1, num_pictures)))))


def smaller_side(side: int) -> int:
    """Return the side at which pictures of `side` px may be seen in early passes: three quarters; 0 for small ones."""
    return 4 * round(side * 3 / 16) if side >= 24 else 0


def image_size_for(shorter_px: int, num_pictures: int, seconds: float) -> int:
    """Return the side, in pixels, at which a small network sees pictures; `shorter_px` is their median shorter side.

    Up to 64 px it is the pictures' own, rounded up to a multiple of 4, at least 8. Larger pictures are brought to 128,
    96 or 64 px: the largest at which `seconds` are enough for thirty passes at half a million pixels a second.
    """
    if shorter_px <= 64:
        return max(8, 4 * math.ceil(shorter_px / 4))
    for side in (128, 96):
        if shorter_px >= side and num_pictures * side * side * _PASSES <= seconds * _PIXELS_A_SECOND:
            return side
    return 64


_PASSES = 30
_PIXELS_A_SECOND = 500_000.0  # what two cores of a laptop train on with `torch_networks`, in their slower hours
