"""A challenger wins by more than luck, and the interval that says so keeps its word."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from tellapart.judge import compare, softmax
from tellapart.judge.arrays import checked_rows, row_losses

Floats = NDArray[np.float64]


def _probs(logits: Floats) -> Floats:
    return softmax(logits.astype(np.float32))


def _two_models(
    rng: np.random.Generator, n: int, priors: tuple[float, ...] = (0.5, 0.5)
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Labels and two models of which the second is a little noisier; their errors are shared in part."""
    targets = rng.choice(len(priors), size=n, p=priors)
    clean = np.eye(len(priors))[targets] * 2.0 + rng.normal(size=(n, len(priors)))
    first = clean + 0.7 * rng.normal(size=clean.shape)
    second = clean + 1.0 * rng.normal(size=clean.shape)
    return targets, _probs(first), _probs(second)


@pytest.mark.parametrize(("n", "balanced"), [(100, False), (400, False), (400, True)])
def test_the_interval_holds_the_true_difference_93_to_97_times_in_100(n: int, balanced: bool) -> None:
    rng = np.random.default_rng(n + balanced)
    priors = (0.8, 0.2) if balanced else (0.5, 0.5)
    truth = compare(*_two_models(rng, 400_000, priors), balanced=balanced).difference
    rounds = 1000
    drawn = [compare(*_two_models(rng, n, priors), balanced=balanced) for _ in range(rounds)]
    held = sum(got.low <= truth <= got.high for got in drawn) / rounds
    assert 0.93 <= held <= 0.97


def test_it_is_the_paired_t_test_of_scipy() -> None:
    targets, first, second = _two_models(np.random.default_rng(3), 80)
    got = compare(targets, first, second, balanced=False)
    losses = [row_losses(*checked_rows(targets, probs)) for probs in (first, second)]
    expected = stats.ttest_rel(*losses).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high))
    assert got.difference == pytest.approx((losses[0] - losses[1]).mean())
    assert got.n == 80


def test_balanced_counts_each_class_equally() -> None:
    # 90 rows of class 0 where the challenger is better, 10 of class 1 where it is much worse.
    targets = np.repeat([0, 1], [90, 10])
    champion = np.full((100, 2), 0.5)
    challenger = np.where(targets[:, None] == 0, [[0.7, 0.3]], [[0.9, 0.1]])
    plain = compare(targets, challenger, champion, balanced=False)
    balanced = compare(targets, challenger, champion, balanced=True)
    gaps = math.log(0.5 / 0.7), math.log(0.5 / 0.1)
    assert plain.difference == pytest.approx(0.9 * gaps[0] + 0.1 * gaps[1])
    assert balanced.difference == pytest.approx((gaps[0] + gaps[1]) / 2)
    assert plain.better is False or plain.difference < 0
    assert balanced.better is False


def test_a_model_does_not_beat_itself_and_noise_is_not_a_win() -> None:
    targets, first, _ = _two_models(np.random.default_rng(5), 60)
    same = compare(targets, first, first, balanced=False)
    assert (same.better, same.difference, same.low, same.high) == (False, 0.0, 0.0, 0.0)
    rng = np.random.default_rng(6)
    wins = sum(compare(t, a, b, balanced=False).better for t, b, a in (_two_models(rng, 200) for _ in range(100)))
    assert wins <= 5  # the challenger is the noisier one


def test_against_majority_a_lower_mean_is_enough() -> None:
    targets = np.array([0, 1, 0, 1])
    majority = np.full((4, 2), 0.5)
    challenger = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.7, 0.3]])
    assert compare(targets, challenger, majority, balanced=False).better is False
    assert compare(targets, challenger, majority, balanced=False, against_majority=True).better is True


def test_one_overconfident_row_cannot_cost_without_limit() -> None:
    targets = np.zeros(50, np.int64)
    champion = np.full((50, 2), 0.5)
    challenger = np.tile([0.95, 0.05], (50, 1))
    challenger[0] = [0.0, 1.0]
    got = compare(targets, challenger, champion, balanced=False)
    assert math.isfinite(got.low)
    assert got.difference < 0.0


@pytest.mark.parametrize("balanced", [False, True])
def test_too_few_pictures_give_no_verdict_rather_than_an_error(balanced: bool) -> None:
    none = compare(np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros((0, 2)), balanced)
    assert (none.better, none.n, none.low, none.high) == (False, 0, -math.inf, math.inf)
    one = compare(np.array([0]), np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]]), balanced)
    assert one.better is False
    assert one.difference < 0.0
    each = compare(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]), np.full((2, 2), 0.5), True)
    assert each.better is False


def test_the_sentence_has_the_numbers_and_the_names() -> None:
    targets, first, second = _two_models(np.random.default_rng(3), 2000)
    got = compare(targets, first, second, balanced=True, names=("probe", "scratch"))
    assert got.words == (
        f"The log loss of probe minus that of scratch is {got.difference:+.3f} (95% interval {got.low:+.3f} to "
        f"{got.high:+.3f}) on 2,000 pictures, each class counting equally: better."
    )
    assert got.better


def test_pictures_of_a_group_count_as_one_and_are_no_win() -> None:
    targets, first, second = _two_models(np.random.default_rng(3), 80)
    alone = compare(targets, first, second, balanced=False)
    copies = np.repeat(targets, 6), np.repeat(first, 6, axis=0), np.repeat(second, 6, axis=0)
    naive = compare(*copies, balanced=False)
    for balanced in (False, True):
        alone = compare(targets, first, second, balanced)
        grouped = compare(*copies, balanced, groups=np.repeat(np.arange(80), 6))
        assert grouped.difference == pytest.approx(alone.difference)
        assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.05)
    assert naive.high - naive.low < 0.5 * (alone.high - alone.low)
    one = compare(*copies, False, groups=["the same"] * 480)
    assert (one.better, one.high) == (False, math.inf)
