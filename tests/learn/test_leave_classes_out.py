"""Leaving classes out tells which score of novelty works, with few classes too, and ends when its time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tellapart.judge.separation import CANDIDATES
from tellapart.learn.leave_classes_out import leave_classes_out

Run = Callable[..., Any]


def _pictures(num_classes: int, each: int = 40) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str]]:
    """Each class along an axis of its own; along the last axis a spread so wide that only a covariance sees past it."""
    rng = np.random.default_rng(num_classes)
    targets = np.repeat(np.arange(num_classes), each)
    X = rng.normal(size=(len(targets), num_classes + 8)) * 0.3
    X[np.arange(len(targets)), targets] += 1.5
    X[:, -1] += rng.normal(size=len(targets)) * 4.0
    return X.astype(np.float32), targets, [str(row) for row in range(len(targets))]


def test_the_score_that_fits_the_pictures_separates_best(run: Run) -> None:
    X, targets, groups = _pictures(6)
    rounds, _ = run(leave_classes_out(X, targets, groups, 0.01, 60.0))
    assert len(rounds) == 8
    assert all(set(one) == set(CANDIDATES) for one in rounds)
    mean = {name: np.mean([one[name] for one in rounds]) for name in CANDIDATES}
    assert mean["mahalanobis",] > 0.9 > mean["neighbours",]


def test_with_two_classes_scores_that_need_logits_are_not_tried(run: Run) -> None:
    X, targets, groups = _pictures(2)
    rounds, _ = run(leave_classes_out(X, targets, groups, 0.01, 60.0))
    assert len(rounds) == 2
    assert all(set(one) == {name for name in CANDIDATES if not {"energy", "max_logit"} & set(name)} for one in rounds)


@pytest.mark.parametrize("num_classes", [1, 3])
def test_what_cannot_be_tried_is_left(run: Run, num_classes: int) -> None:
    X, targets, groups = _pictures(num_classes, each=4 if num_classes == 3 else 40)
    assert run(leave_classes_out(X, targets, groups, 0.01, 60.0))[0] == []


def test_a_round_is_always_tried_and_no_more_than_there_is_time_for(run: Run) -> None:
    X, targets, groups = _pictures(6)
    rounds, begun = run(leave_classes_out(X, targets, groups, 0.01, 0.0))
    assert len(rounds) == begun == 1
    again, begun = run(leave_classes_out(X, targets, groups, 0.01, 0.0, 2))
    assert len(again) == begun == 2, "what is known of an attempt before asks no clock"
    assert again[0] == rounds[0]


def test_pictures_of_one_series_are_not_on_both_sides(run: Run) -> None:
    # Every picture twice: a copy among the fitted ones would make known pictures look at home.
    X, targets, groups = _pictures(6)
    doubled, twice = np.concatenate([X, X]), np.concatenate([targets, targets])
    apart, _ = run(leave_classes_out(doubled, twice, groups * 2, None, 60.0))
    torn, _ = run(leave_classes_out(doubled, twice, [str(row) for row in range(len(doubled))], None, 60.0))
    mean = [np.mean([one["neighbours",] for one in rounds]) for rounds in (apart, torn)]
    assert mean[0] < mean[1] - 0.02
