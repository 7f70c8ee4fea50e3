"""Class means: the nearest one is the answer, from one picture a class upwards."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tellapart import judge
from tellapart.driving import finish
from tellapart.events import Decision, Event
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.linear_head import linear_head
from tellapart.learn.prototype import fit_prototypes

NAMES = ("class_means", "logistic_regression", "mean_of_both")


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 99))
def test_the_answer_is_the_nearest_mean(num_classes, each, seed):
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(num_classes), each)
    X = rng.normal(size=(len(targets), 7)).astype(np.float32)
    folds = make_folds(targets, [str(row) for row in range(len(targets))])
    found = fit_prototypes(X, targets, num_classes, folds)
    means = np.stack([X[targets == label].mean(axis=0) for label in range(num_classes)])
    asked = rng.normal(size=(20, 7)).astype(np.float32)
    distance = np.square(asked[:, None] - means[None]).sum(axis=2)
    np.testing.assert_array_equal(found.head.logits(asked).argmax(axis=1), distance.argmin(axis=1))
    assert len(found.rows) == (len(targets) if each > 1 else 0)


def test_a_left_out_picture_is_not_in_its_own_mean():
    X = np.array([[0.0], [10.0], [6.5], [7.0]], dtype=np.float32)
    targets = np.array([0, 0, 1, 1])
    found = fit_prototypes(X, targets, 2, np.array([0, 1, 2, 3]))
    # Without the 0, class 0 is at 10, and 0 is nearer to 6.75; without the 10, class 0 is at 0, and 10 nearer to 6.75.
    assert found.out_of_fold.argmax(axis=1).tolist() == [1, 1, 1, 1]


def test_the_scale_of_the_features_does_not_count():
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], 3)
    X = (rng.normal(size=(9, 5)) + targets[:, None]).astype(np.float32)
    folds = make_folds(targets, [str(row) for row in range(9)])
    one, thousand = (fit_prototypes(scale * X, targets, 3, folds).out_of_fold for scale in (1, 1000))
    np.testing.assert_allclose(one, thousand, rtol=1e-3, atol=1e-3)


def test_of_class_means_a_regression_and_their_mean_the_best_out_of_fold_is_taken():
    chosen = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        targets = np.repeat(np.arange(4), 2)
        X = (rng.normal(size=(8, 30)) + 0.6 * rng.normal(size=(4, 30))[targets]).astype(np.float32)
        folds = make_folds(targets, [str(row) for row in range(8)])
        told: list[Event] = []
        fitted = finish(linear_head(X, targets, 4, folds, None), told.append)
        (decision,) = [event for event in told if isinstance(event, Decision)]
        losses = {name: loss_told(decision.evidence, name) for name in NAMES}
        assert losses[decision.value] == min(losses.values())
        chosen.add(decision.value)
        truth = targets[fitted.rows]
        scaled = (fitted.out_of_fold / judge.fit_temperature(fitted.out_of_fold, truth)).astype(np.float32)
        loss = -judge.log_softmax(scaled)[np.arange(8), truth].mean()
        assert abs(loss - losses[decision.value]) < 2e-3
        if decision.value == "mean_of_both":
            two = fit_prototypes(X, targets, 4, folds), finish(fit_linear(X, targets, 4, folds))
            parts = [one.head.logits(X) / (2 * judge.fit_temperature(one.out_of_fold, truth)) for one in two]
            np.testing.assert_allclose(fitted.head.logits(X), parts[0] + parts[1], atol=1e-3)
    assert chosen == set(NAMES)


def loss_told(evidence: str, name: str) -> float:
    found = re.search(rf"([\d.]+) by {name.replace('_', ' ')}", evidence)
    assert found is not None
    return float(found[1])
