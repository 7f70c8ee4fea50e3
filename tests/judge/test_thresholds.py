"""Thresholds keep the promise of precision on pictures they were not chosen on, and do not ask for the impossible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tellapart.judge import Thresholds, answers, choose_thresholds
from tellapart.runtime import card

Floats = NDArray[np.float64]


def _calibrated(rng: np.random.Generator, n: int, sureness: float) -> tuple[NDArray[np.int64], Floats]:
    """Rows whose top probability is how often they are right."""
    top = 0.5 + 0.5 * rng.beta(sureness, 1.0, n)
    right = rng.random(n) < top
    return np.where(right, 0, 1), np.stack([top, 1 - top], axis=1)


@pytest.mark.parametrize("n", [150, 1000])
@pytest.mark.parametrize("target", [0.9, 0.95])
def test_the_promised_precision_holds_on_new_pictures(n: int, target: float) -> None:
    rng = np.random.default_rng(n)
    fresh_targets, fresh = _calibrated(rng, 20_000, 3.0)
    kept = []
    for _ in range(150):
        chosen = choose_thresholds(*_calibrated(rng, n, 3.0), target_precision=target)
        answered = fresh.max(axis=1) >= chosen.min_prob
        if chosen.reached:
            kept.append(np.mean(fresh[answered].argmax(axis=1) == fresh_targets[answered]))
    assert len(kept) > 75
    assert np.mean(kept) >= target - 0.01


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 120),
    classes=st.integers(2, 5),
    target=st.sampled_from([0.5, 0.9, 0.95, 0.99]),
    levels=st.sampled_from([3, 1000]),
)
def test_what_is_recorded_is_what_the_threshold_does(
    seed: int, n: int, classes: int, target: float, levels: int
) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    top = np.round(rng.uniform(1 / classes, 1, n) * levels) / levels
    top = np.clip(top, 1 / classes, 1.0)
    probs = np.repeat(((1 - top) / (classes - 1))[:, None], classes, axis=1)
    probs[np.arange(n), np.where(rng.random(n) < top, targets, (targets + 1) % classes)] = top
    got = choose_thresholds(targets, probs, target)
    assert 0.5 <= got.min_prob <= 1.0
    answered = probs.max(axis=1, initial=0) >= got.min_prob
    right = probs.argmax(axis=1) == targets
    assert got.n == n
    assert got.coverage == pytest.approx(answered.mean() if n else 0.0)
    assert got.precision == (pytest.approx(right[answered].mean()) if answered.any() else None)
    if got.reached:
        assert got.precision is not None
        assert got.precision >= target
        assert ((~right & answered).sum() + 1) / (answered.sum() + 1) <= 1 - target + 1e-9
    said = answers(probs, np.zeros(n), got)
    assert [word == "label" for word in said] == answered.tolist()


def test_a_higher_target_never_answers_more() -> None:
    targets, probs = _calibrated(np.random.default_rng(0), 3000, 3.0)
    coverages = [choose_thresholds(targets, probs, target).coverage for target in (0.8, 0.9, 0.95, 0.98)]
    assert coverages == sorted(coverages, reverse=True)
    assert coverages[0] > 0.9
    assert coverages[-1] < 0.5


def test_a_tie_is_answered_whole_or_not_at_all() -> None:
    # 30 rows at 0.9 of which 5 are wrong, 30 at 0.99 all right: 0.95 holds on the upper level alone.
    top = np.repeat([0.9, 0.99], 30)
    targets = np.zeros(60, np.int64)
    targets[:5] = 1
    got = choose_thresholds(targets, np.stack([top, 1 - top], axis=1))
    assert (got.coverage, got.precision, got.reached) == (0.5, 1.0, True)
    assert 0.9 < got.min_prob <= 0.99


def test_a_last_bit_of_a_float32_does_not_change_the_answer() -> None:
    top = np.repeat(np.float32(0.97), 40)
    probs = np.stack([top, 1 - top], axis=1)
    got = choose_thresholds(np.zeros(40, np.int64), probs)
    below = np.nextafter(top[:1], np.float32(0))
    assert answers(np.stack([below, 1 - below], axis=1), np.zeros(1), got) == ["label"]


def test_a_single_sure_mistake_does_not_forbid_all_answers() -> None:
    top = np.linspace(0.6, 0.999, 400)
    targets = np.zeros(400, np.int64)
    targets[-1] = 1
    got = choose_thresholds(targets, np.stack([top, 1 - top], axis=1))
    assert got.reached
    assert got.coverage == 1.0


def test_a_target_out_of_reach_is_recorded_and_answers_little() -> None:
    rng = np.random.default_rng(0)
    top = rng.uniform(0.5, 1.0, 500)
    got = choose_thresholds(np.arange(500) % 2, np.stack([top, 1 - top], axis=1))
    assert got.reached is False
    assert got.coverage < 0.1


def _falling(right: list[bool]) -> tuple[NDArray[np.int64], Floats]:
    """Rows from the surest to the least sure, right or wrong as told."""
    top = np.linspace(0.95, 0.6, len(right))
    return np.where(right, 0, 1), np.stack([top, 1 - top], axis=1)


def test_few_rows_that_are_all_right_are_answered_though_nothing_is_proven() -> None:
    got = choose_thresholds(*_falling([True] * 5))
    assert (got.reached, got.coverage, got.precision) == (False, 1.0, 1.0)


def test_luck_with_the_four_surest_rows_is_not_taken_for_precision() -> None:
    got = choose_thresholds(*_falling([True] * 4 + [False] * 16))
    assert (got.reached, got.coverage) == (False, 1 / 20)


def test_without_rows_nothing_is_promised() -> None:
    got = choose_thresholds(np.zeros(0, np.int64), np.zeros((0, 3)))
    assert (got.min_prob, got.coverage, got.precision, got.n, got.reached) == (1.0, 0.0, None, 0, False)


def test_unknown_comes_before_unsure_and_the_edges_are_answered() -> None:
    limits = Thresholds(0.8, 0.99, 0.95, 1.0, 1.0, 10, True)
    probs = np.array([[0.8, 0.2], [0.7, 0.3], [0.7, 0.3], [0.9, 0.1], [0.9, 0.1]])
    novelty = np.array([0.99, 0.0, 0.995, 1.0, np.nan])
    assert answers(probs, novelty, limits) == ["label", "unsure", "unknown", "unknown", "unknown"]


def test_thresholds_fit_into_the_card_of_a_bundle() -> None:
    got = choose_thresholds(*_calibrated(np.random.default_rng(0), 200, 3.0))
    stored = card.Thresholds(**got.as_json())
    assert {name: getattr(stored, name) for name in got.as_json()} == got.as_json()


@pytest.mark.parametrize("share", [0.5, 0.9, 0.995])
@pytest.mark.parametrize("n", [40, 400])
def test_the_share_asked_for_is_answered_of_new_pictures(n: int, share: float) -> None:
    rng = np.random.default_rng(n)
    answered = []
    for _ in range(300):
        chosen = choose_thresholds(*_calibrated(rng, n, 3.0), target_coverage=share)
        _, fresh = _calibrated(rng, 400, 3.0)
        novelty = rng.random(400)  # of pictures like the training ones
        answered.append(np.mean([one == "label" for one in answers(fresh, novelty, chosen)]))
        assert (chosen.target_precision, chosen.target_coverage, chosen.reached) == (None, share, True)
    unknown = min(0.05, (1 - share) / 2)
    both = unknown * (1 - share - unknown)  # unknown and unsure at once, which the promise may not count on
    assert share - 0.005 <= np.mean(answered) <= share + both + 2 / n + 0.01


@pytest.mark.parametrize("target", [0.0, 1.0, -1.0, 2.0])
def test_a_target_that_is_not_a_share_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target_precision"):
        choose_thresholds(np.array([0]), np.array([[1.0, 0.0]]), target)
