"""The curve of a learning-rate range test, drawn on a logarithmic axis."""

from __future__ import annotations

import math

from tellapart.events import RangeTest
from tellapart.report.charts import BOTTOM, LEFT, RIGHT, TOP, Line, Plot, Tick, nice_ticks

__all__ = ["range_plot"]

_HEIGHT = 220.0
_SHOWN = 3.0  # times the lowest loss: what lies above would leave no room for the rest


def range_plot(test: RangeTest) -> Plot | None:
    """Return the loss against the rate, with the rate that was chosen; None with fewer than two finite losses."""
    points = [(lr, loss) for lr, loss in zip(test.lrs, test.losses, strict=True) if math.isfinite(loss) and lr > 0]
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    highest = _SHOWN * min(loss for _, loss in points)
    shown = [(lr, min(loss, highest)) for lr, loss in points]
    values = nice_ticks(min(loss for _, loss in shown), max(loss for _, loss in shown))
    low, high = math.log10(points[0][0]), math.log10(points[-1][0])

    def x(lr: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log10(lr) - low) / (high - low)

    def y(loss: float) -> float:
        return TOP + (_HEIGHT - BOTTOM - TOP) * (values[-1] - loss) / (values[-1] - values[0])

    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    inside = min(max(test.lr, points[0][0]), points[-1][0])
    return Plot(
        _HEIGHT,
        tuple(Tick(x(10.0**decade), f"1e{decade}") for decade in decades),
        tuple(Tick(y(value), f"{value:g}") for value in values),
        "learning rate",
        (Line("train", tuple((x(lr), y(loss)) for lr, loss in shown), "loss"),),
        rule=Tick(x(inside), f"peak rate: {test.lr:.1e}"),
        floor=_HEIGHT - BOTTOM,
    )
