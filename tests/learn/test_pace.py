"""How many steps there is time for, whatever validation takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.learn.pace import Pace


@given(st.floats(0.01, 2.0), st.floats(0.0, 20.0), st.integers(1, 50), st.integers(1, 5))
def test_a_pause_for_validation_is_no_slower_step(
    step_seconds: float, look_seconds: float, each: int, passes: int
) -> None:
    left = 10_000.0
    pace = Pace(left, 0)
    step = 0
    for _ in range(passes):
        for _ in range(each):
            step, left = step + 1, left - step_seconds
        left -= look_seconds
        pace.looked += look_seconds
    for _ in range(each):
        step, left = step + 1, left - step_seconds
    rate, fits = pace.steps_in(left, step, 1.0)
    assert rate == pytest.approx(1.0 / step_seconds)
    # Later passes take what earlier ones did, validation included.
    assert fits == pytest.approx(left / (step_seconds + look_seconds * passes / step))


def test_steps_to_come_may_be_slower_and_what_was_is_forgotten_then() -> None:
    pace = Pace(100.0, 0)
    assert pace.steps_in(90.0, 20, 0.5) == pytest.approx((1.0, 90.0))
    pace.anew(90.0, 20)
    assert pace.steps_in(80.0, 25, 1.0)[0] == pytest.approx(0.5)


def test_the_clock_is_asked_now_and_then() -> None:
    pace = Pace(100.0, 0)
    assert not pace.is_due(99.0)
    assert pace.is_due(94.0)
    pace.looked = 50.0
    assert not pace.is_due(49.0), "fifty of these seconds were no steps"
    near = Pace(1.0, 0)
    assert not near.is_due(0.6)
    assert near.is_due(0.4)
