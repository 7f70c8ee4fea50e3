from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.learn.folds import make_folds

labelled = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=80)


@given(labelled)
def test_a_group_is_never_torn_apart(pictures: list[tuple[int, int]]) -> None:
    targets = np.array([label for label, _ in pictures])
    groups = [f"g{group}" for _, group in pictures]
    folds = make_folds(targets, groups)
    for group in set(groups):
        assert len({int(folds[row]) for row in range(len(groups)) if groups[row] == group}) == 1


@given(labelled)
def test_whoever_is_predicted_has_its_class_among_the_other_folds(pictures: list[tuple[int, int]]) -> None:
    targets = np.array([label for label, _ in pictures])
    folds = make_folds(targets, [f"g{group}" for _, group in pictures])
    assert folds.min() >= -1
    for row in np.flatnonzero(folds >= 0):
        assert (targets[folds != folds[row]] == targets[row]).any()


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=25, max_size=200))
def test_the_order_of_the_pictures_does_not_count(labels: list[int]) -> None:
    targets = np.array(labels)
    groups = [f"{index:04d}" for index in range(len(labels))]
    order = np.random.default_rng(len(labels)).permutation(len(labels))
    folds = make_folds(targets, groups)
    assert np.array_equal(make_folds(targets[order], [groups[index] for index in order]), folds[order])


def test_each_class_is_spread_evenly() -> None:
    targets = np.repeat([0, 1, 2], [53, 200, 7])
    folds = make_folds(targets, [str(index) for index in range(len(targets))])
    counts = np.array([[(folds[targets == label] == fold).sum() for fold in range(5)] for label in range(3)])
    assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= 3


def test_a_class_with_one_group_is_trained_on_and_never_predicted() -> None:
    targets = np.array([0] * 30 + [1] * 30 + [2, 2, 2])
    groups = [str(index) for index in range(60)] + ["twins"] * 3
    folds = make_folds(targets, groups)
    assert (folds[60:] == -1).all()
    assert (folds[:60] >= 0).all()


def test_few_pictures_are_left_out_one_group_at_a_time() -> None:
    targets = np.array([0, 0, 0, 1, 1, 1, 1])
    folds = make_folds(targets, ["a", "b", "c", "d", "e", "f", "f"])
    assert sorted(set(folds.tolist())) == list(range(6))


def test_another_seed_makes_other_folds_and_the_same_seed_the_same() -> None:
    targets = np.repeat([0, 1], 40)
    groups = [str(index) for index in range(80)]
    assert np.array_equal(make_folds(targets, groups, seed=1), make_folds(targets, groups, seed=1))
    assert not np.array_equal(make_folds(targets, groups, seed=1), make_folds(targets, groups, seed=2))


def test_pictures_that_allow_no_folds_get_none() -> None:
    assert make_folds(np.array([0, 1]), ["a", "b"]).tolist() == [-1, -1]
    assert make_folds(np.array([0, 0, 1, 1]), ["same"] * 4).tolist() == [-1] * 4
    assert make_folds(np.zeros(0, dtype=np.int64), []).tolist() == []
