"""A learning curve carried on: near the truth where the truth is known, and honest about how near."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.judge import clopper_pearson, forecast

SIZES = np.array([50.0, 71, 100, 141, 200, 283, 400])


def simulated(seed: int, n: int, floor: float, scale: float, exponent: float, sizes=SIZES):
    """Pictures named right where their difficulty is below the accuracy at a size, as nested curves are."""
    difficulty = np.random.default_rng(seed).random(n)
    accuracy = 1 - (floor + scale * sizes**-exponent)
    return (difficulty[None] < accuracy[:, None]).astype(float), lambda m: 1 - (floor + scale * m**-exponent)


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.0, 1.0, 0.4), (0.1, 2.0, 0.5), (0.3, 0.6, 0.2)])
def test_interval_holds_what_twice_the_pictures_give(floor, scale, exponent):
    inside, errors = 0, []
    for seed in range(60):
        right, truth = simulated(seed, 800, floor, scale, exponent)
        found = forecast(SIZES, right, 800.0)
        inside += found.low <= truth(800.0) <= found.high
        errors.append(abs(found.value - truth(800.0)))
    assert inside >= 53  # 95 % of 60 is 57; below 53 has a chance of 2 %
    assert np.mean(errors) < 0.02


def test_gain_is_surer_than_the_value():
    right, _ = simulated(0, 500, 0.05, 1.0, 0.4)
    found = forecast(SIZES, right, 800.0)
    assert found.gain_high - found.gain_low < found.high - found.low
    assert found.gain == pytest.approx(found.value - found.now, abs=0.01)


def test_a_curve_that_is_all_right_is_not_certain():
    found = forecast(SIZES, np.ones((7, 40)), 800.0)
    assert found.low < 0.99
    assert found.high == 1.0


def test_one_mistake_leaves_as_much_doubt_as_its_exact_interval():
    right = np.ones((7, 122))
    right[:, 0] = 0
    right[:4, 1] = 0
    found = forecast(SIZES, right, 800.0)
    low, high = clopper_pearson(121, 122) or (0.0, 1.0)
    assert found.low <= found.value - (121 / 122 - low) + 1e-9
    assert found.high >= min(1.0, found.value + (high - 121 / 122)) - 1e-9


def test_a_flat_curve_promises_nothing():
    right = np.tile(np.random.default_rng(1).random(2_000) < 0.8, (7, 1)).astype(float)
    found = forecast(SIZES, right, 800.0)
    assert abs(found.gain) < 1e-3
    assert found.gain_high < 5e-3


def test_groups_widen_the_interval_and_order_does_not_count():
    right, _ = simulated(3, 200, 0.1, 1.0, 0.4)
    many = np.repeat(right, 5, axis=1)
    groups = np.repeat(np.arange(200), 5)
    alone, together = forecast(SIZES, many, 800.0), forecast(SIZES, many, 800.0, groups=groups)
    assert together.high - together.low > 1.6 * (alone.high - alone.low)
    assert forecast(SIZES, many, 800.0, groups=groups) == together


def test_weights_make_it_the_mean_over_classes():
    rng = np.random.default_rng(0)
    often, seldom = (rng.random((1, 900)) < 0.9), (rng.random((1, 100)) < 0.4)
    right = np.tile(np.concatenate([often, seldom], axis=1), (7, 1)).astype(float)
    weights = np.r_[np.full(900, 1 / 900), np.full(100, 1 / 100)]
    expected = (often.mean() + seldom.mean()) / 2
    assert forecast(SIZES, right, 800.0, weights=weights).value == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("sizes", "right"),
    [([1.0, 2.0], np.ones((2, 4))), ([3.0, 2.0, 1.0], np.ones((3, 4))), ([1.0, 2.0, 3.0], np.ones((3, 0)))],
)
def test_what_is_no_curve_is_refused(sizes, right):
    with pytest.raises(ValueError, match=r"curve|rise"):
        forecast(np.array(sizes), right, 10.0)
