from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.events import Epoch, RangeTest
from tellapart.judge import RiskPoint
from tellapart.report import LadderRow, ReliabilityBin, advice, charts
from tellapart.report.charts import LEFT, MAX_POINTS, RIGHT, Plot, curve_plot, ladder_plot, nice_ticks, reliability_plot
from tellapart.report.range_plot import range_plot

SHARES = st.floats(0, 1)
MAYBE = st.none() | st.floats()


def inside(plot: Plot) -> bool:
    """Whether every mark and point lies within the box of the axes."""
    points = [(mark.x, mark.y) for mark in plot.marks] + [point for line in plot.lines for point in line.points]
    return all(LEFT - 1e-9 <= x <= RIGHT + 1e-9 and 0 <= y <= plot.floor + 0.01 for x, y in points)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.integers(1, 8))
def test_ticks_enclose_the_data_at_equal_steps(low: float, span: float, about: int) -> None:
    ticks = nice_ticks(low, low + span, about)
    assert 2 <= len(ticks) <= 2 * about + 3
    assert ticks[0] <= low + 1e-6 * max(1, abs(low))
    assert ticks[-1] >= low + span - 1e-6 * max(1, abs(low + span))
    steps = {round((b - a) / (ticks[1] - ticks[0]), 3) for a, b in itertools.pairwise(ticks)}
    assert steps == {1.0}


@given(
    st.lists(
        st.builds(
            LadderRow,
            st.sampled_from(["majority", "probe"]),
            seconds=st.floats(0, 1e5),
            n=st.just(50),
            accuracy=st.none() | SHARES,
            skipped=st.none() | st.just("no time"),
        ),
        max_size=6,
    )
)
def test_the_ladder_shows_each_rung_that_was_climbed_within_its_axes(rows: list[LadderRow]) -> None:
    climbed = [row for row in rows if row.skipped is None and row.accuracy is not None]
    plot = ladder_plot(rows)
    if len(climbed) < 2:
        assert plot is None
        return
    assert plot is not None
    assert [mark.text.split()[0] for mark in plot.marks] == [row.method for row in climbed]
    assert inside(plot)


def test_a_better_rung_stands_higher_and_a_later_one_further_right() -> None:
    plot = ladder_plot(
        [LadderRow("majority", None, 0.0, 44, 0.53), LadderRow("probe", None, 7.1, 44, 0.98, chosen=True)]
    )
    assert plot is not None
    first, second = plot.marks
    assert second.y < first.y
    assert second.x > first.x
    assert second.title == "probe: 98% after 7.1\u00a0s; 95% interval 88 to 99%"
    assert [tick.text for tick in plot.x_ticks] == ["0", "2\u00a0s", "4\u00a0s", "6\u00a0s", "8\u00a0s"]


def test_labels_of_rungs_that_stand_close_do_not_cover_each_other() -> None:
    plot = ladder_plot([LadderRow(f"rung{index}", None, 0.01, 44, 0.9 + 0.001 * index) for index in range(4)])
    assert plot is not None
    near = [(a, b) for a, b in itertools.combinations(plot.marks, 2) if abs(a.x - b.x) < 0.3]
    assert len(near) == 3
    assert all(abs(a.label_y - b.label_y) >= 14 for a, b in near)


@given(st.lists(st.tuples(MAYBE, MAYBE, MAYBE), max_size=12), st.sampled_from(["loss", "accuracy"]))
def test_learning_curves_stay_within_their_axes_whatever_was_measured(
    numbers: list[tuple[float | None, float | None, float | None]], what: str
) -> None:
    def bounded(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return value
        return abs(math.remainder(value, 1.0)) if what == "accuracy" else max(-1e9, min(value, 1e9))

    epochs = []
    for index, (train, val, other) in enumerate(numbers, start=1):
        seen = bounded(math.nan if train is None else train) or 0.0
        epochs.append(Epoch(index, index, 0.1, seen, seen, bounded(val), bounded(other), 1.0))
    plot = curve_plot(epochs, what)
    if plot is not None:
        assert inside(plot)


def test_the_epoch_with_the_lowest_validation_loss_is_marked() -> None:
    losses = [0.9, 0.5, 0.4, 0.6, 0.8]
    epochs = [Epoch(index, index, 0.1, 1.0, 0.5, loss, 0.5, 1.0) for index, loss in enumerate(losses, start=1)]
    plot = curve_plot(epochs, "loss")
    assert plot is not None
    assert plot.rule is not None
    assert plot.rule.text == "lowest validation loss: epoch 3"
    assert plot.rule.at == pytest.approx((LEFT + RIGHT) / 2)


def test_a_long_run_is_drawn_with_few_points_and_keeps_its_last() -> None:
    epochs = [Epoch(index, index, 0.1, 1.0 / index, 0.5, 1.0 / index, 0.5, 1.0) for index in range(1, 5001)]
    plot = curve_plot(epochs, "loss")
    assert plot is not None
    for line in plot.lines:
        assert len(line.points) <= MAX_POINTS + 1
        assert line.points[-1][0] == pytest.approx(RIGHT)


def test_honest_probabilities_lie_on_the_diagonal() -> None:
    bins = [ReliabilityBin(i / 10, (i + 1) / 10, 5 * i, i / 10 + 0.05, i / 10 + 0.05) for i in range(10)]
    plot = reliability_plot(bins)
    assert plot is not None
    (x0, y0), (x1, y1) = plot.lines[0].points
    assert len(plot.marks) == 9
    for mark in plot.marks:
        assert mark.y == pytest.approx(y0 + (y1 - y0) * (mark.x - x0) / (x1 - x0), abs=0.02)
    assert [mark.style for mark in plot.marks][:2] == ["few", ""]
    assert reliability_plot([ReliabilityBin(0, 1, 0, None, None)]) is None


def test_bins_of_few_pictures_are_hollow_and_no_line_leads_through_them() -> None:
    bins = [ReliabilityBin(0.5, 0.6, 40, 0.55, 0.6), ReliabilityBin(0.6, 0.7, 2, 0.65, 0.0)]
    plot = reliability_plot([*bins, ReliabilityBin(0.9, 1.0, 60, 0.95, 0.9)])
    assert plot is not None
    assert len(plot.lines[-1].points) == 2
    assert reliability_plot(bins[1:]) is not None


def test_growth_doubles_along_the_axis_and_marks_what_is_forecast():
    points = [advice.CurvePoint(size, value, value - 0.02, value + 0.02) for size, value in ((100, 0.7), (200, 0.8))]
    curve = advice.Curve((*points, advice.CurvePoint(400, 0.85, 0.8, 0.9, forecast=True)), n=300)
    plot = charts.growth_plot(curve)
    assert plot is not None
    left, middle, right = (mark.x for mark in plot.marks)
    assert middle - left == pytest.approx(right - middle)
    assert [mark.style for mark in plot.marks] == ["", "", "few"]
    assert "forecast for 400 pictures: 85.0%" in plot.marks[2].title
    assert charts.growth_plot(advice.Curve(curve.points[1:], n=300)) is None


def test_probabilities_before_calibration_are_a_line_of_their_own() -> None:
    bins = [ReliabilityBin(low / 10, low / 10 + 0.1, 50, low / 10 + 0.05, low / 10 + 0.05) for low in range(5, 10)]
    before = [dataclasses.replace(part, accuracy=(part.accuracy or 0.0) - 0.1) for part in bins]
    plot = reliability_plot(bins, before)
    assert plot is not None
    _, faint, now = plot.lines
    assert [x for x, _ in faint.points] == [x for x, _ in now.points]
    assert all(
        low > high for (_, low), (_, high) in zip(faint.points, now.points, strict=True)
    )  # heights run downwards


def test_the_point_where_the_model_stops_lies_on_the_risk_coverage_curve() -> None:
    points = [RiskPoint(0.9, 0.25, 1.0), RiskPoint(0.7, 0.5, 0.96), RiskPoint(0.4, 1.0, 0.8)]
    plot = charts.risk_plot(points, 0.6)
    assert plot is not None
    [mark] = plot.marks
    assert (mark.x, mark.y) == plot.lines[0].points[1]
    assert "50% answered, 96% of them right" in mark.title.replace(".0%", "%")
    assert charts.risk_plot(points[:1], 0.6) is None
    nothing = charts.risk_plot(points, 0.95)
    assert nothing is not None
    assert nothing.marks == ()


@given(
    st.lists(st.floats(1e-6, 1e6) | st.just(math.nan) | st.just(math.inf), min_size=0, max_size=60),
    st.floats(1e-8, 1.0),
)
def test_a_range_test_stays_within_its_axes_whatever_was_measured(losses: list[float], lr: float) -> None:
    lrs = tuple(1e-5 * 1.3**step for step in range(len(losses)))
    plot = range_plot(RangeTest(lrs, tuple(losses), lr))
    if sum(map(math.isfinite, losses)) < 2:
        assert plot is None
        return
    assert plot is not None
    assert plot.rule is not None
    for across, down in [*plot.lines[0].points, (plot.rule.at, plot.height - 40)]:
        assert -1e-6 <= across <= 1 + 1e-6
        assert -1e-6 <= down <= plot.height + 1e-6
