from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.learn.range_test import Rates, rate_at, rate_from

RATES = Rates(1e-5, 0.1, 3e-4)


@given(st.integers(2, 200))
def test_rates_rise_evenly_on_a_logarithmic_scale(total: int) -> None:
    rates = [rate_at(step, total, RATES) for step in range(total)]
    assert rates[0] == RATES.lowest
    assert rates[-1] == pytest.approx(RATES.highest)
    assert all(late > early for early, late in itertools.pairwise(rates))


def test_the_rate_is_well_below_where_the_loss_is_lowest_and_what_comes_after_it_blew_up_does_not_count() -> None:
    lrs = [rate_at(step, 41, RATES) for step in range(41)]
    losses = [1.0 - 0.02 * step if step <= 25 else 0.5 * 1.6 ** (step - 25) for step in range(41)]
    chosen, _ = rate_from(lrs, losses, 4.0)
    assert lrs[25] / 10 < chosen < lrs[27]
    assert rate_from(lrs, [*losses[:35], *[0.0] * 6], 4.0)[0] == chosen
    assert rate_from(lrs, [*losses[:35], math.nan, *losses[36:]], 4.0)[0] == chosen


def test_where_nothing_is_learned_at_any_rate_the_lowest_is_taken() -> None:
    lrs = [rate_at(step, 10, RATES) for step in range(10)]
    assert rate_from(lrs, [1.0 + step for step in range(10)], 4.0)[0] <= lrs[0]


def test_a_loss_that_rises_from_the_first_step_on_has_not_fallen() -> None:
    lrs = [rate_at(step, 15, RATES) for step in range(15)]
    # of a fit above a cut, whose head was fitted before: 2.5e-6 was taken, at which nothing is learned
    losses = [0.302, 0.347, 0.354, 0.455, 0.514, 0.565, 0.772, 1.124, 1.107, 1.122, 1.816, 2.999, 4.046, 4.433, 6.912]
    chosen, words = rate_from(lrs, losses, 4.0)
    assert 1e-5 < chosen < 1e-4
    assert "before the loss rises" in words
    rates = Rates(1e-5, 0.1, 3e-4, within=4.0)
    assert rates.held(chosen) == pytest.approx(7.5e-5)


def test_a_fit_that_begins_near_its_end_gets_the_highest_rate_that_does_no_harm() -> None:
    lrs = [rate_at(step, 33, RATES) for step in range(33)]
    found = []
    for seed in range(40):
        draws = np.random.default_rng(seed).normal(0.0, 0.1, 33)
        losses = [0.88 + noise + 0.15 * max(0.0, math.log2(lr / 5e-4)) for lr, noise in zip(lrs, draws, strict=True)]
        found.append(rate_from(lrs, losses, 4.0)[0])
    assert 3e-4 < np.median(found) < 2e-3, "the loss rises from 5e-4 on"
    assert np.mean([1e-4 < lr < 3e-3 for lr in found]) >= 0.85


def test_what_is_found_stays_near_what_is_usual_where_that_is_known_well() -> None:
    rates = Rates.around(0.1, below=2.0, within=2.0)
    assert (rates.lowest, rates.highest) == pytest.approx((0.002, 2.0))
    assert [rates.held(rate) for rate in (0.01, 0.07, 0.9)] == pytest.approx([0.05, 0.07, 0.2])
    assert RATES.held(0.09) == 0.09
