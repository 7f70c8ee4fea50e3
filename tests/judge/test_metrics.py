"""Every metric against scikit-learn, which is the oracle, on inputs that hypothesis picks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle

from tellapart import judge
from tellapart.judge import confusion, metrics, per_class, reliability
from tellapart.judge.arrays import PROB_FLOOR

CONTRACT = [
    "n",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "balanced_accuracy",
    "macro_f1",
    "log_loss",
    "ece",
]
Rows = tuple[NDArray[np.int64], NDArray[np.float64]]


@st.composite
def predictions(draw: st.DrawFn) -> Rows:
    """True classes and probabilities, from guessing to overconfident, classes missing on either side."""
    n, classes = draw(st.integers(1, 40)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(size=(n, classes)) * draw(st.sampled_from([0.0, 0.5, 3.0, 60.0]))
    targets = rng.integers(0, draw(st.integers(1, classes)), n)
    logits[np.arange(n), targets] += draw(st.sampled_from([0.0, 2.0, 40.0]))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return targets, powers / powers.sum(axis=1, keepdims=True)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_every_number_is_the_one_that_sklearn_gives(rows: Rows) -> None:
    targets, probs = rows
    got, predicted = metrics(targets, probs), probs.argmax(axis=1)
    labels = list(range(probs.shape[1]))
    present = sorted(set(targets.tolist()))
    assert got.n == len(targets)
    assert got.accuracy == pytest.approx(oracle.accuracy_score(targets, predicted))
    recalls = oracle.recall_score(targets, predicted, labels=present, average="macro", zero_division=0)
    assert got.balanced_accuracy == pytest.approx(recalls)
    assert got.macro_f1 == pytest.approx(oracle.f1_score(targets, predicted, average="macro", zero_division=0))
    chosen = np.clip(probs[np.arange(len(targets)), targets], PROB_FLOOR, 1.0)
    assert got.log_loss == pytest.approx(-np.log(chosen).mean())
    if probs.min() > PROB_FLOOR:
        assert got.log_loss == pytest.approx(oracle.log_loss(targets, probs, labels=labels))
    assert (
        confusion(targets, predicted, len(labels)) == oracle.confusion_matrix(targets, predicted, labels=labels)
    ).all()


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_each_class_has_the_precision_recall_and_f1_of_sklearn_or_none(rows: Rows) -> None:
    targets, probs = rows
    names = [f"class {index}" for index in range(probs.shape[1])]
    expected = oracle.precision_recall_fscore_support(
        targets, probs.argmax(axis=1), labels=range(len(names)), zero_division=np.nan
    )
    for got, name, precision, recall, f1, n in zip(per_class(*rows, names), names, *expected, strict=True):
        assert (got.label, got.n) == (name, n)
        for value, wanted in ((got.precision, precision), (got.recall, recall), (got.f1, f1)):
            assert value == (None if math.isnan(wanted) else pytest.approx(wanted))
        if got.recall is not None:
            assert got.recall_low is not None
            assert got.recall_high is not None
            assert got.recall_low <= got.recall <= got.recall_high
        assert (got.recall is None) == (got.recall_low is None)
        assert (got.precision is None) == (got.precision_low is None)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_intervals_hold_what_they_are_intervals_of(rows: Rows) -> None:
    got = metrics(*rows)
    for low, value, high in (
        (got.accuracy_low, got.accuracy, got.accuracy_high),
        (got.balanced_accuracy_low, got.balanced_accuracy, got.balanced_accuracy_high),
        (got.macro_f1_low, got.macro_f1, got.macro_f1_high),
    ):
        assert low is not None
        assert value is not None
        assert high is not None
        assert 0.0 <= low <= value + 1e-12
        assert value - 1e-12 <= high <= 1.0


def test_the_json_object_has_the_keys_of_the_contract_in_its_order() -> None:
    targets, probs = np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    got = metrics(targets, probs).as_json()
    assert list(got) == CONTRACT
    assert all(isinstance(value, float) for key, value in got.items() if key != "n")


def test_no_pictures_give_nulls_and_no_warning() -> None:
    got = metrics(np.zeros(0, np.int64), np.zeros((0, 3)))
    assert got.as_json() == dict.fromkeys(CONTRACT, None) | {"n": 0}
    assert [row.n for row in per_class(np.zeros(0, np.int64), np.zeros((0, 2)), ["a", "b"])] == [0, 0]
    assert sum(row.n for row in reliability(np.zeros(0, np.int64), np.zeros((0, 2)))) == 0


def test_ece_has_fifteen_bins_as_in_the_paper() -> None:
    # 0.61 and 0.69 share a bin of ten but not of fifteen; in one bin their errors would cancel.
    probs = np.array([[0.61, 0.39], [0.69, 0.31]])
    assert metrics(np.array([0, 1]), probs).ece == pytest.approx((0.39 + 0.69) / 2)
    # 0.95 twice, once right: together they are 0.45 too sure.
    probs = np.array([[0.95, 0.05], [0.95, 0.05], [0.6, 0.4]])
    assert metrics(np.array([0, 1, 0]), probs).ece == pytest.approx((2 * 0.45 + 0.4) / 3)


def test_a_top_probability_on_an_edge_is_in_the_bin_below() -> None:
    bins = reliability(np.array([0, 0]), np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]]), bins=4)
    assert [row.n for row in bins] == [0, 1, 0, 1]


def test_a_row_that_is_sure_and_wrong_costs_a_finite_loss() -> None:
    got = metrics(np.array([1]), np.array([[1.0, 0.0]]))
    assert got.log_loss == pytest.approx(-math.log(1e-7))


def test_all_right_on_few_pictures_does_not_claim_certainty() -> None:
    got = metrics(np.arange(20) % 2, np.eye(2)[np.arange(20) % 2])
    assert got.balanced_accuracy == got.macro_f1 == 1.0
    assert got.accuracy_low == pytest.approx(0.8316, abs=1e-4)
    for low in (got.balanced_accuracy_low, got.macro_f1_low):
        assert low is not None
        assert 0.7 < low < 0.85


@given(st.lists(st.integers(1, 400), min_size=2, max_size=12))
@example([105, 103])
def test_all_right_leaves_no_room_for_the_worst_however_it_is_rounded(counts: list[int]) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    got = metrics(targets, np.eye(len(counts))[targets])
    for low, high in ((got.balanced_accuracy_low, got.balanced_accuracy_high), (got.macro_f1_low, got.macro_f1_high)):
        assert low is not None
        assert high == 1.0
        assert low >= 0.025 ** (1 / len(counts)) - 1e-9  # were there but one picture of each class


def test_copies_of_a_picture_make_no_number_surer() -> None:
    rng = np.random.default_rng(4)
    targets = rng.integers(0, 3, 60)
    logits = rng.normal(size=(60, 3)) + 2.0 * np.eye(3)[targets]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    once = metrics(targets, probs)
    five = [np.repeat(array, 5, axis=0) for array in (targets, probs, np.arange(60))]
    copied, naive = metrics(five[0], five[1], five[2]), metrics(five[0], five[1])
    assert (once.groups, copied.groups, naive.groups) == (60, 60, 300)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"):
        widths = [getattr(found, f"{name}_high") - getattr(found, f"{name}_low") for found in (once, copied, naive)]
        assert widths[1] == pytest.approx(widths[0], rel=0.12), name
        assert widths[2] < 0.7 * widths[0], name
    for alone, together in zip(
        per_class(targets, probs, "abc"), per_class(five[0], five[1], "abc", five[2]), strict=True
    ):
        for name in ("precision", "recall", "f1"):
            assert getattr(together, name) == pytest.approx(getattr(alone, name))
            assert getattr(together, f"{name}_low") == pytest.approx(getattr(alone, f"{name}_low"), abs=0.06)


def test_the_interval_of_f1_is_exact_given_how_many_pictures_could_have_been_hits() -> None:
    targets, said = np.repeat([0, 1], 40), np.concatenate([np.repeat([0, 1], [34, 6]), np.repeat([1, 0], [38, 2])])
    row = per_class(targets, np.eye(2)[said], ["a", "b"])[0]
    low, high = judge.clopper_pearson(34, 42) or (0.0, 0.0)
    assert (row.f1_low, row.f1, row.f1_high) == pytest.approx((2 * low / (1 + low), 68 / 76, 2 * high / (1 + high)))


def test_reliability_bins_count_every_picture_once_and_show_overconfidence() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 2000)
    right = rng.random(2000) < 0.7
    top = rng.uniform(0.91, 0.99, 2000)
    probs = np.where((np.arange(2) == targets[:, None]) == right[:, None], top[:, None], 1 - top[:, None])
    bins = reliability(targets, probs)
    assert sum(row.n for row in bins) == 2000
    assert (bins[-1].low, bins[-1].high, bins[-1].n) == (0.9, 1.0, 2000)
    assert bins[-1].accuracy == pytest.approx(0.7, abs=0.04)
    assert bins[-1].confidence == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("targets", "probs"),
    [
        (np.array([0, 2]), np.full((2, 2), 0.5)),
        (np.array([0, -1]), np.full((2, 2), 0.5)),
        (np.array([0]), np.full((2, 2), 0.5)),
        (np.array([0.0, 1.0]), np.full((2, 2), 0.5)),
        (np.array([0, 1]), np.array([[np.nan, 1.0], [0.5, 0.5]])),
        (np.array([0, 1]), np.array([[2.0, -1.0], [0.5, 0.5]])),
        (np.array([0, 1]), np.array([[3.0, 4.0], [0.5, 0.5]])),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(targets: NDArray[np.int64], probs: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"targets|probs"):
        metrics(targets, probs)
