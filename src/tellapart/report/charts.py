"""Where the marks of a chart stand. Templates draw them.

Across, a place is a share of the width in [0, 1], drawn as a percentage, so that a chart follows the page's width while
its text keeps its size; down, a place is in pixels. Charts have no `viewBox` for that reason.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Epoch
from tellapart.judge.risk import RiskPoint
from tellapart.report.advice import Curve
from tellapart.report.summary import LadderRow, ReliabilityBin
from tellapart.report.tables import level
from tellapart.report.words import amount, duration, interval, percent

__all__ = [
    "HeatMap",
    "Line",
    "Mark",
    "Plot",
    "Tick",
    "curve_plot",
    "growth_plot",
    "heat_map",
    "ladder_plot",
    "nice_ticks",
    "reliability_plot",
    "risk_plot",
]

LEFT, RIGHT = 0.12, 0.965
TOP, BOTTOM = 24.0, 34.0
MAX_POINTS = 160
MAX_HEAT_CLASSES = 400
# A time axis counts in one unit: name, length in seconds, how long a run it serves.
UNITS = (("s", 1.0, 120.0), ("min", 60.0, 7200.0), ("h", 3600.0, math.inf))


@dataclasses.dataclass(frozen=True, slots=True)
class Tick:
    """A grid line and its text; `at` is a share of the width, or pixels from the top."""

    at: float
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A broken line through `points` (share of the width, pixels); `style` is a class of the style sheet."""

    style: str
    points: tuple[tuple[float, float], ...]
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """A dot with a label beside it; `title` is what it says in full, `anchor` start, middle or end.

    `reach` holds the two heights, in pixels, between which its interval lies.
    """

    x: float
    y: float
    text: str
    title: str
    anchor: str = "start"
    label_x: float = 0.0
    label_y: float = 0.0
    radius: float = 5.0
    style: str = ""
    reach: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Plot:
    """A whole chart. `rule` is a dashed vertical line with a text, such as the epoch that was kept."""

    height: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_title: str
    lines: tuple[Line, ...] = ()
    marks: tuple[Mark, ...] = ()
    rule: Tick | None = None
    left: float = LEFT
    right: float = RIGHT
    floor: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class HeatMap:
    """A matrix of `side` by `side` cells: for each style (`r1` to `w9`) a path through the cells that have it."""

    side: int
    paths: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Frame:
    """The ranges of the data and the box they fill."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    height: float

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low or 1.0
        return LEFT + (RIGHT - LEFT) * (value - self.x_low) / span

    def y(self, value: float) -> float:
        span = self.y_high - self.y_low or 1.0
        room = self.height - TOP - BOTTOM
        return round(TOP + room * (1 - (value - self.y_low) / span), 2)


def nice_ticks(low: float, high: float, about: int = 4) -> tuple[float, ...]:
    """Return round values from at or below `low` to at or above `high`, about as many as asked.

    Steps are 1, 2 or 5 times a power of ten (Heckbert, "Nice numbers for graph labels", Graphics Gems, 1990).
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return (0.0, 1.0)
    largest = max(1.0, abs(low), abs(high))
    if high - low < 1e-9 * largest:
        low, high = low - largest / 2, high + largest / 2
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-13), math.ceil(high / step - 1e-13)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def ladder_plot(rows: Sequence[LadderRow]) -> Plot | None:
    """Return validation accuracy against the time spent so far, one dot a rung, or None for fewer than two rungs."""
    climbed = [row for row in rows if row.skipped is None and row.accuracy is not None and math.isfinite(row.accuracy)]
    if len(climbed) < 2 or any(row.left_out for row in climbed):
        return None
    ends, clock = [], 0.0
    for row in climbed:
        clock += row.seconds if math.isfinite(row.seconds) else 0.0
        ends.append(clock)
    scores = [row.accuracy or 0.0 for row in climbed]
    ranges = [row.interval or (value, value) for row, value in zip(climbed, scores, strict=True)]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    y_values = _clipped(nice_ticks(max(0.0, low - 0.02), min(1.0, high + 0.02)))
    unit, length = next((unit, length) for unit, length, most in UNITS if ends[-1] < most)
    x_values = [value * length for value in nice_ticks(0.0, ends[-1] / length or 1.0)]
    frame = _Frame(0.0, max(x_values[-1], ends[-1]), y_values[0], y_values[-1], 260.0)
    best, stairs = scores[0], [(frame.x(ends[0]), frame.y(scores[0]))]
    for end, value in zip(ends[1:], scores[1:], strict=True):
        stairs.append((frame.x(end), frame.y(best)))
        best = max(best, value)
        stairs.append((frame.x(end), frame.y(best)))
    marks: list[Mark] = []
    for row, end, value, (low, high) in zip(climbed, ends, scores, ranges, strict=True):
        x, y = frame.x(end), frame.y(value)
        range_ = f"; 95% interval {interval(low, high, row.n)}" if row.interval else ""
        anchor = "start" if x < 0.4 else "end"
        marks.append(
            Mark(
                x=x,
                y=y,
                text=f"{row.method} {percent(value, row.n)}",
                title=f"{row.method}: {percent(value, row.n)} after {duration(end)}{range_}",
                anchor=anchor,
                label_x=x + (0.022 if anchor == "start" else -0.022),
                label_y=_free_height([mark.label_y for mark in marks if abs(mark.x - x) < 0.3], y - 10),
                style="chosen" if row.chosen else "",
                reach=(frame.y(low), frame.y(high)),
            )
        )
    return Plot(
        frame.height,
        tuple(Tick(frame.x(value), f"{value / length:g}\u00a0{unit}" if value else "0") for value in x_values),
        tuple(Tick(frame.y(value), _share(value)) for value in y_values),
        "time spent so far",
        (Line("best", tuple(stairs)),),
        tuple(marks),
        floor=frame.height - BOTTOM,
    )


def _free_height(taken: Sequence[float], wanted: float) -> float:
    """Return the height nearest to `wanted`, going down, that is at least a line of text from those taken."""
    while any(abs(wanted - other) < 14 for other in taken):
        wanted += 14
    return wanted


def _clipped(ticks: Sequence[float]) -> tuple[float, ...]:
    inside = tuple(tick for tick in ticks if -1e-9 <= tick <= 1 + 1e-9)
    return inside if len(inside) > 1 else (0.0, 1.0)


def curve_plot(epochs: Sequence[Epoch], what: str) -> Plot | None:
    """Return the learning curves of `what`, `loss` or `accuracy`, in training and validation; None without a number."""
    series = {
        "train": [(epoch.epoch, getattr(epoch, f"train_{what}")) for epoch in epochs],
        "val": [(epoch.epoch, getattr(epoch, f"val_{what}")) for epoch in epochs],
    }
    series = {
        name: [(epoch, value) for epoch, value in points if value is not None and math.isfinite(value)]
        for name, points in series.items()
    }
    values = [value for points in series.values() for _, value in points]
    if not values:
        return None
    passes = [epoch.epoch for epoch in epochs]
    y_values = nice_ticks(min(values), max(values))
    if what == "accuracy":
        y_values = _clipped(y_values)
    frame = _Frame(passes[0], passes[-1], y_values[0], y_values[-1], 220.0)
    if passes[0] == passes[-1]:
        frame = dataclasses.replace(frame, x_low=passes[0] - 1, x_high=passes[0] + 1)
    wanted = [round(value) for value in nice_ticks(passes[0], passes[-1], 5)]
    x_values = [value for value in dict.fromkeys([passes[0], *wanted, passes[-1]]) if passes[0] <= value <= passes[-1]]
    lines = tuple(
        Line(name, tuple((frame.x(epoch), frame.y(value)) for epoch, value in _thinned(points)), name)
        for name, points in series.items()
        if points
    )
    dots = tuple(
        Mark(*line.points[-1], text="", title=f"{line.name}, last epoch", radius=3.5, style=line.style)
        for line in lines
    )
    return Plot(
        frame.height,
        tuple(Tick(frame.x(value), str(value)) for value in _apart(x_values, passes[-1] - passes[0])),
        tuple(Tick(frame.y(value), _share(value) if what == "accuracy" else f"{value:g}") for value in y_values),
        "epoch",
        lines,
        dots,
        _best_epoch(epochs, frame),
        floor=frame.height - BOTTOM,
    )


def _best_epoch(epochs: Sequence[Epoch], frame: _Frame) -> Tick | None:
    judged = [(epoch.val_loss, epoch.epoch) for epoch in epochs if epoch.val_loss is not None]
    finite = [(loss, epoch) for loss, epoch in judged if math.isfinite(loss)]
    if len(finite) < 2:
        return None
    _, best = min(finite)
    return Tick(frame.x(best), f"lowest validation loss: epoch {best}")


def _apart(values: Sequence[int], span: int) -> list[int]:
    """Return the values of an axis that leave room for their texts; the last one always stays."""
    kept: list[int] = []
    for value in values[:-1]:
        if (not kept or value - kept[-1] >= span * 0.08) and values[-1] - value >= span * 0.08:
            kept.append(value)
    return [*kept, values[-1]]


def _thinned(points: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    """Return at most about MAX_POINTS points, evenly taken, with the last one."""
    stride = math.ceil(len(points) / MAX_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def growth_plot(curve: Curve) -> Plot | None:
    """Return accuracy against the number of training pictures (doubling along the axis), the forecast hollow."""
    points = [point for point in curve.points if _finite(point.accuracy) and point.size > 0]
    known = [point for point in points if not point.forecast]
    if len(known) < 2:
        return None
    y_values = _clipped(nice_ticks(min(point.low for point in points), max(point.high for point in points)))
    places = [math.log2(point.size) for point in points]
    frame = _Frame(min(places), max(places), y_values[0], y_values[-1], 260.0)
    marks = tuple(
        Mark(
            frame.x(place),
            frame.y(point.accuracy),
            text="",
            title=f"{'forecast for ' if point.forecast else ''}{amount(point.size)} pictures: "
            f"{percent(point.accuracy, curve.n)}; 95% interval {interval(point.low, point.high, curve.n)}",
            style="few" if point.forecast else "",
            reach=(frame.y(point.low), frame.y(point.high)),
        )
        for place, point in zip(places, points, strict=True)
    )
    dots = [(mark.x, mark.y) for mark in marks]
    last = len(known) - 1
    step = max(1, math.ceil((max(places) - min(places)) / 5))
    powers = range(math.ceil(min(places)), math.floor(max(places)) + 1, step)
    return Plot(
        frame.height,
        tuple(Tick(frame.x(power), amount(2.0**power)) for power in powers),
        tuple(Tick(frame.y(value), _share(value)) for value in y_values),
        "training pictures",
        (Line("best", tuple(dots[: last + 1])), Line("ideal", tuple(dots[last:]))),
        marks,
        floor=frame.height - BOTTOM,
    )


def reliability_plot(bins: Sequence[ReliabilityBin], before: Sequence[ReliabilityBin] = ()) -> Plot | None:
    """Return how often answers of one probability are right, against that probability; None without a picture.

    A faint line is `before` calibration.
    """
    usable, earlier = _usable(bins), [b for b in _usable(before) if b.n >= 10]
    if not usable:
        return None
    frame = _Frame(0.0, 1.0, 0.0, 1.0, 280.0)
    most = max(b.n for b in usable)
    marks = tuple(
        Mark(
            frame.x(b.confidence or 0.0),
            frame.y(b.accuracy or 0.0),
            text="",
            title=f"said {percent(b.confidence)}, right {percent(b.accuracy, b.n)} of {amount(b.n)}",
            radius=round(3.0 + 6.0 * math.sqrt(b.n / most), 2),
            style="few" if b.n < 10 else "",
        )
        for b in usable
    )
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    return Plot(
        frame.height,
        tuple(Tick(frame.x(value), _share(value)) for value in ticks),
        tuple(Tick(frame.y(value), _share(value)) for value in ticks),
        "probability it gave",
        (
            Line("ideal", ((frame.x(0), frame.y(0)), (frame.x(1), frame.y(1)))),
            Line("best", tuple((frame.x(b.confidence or 0.0), frame.y(b.accuracy or 0.0)) for b in earlier)),
            Line("val", tuple((mark.x, mark.y) for mark in marks if mark.style != "few")),
        ),
        marks,
        floor=frame.height - BOTTOM,
    )


def _usable(bins: Sequence[ReliabilityBin]) -> list[ReliabilityBin]:
    return [b for b in bins if b.n and _finite(b.confidence) and _finite(b.accuracy)]


def risk_plot(points: Sequence[RiskPoint], min_prob: float | None) -> Plot | None:
    """Return how often answers are right against how many are given, with the point chosen; None for one point."""
    if len(points) < 2:
        return None
    low = min(point.accuracy for point in points)
    y_ticks = _clipped(nice_ticks(min(low, 0.99), 1.0))
    frame = _Frame(0.0, 1.0, y_ticks[0], y_ticks[-1], 280.0)
    chosen = [point for point in points if min_prob is not None and point.min_prob >= min_prob][-1:]
    marks = tuple(
        Mark(
            frame.x(point.share),
            frame.y(point.accuracy),
            text="chosen",
            title=f"chosen: {percent(point.share)} answered, {percent(point.accuracy)} of them right",
            anchor="end" if point.share > 0.5 else "start",
            label_x=frame.x(point.share) + (-0.02 if point.share > 0.5 else 0.02),
            label_y=frame.y(point.accuracy) + 18.0,
        )
        for point in chosen
    )
    return Plot(
        frame.height,
        tuple(Tick(frame.x(value), _share(value)) for value in (0.0, 0.25, 0.5, 0.75, 1.0)),
        tuple(Tick(frame.y(value), _share(value)) for value in y_ticks),
        "share of the pictures answered",
        (Line("val", tuple((frame.x(point.share), frame.y(point.accuracy)) for point in points)),),
        marks,
        floor=frame.height - BOTTOM,
    )


def heat_map(confusion: NDArray[np.int64]) -> HeatMap:
    """Return a confusion matrix, int [K, K], as shades of each row's shares; cells without a picture are left out."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    cells: dict[str, list[str]] = {}
    for true, predicted in zip(*(places.tolist() for places in np.nonzero(confusion)), strict=True):
        style = f"{'r' if true == predicted else 'w'}{level(float(shares[true, predicted]))}"
        cells.setdefault(style, []).append(f"M{predicted} {true}h1v1h-1z")
    return HeatMap(len(confusion), tuple((style, "".join(parts)) for style, parts in sorted(cells.items())))


def _share(value: float) -> str:
    return f"{round(100 * value, 6):g}%"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
