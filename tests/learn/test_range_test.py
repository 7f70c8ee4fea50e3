from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.learn.range_test import HIGHEST, LOWEST, rate_at, rate_from


@given(st.integers(2, 200))
def test_rates_rise_evenly_on_a_logarithmic_scale(total: int) -> None:
    rates = [rate_at(step, total) for step in range(total)]
    assert rates[0] == LOWEST
    assert rates[-1] == pytest.approx(HIGHEST)
    assert all(late > early for early, late in itertools.pairwise(rates))


def test_the_rate_is_well_below_where_the_loss_is_lowest_and_what_comes_after_it_blew_up_does_not_count() -> None:
    lrs = [rate_at(step, 41) for step in range(41)]
    losses = [1.0 - 0.02 * step if step <= 25 else 0.5 * 1.6 ** (step - 25) for step in range(41)]
    chosen = rate_from(lrs, losses)
    assert lrs[25] / 10 < chosen < lrs[27]
    assert rate_from(lrs, [*losses[:35], *[0.0] * 6]) == chosen
    assert rate_from(lrs, [*losses[:35], math.nan, *losses[36:]]) == chosen


def test_where_nothing_is_learned_at_any_rate_the_lowest_is_taken() -> None:
    lrs = [rate_at(step, 10) for step in range(10)]
    assert rate_from(lrs, [1.0 + step for step in range(10)]) <= lrs[0]
