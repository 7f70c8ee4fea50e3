"""McNemar's test against scipy, and a sentence that says which model is better only where one is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from tellapart.judge import paired_accuracy


def _pictures(both: int, first: int, second: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    counts = [both, first, second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_p_is_that_of_the_exact_binomial_and_the_interval_holds_the_difference(
    counts: tuple[int, int, int, int],
) -> None:
    got = paired_accuracy(*_pictures(*counts))
    _, first, second, _ = counts
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert got.p == pytest.approx(expected, rel=1e-9)
    assert got.difference == pytest.approx((first - second) / sum(counts))
    assert -1.0 <= got.low <= got.high <= 1.0
    assert (got.only_first, got.only_second, got.n) == (first, second, sum(counts))


def test_the_sentence_names_the_better_one_and_by_how_much() -> None:
    got = paired_accuracy(*_pictures(150, 30, 5, 15), names=("new", "old"))
    assert got.clear
    assert got.words == (
        "Of the same 200 pictures, 30 were named right by new alone, 5 by old alone: new is better than old by "
        f"12.5 points (95% interval {100 * got.low:+.1f} to {100 * got.high:+.1f}, McNemar p 2.2e-05)."
    )
    swapped = paired_accuracy(*_pictures(150, 30, 5, 15)[::-1], names=("new", "old"))
    assert "old is better than new by 12.5 points" in swapped.words
    assert (
        "no clear difference between new and old"
        in paired_accuracy(*_pictures(90, 4, 3, 3), None, ("new", "old")).words
    )


def test_a_difference_that_comes_from_one_group_alone_is_not_clear() -> None:
    first, second = _pictures(150, 20, 0, 30)
    assert paired_accuracy(first, second).clear
    groups = np.where(first & ~second, -1, np.arange(200))
    grouped = paired_accuracy(first, second, groups)
    assert not grouped.clear
    assert grouped.p is None
    assert grouped.difference == pytest.approx(0.1)
