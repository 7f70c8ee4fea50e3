"""Sets of classes hold the true one as often as promised, whatever the model, and are no larger than it takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from tellapart.judge import conformal_mass, softmax
from tellapart.runtime.answers import candidates, mass_before


def _model(rng: np.random.Generator, n: int, sharpness: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Five classes, told apart in about three of four; `sharpness` makes the probabilities too sure or not enough."""
    targets = rng.integers(0, 5, n)
    logits = rng.normal(size=(n, 5))
    logits[np.arange(n), targets] += 2.0
    return targets, softmax((sharpness * logits).astype(np.float32))


@pytest.mark.parametrize("sharpness", [0.3, 2.0, 6.0])
@pytest.mark.parametrize(("n", "coverage"), [(60, 0.9), (200, 0.95)])
def test_the_promised_coverage_holds_whether_or_not_the_model_is_calibrated(
    n: int, coverage: float, sharpness: float
) -> None:
    rng = np.random.default_rng(n)
    simulations, each = 2000, 10
    held = 0
    for _ in range(simulations):
        mass = conformal_mass(*_model(rng, n, sharpness), coverage)
        assert mass is not None
        targets, probs = _model(rng, each, sharpness)
        before = mass_before(probs)[np.arange(each), targets]
        held += int((before < mass).sum())
    # Pictures of one simulation share a mass: its Beta distribution widens the binomial interval.
    place = np.ceil((n + 1) * coverage)
    low, high = stats.beta.interval(0.9999, place, n + 1 - place)
    between = (high - low) / 7.8
    slack = 4 * np.sqrt(coverage * (1 - coverage) / (simulations * each) + between**2 / simulations)
    assert coverage - slack <= held / (simulations * each) <= place / (n + 1) + slack
    assert abs(held / (simulations * each) - coverage) < 0.02


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.0, 1.0))
def test_a_set_is_the_fewest_likeliest_classes_that_add_up(seed: int, classes: int, mass: float) -> None:
    probs = np.random.default_rng(seed).dirichlet(np.ones(classes))
    got = candidates(probs, mass)
    assert got[0] == probs.argmax()
    inside = probs[got].sum()
    assert inside >= mass - 1e-9 or len(got) == classes
    assert len(got) == 1 or inside - probs[got].min() < mass
    assert set(got) == set(np.flatnonzero(mass_before(probs[None])[0] < mass)) | {int(probs.argmax())}


def test_the_set_of_a_picture_is_a_single_class_exactly_where_its_probability_reaches_the_mass() -> None:
    rng = np.random.default_rng(1)
    for probs in rng.dirichlet(np.ones(4), 200):
        assert (len(candidates(probs, 0.7)) == 1) == (probs.max() >= 0.7)


def test_too_few_pictures_promise_nothing() -> None:
    targets, probs = _model(np.random.default_rng(2), 18, 1.0)
    assert conformal_mass(targets, probs, 0.95) is None
    assert conformal_mass(*_model(np.random.default_rng(2), 19, 1.0), 0.95) is not None
    assert conformal_mass(np.zeros(0, np.int64), np.zeros((0, 3)), 0.5) is None


def test_a_model_that_is_always_right_needs_one_class() -> None:
    probs = np.full((100, 4), 0.1)
    probs[:, 2] = 0.7
    assert conformal_mass(np.full(100, 2), probs, 0.95) == 0.0
