"""Pictures without a label: learned from where that helps, and never a way for a label to reach its own picture."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.driving import finish
from tellapart.events import Decision, Event
from tellapart.learn.balanced_head import balanced_head
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import LinearFit
from tellapart.learn.propagate import with_unlabelled
from tellapart.learn.rungs import FloatArray, IntArray
from tellapart.recipe import Balance


def learned(
    X: FloatArray, targets: IntArray, unlabelled: FloatArray, balance: Balance = "none"
) -> tuple[LinearFit, LinearFit, Decision]:
    folds = make_folds(targets, [str(row) for row in range(len(targets))])
    plain, way = finish(balanced_head(X, targets, 2, folds, balance))
    seen: list[Event] = []
    found = finish(with_unlabelled(plain, X, targets, unlabelled, 2, folds, way), seen.append)
    [decision] = [event for event in seen if isinstance(event, Decision)]
    return plain, found, decision


def clouds(each: int | tuple[int, int], seed: int, apart: float = 3.0) -> tuple[FloatArray, IntArray]:
    """Two clouds that lie apart in one of 300 directions; noise in the others hides it from few pictures."""
    rng = np.random.default_rng(seed)
    targets = np.repeat([0, 1], each)
    X = rng.normal(size=(len(targets), 300))
    X[:, 0] += np.where(targets == 1, apart, -apart)
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


@pytest.mark.parametrize("unlabelled", [(600, 60), (300, 300)])
def test_adjusted_logits_stay_adjusted_whatever_the_shares_of_what_has_no_label(unlabelled: tuple[int, int]) -> None:
    X, targets = clouds((200, 20), 0, apart=2.0)
    others, _ = clouds(unlabelled, 1, apart=2.0)
    plain, found, decision = learned(X, targets, others, "logit")
    assert decision.value is True
    assert "each class counting equally" in decision.evidence
    new, truth = clouds(500, 2, apart=2.0)
    said = [one.head.logits(new) for one in (plain, found)]
    right = [float((logits.argmax(axis=1) == truth).mean()) for logits in said]
    assert right[1] > right[0] + 0.02
    leaning = float((said[1][:, 1] - said[1][:, 0]).mean())
    assert abs(leaning) < 0.7  # the logarithm of ten, which the shares differ by, is 2.3
    rows = np.flatnonzero(targets[found.rows] == 1)
    assert (found.out_of_fold[rows].argmax(axis=1) == 1).mean() > 0.7  # as they ship, so are they asked
