"""One temperature: the optimum that scipy finds, right where the truth is known, and tame where data say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special  # type: ignore[import-untyped]

from tellapart.judge import fit_temperature, log_softmax, softmax

Floats = NDArray[np.float64]


def _objective(logits: Floats, targets: NDArray[np.int64], weights: Floats, temperature: float) -> float:
    losses = -special.log_softmax(logits / temperature, axis=1)[np.arange(len(targets)), targets]
    inverse = 1.0 / temperature
    return float(losses @ (weights / weights.mean()) + inverse - np.log(inverse))


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(4, 60),
    classes=st.integers(2, 6),
    scale=st.sampled_from([0.01, 0.3, 1.0, 5.0, 100.0]),
    shift=st.sampled_from([0.0, 1.0, 3.0]),
    weighted=st.booleans(),
)
def test_no_temperature_that_scipy_finds_is_better(
    seed: int, n: int, classes: int, scale: float, shift: float, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(n) % classes)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), targets] += shift
    logits *= scale
    weights = rng.uniform(0.1, 3.0, n) if weighted else np.ones(n)
    got = fit_temperature(logits, targets, weights if weighted else None)
    best = optimize.minimize_scalar(
        lambda log: _objective(logits, targets, weights, float(np.exp(log))),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert 0.05 <= got <= 20.0
    assert _objective(logits, targets, weights, got) <= best.fun + 1e-7 * max(1.0, abs(best.fun))


def test_the_temperature_that_made_the_labels_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)) * 4.0
    targets = np.array([rng.choice(5, p=row) for row in softmax((logits / 2.5).astype(np.float32))])
    assert fit_temperature(logits.astype(np.float32), targets) == pytest.approx(2.5, rel=0.03)


@pytest.mark.parametrize("margin", [0.01, 1.0, 5.0, 20.0, 1e4])
def test_twenty_rows_that_are_all_right_do_not_run_away(margin: float) -> None:
    targets = np.arange(20) % 2
    got = fit_temperature(np.eye(2)[targets] * margin, targets)
    assert 0.3 < got < 1.1


def test_rows_that_are_all_wrong_and_sure_soften_to_the_bound_at_most() -> None:
    targets = np.arange(20) % 2
    assert 5.0 < fit_temperature(np.eye(2)[1 - targets] * 50.0, targets) <= 20.0


def test_rows_that_say_nothing_about_confidence_leave_it_alone() -> None:
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1.0
    assert fit_temperature(np.ones((1, 3)), np.array([1])) == 1.0
    assert fit_temperature(np.random.default_rng(0).normal(size=(9, 3)), np.full(9, 2)) == 1.0


def test_a_weight_of_two_is_the_row_twice_when_rows_are_many() -> None:
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(4000, 3)) * 2, rng.integers(0, 3, 4000)
    logits[np.arange(4000), targets] += 3
    weights = rng.integers(0, 3, 4000)
    twice = np.repeat(np.arange(4000), weights)
    assert fit_temperature(logits, targets, weights.astype(float)) == pytest.approx(
        fit_temperature(logits[twice], targets[twice]), rel=1e-3
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[bad, 0.0], [0.0, 1.0]]), np.array([0, 1]))


def test_log_softmax_is_exact_where_the_probability_underflows() -> None:
    logits = np.array([[0.0, -2000.0, 3.0], [1e4, 1e4, -1e4]], dtype=np.float32)
    assert log_softmax(logits) == pytest.approx(special.log_softmax(logits.astype(np.float64), axis=1))
    assert softmax(logits) == pytest.approx(special.softmax(logits.astype(np.float64), axis=1))
