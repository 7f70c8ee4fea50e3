"""The worst slice is named when it is truly worse, and hardly ever when it is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from tellapart.judge import Slices, compare_slices
from tellapart.judge.slices import fisher_worse, holm


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(2, 400))
def test_the_test_is_scipys(data: st.DataObject, total: int) -> None:
    n, wrong = data.draw(st.integers(1, total - 1)), data.draw(st.integers(0, total))
    missed = data.draw(st.integers(max(0, n + wrong - total), min(n, wrong)))
    table = [[missed, n - missed], [wrong - missed, total - n - wrong + missed]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert fisher_worse(missed, n, wrong, total) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_correction_is_holms_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def drawn(rng: np.random.Generator, n: int, dark_share: float) -> tuple[NDArray[np.bool_], Slices]:
    brightness, size = rng.uniform(0, 255, n), rng.choice([32.0, 64.0, 128.0], n)
    folder = rng.choice(["north", "south", "west"], n).tolist()
    right = rng.random(n) < np.where(brightness < np.quantile(brightness, 0.25), dark_share, 0.9)
    found = compare_slices(right, {"brightness": brightness, "shorter side": size}, {"folder": folder})
    return right, found


def test_a_slice_that_is_worse_is_named_with_its_numbers() -> None:
    right, found = drawn(np.random.default_rng(0), 400, 0.6)
    worst = found.worst
    assert worst is not None
    assert worst.what == "brightness"
    assert worst.where.startswith("0.")
    assert worst.n == 100
    assert worst.gap == pytest.approx(worst.accuracy - worst.rest_accuracy)
    assert worst.accuracy_low < worst.accuracy < worst.accuracy_high < worst.rest_accuracy
    assert worst.gap_low < worst.gap < worst.gap_high < 0
    assert worst.accuracy * worst.n + worst.rest_accuracy * worst.rest_n == pytest.approx(right.sum())
    assert sum(one.n for one in found.all if one.what == "folder") == 400


def test_where_no_slice_is_worse_one_is_named_in_at_most_five_of_a_hundred_sets() -> None:
    rng = np.random.default_rng(1)
    named = sum(drawn(rng, 200, 0.9)[1].worst is not None for _ in range(400))
    assert named <= 0.05 * 400 + 2.33 * np.sqrt(0.05 * 0.95 * 400), named


def test_too_few_pictures_and_one_value_alone_are_no_slices() -> None:
    assert compare_slices(np.zeros(0, dtype=bool), {"size": np.zeros(0)}, {"folder": []}) == Slices((), None)
    right = np.arange(40) % 3 > 0
    assert compare_slices(right, {"size": np.full(40, 32.0)}, {"folder": ["a"] * 35 + ["b"] * 5}).all == ()


def test_what_is_not_known_is_in_no_slice() -> None:
    right = np.arange(80) % 4 > 0
    number = np.where(np.arange(80) < 20, np.nan, np.arange(80.0))
    found = compare_slices(right, {"lux": number}, {"camera": [""] * 30 + ["x"] * 25 + ["y"] * 25})
    assert sum(one.n for one in found.all if one.what == "lux") == 60
    assert {(one.where, one.n) for one in found.all if one.what == "camera"} == {("x", 25), ("y", 25)}
