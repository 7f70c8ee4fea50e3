"""Intervals against scipy, which is the oracle, and against simulated samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from tellapart.judge import clopper_pearson
from tellapart.judge.intervals import difference_interval, effective_interval, mean_interval, student_t


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 200_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_exact_interval_is_scipys(counts: tuple[int, int]) -> None:
    successes, n = counts
    got = clopper_pearson(successes, n)
    low = 0.0 if successes == 0 else stats.beta.ppf(0.025, successes, n - successes + 1)
    high = 1.0 if successes == n else stats.beta.ppf(0.975, successes + 1, n - successes)
    assert got == pytest.approx((low, high), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_other_levels_are_scipys_too(level: float) -> None:
    tail = (1 - level) / 2
    expected = stats.beta.ppf(tail, 7, 4), stats.beta.ppf(1 - tail, 8, 3)
    assert clopper_pearson(7, 10, level) == pytest.approx(expected, rel=1e-10)


def test_no_trials_give_no_interval_and_impossible_counts_are_refused() -> None:
    assert clopper_pearson(0, 0) is None
    with pytest.raises(ValueError, match="successes"):
        clopper_pearson(4, 3)


@settings(max_examples=80, deadline=None)
@given(st.floats(1.0, 1e6))
def test_students_t_is_scipys(degrees: float) -> None:
    assert student_t(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-8)


def test_the_interval_of_an_even_mean_is_scipys_and_needs_two_values() -> None:
    values = np.random.default_rng(0).normal(size=37)
    values = np.concatenate([values, -values])
    expected = stats.t.interval(0.95, 73, loc=0.0, scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
    assert mean_interval(values[:1]) is None


def test_at_the_variance_of_a_share_the_effective_interval_is_the_exact_one() -> None:
    assert effective_interval(0.8, 0.8 * 0.2 / 50, 50.0) == pytest.approx(clopper_pearson(40, 50))
    assert effective_interval(1.0, 0.0, 50.0) == pytest.approx(clopper_pearson(50, 50))


@pytest.mark.parametrize(("p", "n"), [(0.5, 20), (0.9, 30), (0.97, 153)])
def test_the_exact_interval_holds_the_truth_at_least_95_times_in_100(p: float, n: int) -> None:
    # Summed over all outcomes with their chances: no sampling error.
    held = 0.0
    for successes in range(n + 1):
        interval = clopper_pearson(successes, n)
        assert interval is not None
        held += float(stats.binom.pmf(successes, n, p)) * (interval[0] <= p <= interval[1])
    assert held >= 0.95


def test_the_interval_of_a_difference_holds_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for first, second in zip(rng.binomial(200, 0.95, 500), rng.binomial(50, 0.85, 500), strict=True):
        one, two = clopper_pearson(int(first), 200), clopper_pearson(int(second), 50)
        assert one is not None
        assert two is not None
        low, high = difference_interval(first / 200, one, second / 50, two)
        held += low <= 0.10 <= high
    assert held / 500 >= 0.95
