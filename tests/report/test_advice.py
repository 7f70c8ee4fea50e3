"""Advice says what to do, why, and what to expect, or says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.judge import Forecast
from tellapart.report import advice


def given(found: advice.Advice | None) -> advice.Advice:
    assert found is not None
    return found


def ahead(now: float, value: float, half: float = 0.01, n: int = 1_000) -> Forecast:
    gain = value - now
    return Forecast(2_000, value, value - half, value + half, now, gain, gain - half / 2, gain + half / 2, n)


def test_more_pictures_tells_the_gain_with_its_interval():
    found = given(advice.more_pictures(ahead(0.80, 0.85), 1_000, False))
    assert found.kind == "more_pictures"
    assert "1,000 more" in found.sentence
    assert "about 5.0 points (95% interval 4.5 to 5.5), from 80.0% now" in found.sentence
    assert found.gain == pytest.approx(0.05)


def test_more_pictures_says_so_when_they_would_bring_nothing():
    found = given(advice.more_pictures(ahead(0.80, 0.8005, 0.002), 1_000, False))
    assert found.kind == "enough_pictures"
    assert "little" in found.sentence


def test_a_class_is_named_only_when_its_gain_is_sure():
    assert advice.more_of_a_class("skirt", ahead(0.7, 0.71, 0.1), 100, 0.1) is None
    found = given(advice.more_of_a_class("skirt", ahead(0.7, 0.8), 100, 0.1))
    assert "skirt" in found.sentence
    assert found.gain == pytest.approx(0.01)


def test_the_pair_that_is_mixed_most_is_named():
    confusion = np.array([[60, 2, 0], [1, 40, 12], [0, 10, 38]])
    found = given(advice.merge(("boots", "shirt", "blouse"), confusion, False))
    assert "shirt" in found.sentence
    assert "blouse" in found.sentence
    assert found.gain == pytest.approx(22 / 163)
    assert found.gain_low is not None
    assert found.gain_low < 22 / 163 < (found.gain_high or 0)
    assert advice.merge(("boots", "shirt", "blouse"), np.diag([50, 50, 50]), False) is None
    assert advice.merge(("ants", "bees"), np.array([[30, 20], [20, 30]]), False) is None, "two classes cannot be merged"


def test_at_most_five_the_most_promising_first_the_unknown_last():
    many = [advice.Advice("x", str(gain), "", gain) for gain in (0.01, 0.03, 0.02, 0.05, 0.04, 0.06)]
    kept = advice.best_advice([None, advice.Advice("unknown", "", ""), *many])
    assert [one.gain for one in kept] == [0.06, 0.05, 0.04, 0.03, 0.02]
    assert advice.best_advice([advice.Advice("unknown", "", ""), many[0]])[-1].gain is None


def test_what_time_would_bring():
    assert advice.more_time(100, 100, None) is None
    found = given(advice.more_time(2_000, 3_000, ahead(0.8, 0.82)))
    assert "2,000 of 3,000" in found.sentence
    assert found.gain == pytest.approx(0.02)
    assert given(advice.more_time(2_000, 3_000, None)).gain is None
