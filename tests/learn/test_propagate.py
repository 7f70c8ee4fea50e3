"""Pictures without a label: learned from where that helps, and never a way for a label to reach its own picture."""

from __future__ import annotations

import numpy as np

from tellapart.driving import finish
from tellapart.events import Decision, Event
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import LinearFit, fit_linear
from tellapart.learn.propagate import with_unlabelled
from tellapart.learn.rungs import FloatArray, IntArray


def learned(X: FloatArray, targets: IntArray, unlabelled: FloatArray) -> tuple[LinearFit, LinearFit, Decision]:
    folds = make_folds(targets, [str(row) for row in range(len(targets))])
    plain = finish(fit_linear(X, targets, 2, folds))
    seen: list[Event] = []
    found = finish(with_unlabelled(plain, X, targets, unlabelled, 2, folds, None, False), seen.append)
    [decision] = [event for event in seen if isinstance(event, Decision)]
    return plain, found, decision


def clouds(each: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Two clouds that lie apart in one of 300 directions; noise in the others hides it from few pictures."""
    rng = np.random.default_rng(seed)
    targets = np.repeat([0, 1], each)
    X = rng.normal(size=(2 * each, 300))
    X[:, 0] += np.where(targets == 1, 3.0, -3.0)
    return X.astype(np.float32), targets


def test_pictures_without_a_label_show_where_the_classes_part() -> None:
    X, targets = clouds(80, 0)
    unlabelled, _ = clouds(300, 1)
    plain, found, decision = learned(X, targets, unlabelled)
    assert decision.value is True
    assert "600 unlabelled pictures" in decision.evidence
    new, truth = clouds(500, 2)
    right = [float((one.head.logits(new).argmax(axis=1) == truth).mean()) for one in (plain, found)]
    assert right[1] > right[0] + 0.02


def test_what_says_nothing_changes_nothing() -> None:
    X, targets = clouds(30, 0)
    far = np.random.default_rng(5).normal(size=(200, 300)).astype(np.float32) * 3
    plain, found, decision = learned(X, targets, far)
    assert decision.value is False
    assert found is plain


def test_copies_of_the_labelled_pictures_do_not_carry_their_labels_to_them() -> None:
    X = np.random.default_rng(7).normal(size=(120, 40)).astype(np.float32)
    targets = np.random.default_rng(8).integers(0, 2, 120)  # there is nothing to learn
    _, _, decision = learned(X, targets, X + np.float32(1e-4))
    assert decision.value is False
