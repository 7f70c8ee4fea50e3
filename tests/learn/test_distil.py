"""A head taught by another model's answers: better than by labels alone, and not the better for what it was asked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tellapart import judge
from tellapart.events import Steps
from tellapart.learn.distil import Answers, Frozen, answers_without, parts_to_ask, pooled, taught, taught_by
from tellapart.learn.linear import LinearFit, cross_validate, fit_linear, fit_path
from tellapart.learn.rungs import FloatArray, IntArray

Run = Callable[..., Any]
NONE = np.zeros((0, 2), dtype=np.float32)


def names(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def world(n: int, seed: int, apart: float = 0.5) -> tuple[FloatArray, FloatArray, IntArray]:
    """Two classes as a large network sees them, and as a small one does: through noise."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, n)
    large = rng.normal(size=(n, 20)) + apart * (2 * targets[:, None] - 1)
    small = large @ np.random.default_rng(99).normal(size=(20, 60)) + 6 * rng.normal(size=(n, 60))
    return large.astype(np.float32), small.astype(np.float32), targets.astype(np.int64)


def flat(n: int, seed: int) -> tuple[FloatArray, IntArray]:
    """Two classes that differ a little in a third of sixty features."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, n)
    X = rng.normal(size=(n, 60))
    X[:, :20] += 0.3 * (2 * targets[:, None] - 1)
    return X.astype(np.float32), targets.astype(np.int64)


def loss(head: Any, X: FloatArray, targets: IntArray) -> float:
    return tempered(head.logits(X), targets)


def tempered(logits: FloatArray, targets: IntArray) -> float:
    warmth = np.float32(judge.fit_temperature(logits, targets))
    return float(-judge.log_softmax(logits / warmth)[np.arange(len(targets)), targets].mean())


def distilled(run: Run, teacher: FloatArray, X: FloatArray, targets: IntArray, honest: bool = True) -> LinearFit:
    n = len(targets)
    parts = parts_to_ask(targets, names(n), 0, seed=0)
    member = Frozen(np.arange(n), teacher, np.zeros((0, teacher.shape[1]), np.float32), 0.03)
    whole = run(answers_without([member], targets, names(n), 2, np.zeros(n, dtype=bool), None, 0))

    def without(away: NDArray[np.bool_]) -> Steps[Answers]:
        return answers_without([member], targets, names(n), 2, away if honest else np.zeros(n, bool), None, 0)

    others = np.zeros((0, X.shape[1]), np.float32)
    fit: LinearFit = run(taught(X, others, targets, 2, parts, whole, without, 0.1, None))
    return fit


def _without(member: Frozen, targets: IntArray, away: NDArray[np.bool_]) -> Steps[Answers]:
    return answers_without([member], targets, names(len(targets)), 2, away, None, 0)


def test_shares_are_learned_as_an_independent_solver_learns_them(run: Run) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5)).astype(np.float32)
    soft = rng.dirichlet([1.0, 1.0, 1.0], 40).astype(np.float32)
    each = rng.uniform(0.5, 2.0, 40)
    [head] = run(fit_path(X, np.zeros(40, np.int64), 3, [0.05], each, 1, soft))
    share = each / each.sum()
    middle = share @ X
    spread = np.sqrt(share @ (X - middle) ** 2)
    Z = (X - middle) / np.sqrt(spread * spread.mean())

    # A picture that is partly of each class is one picture of each, weighed by its share.
    three, classes = np.repeat(Z, 3, axis=0), np.tile(np.arange(3), 40)
    weights = (each[:, None] * soft).ravel()
    oracle = LogisticRegression(C=1 / (0.05 * weights.sum()), tol=1e-9, max_iter=5000)
    expected = oracle.fit(three, classes, sample_weight=weights).predict_proba(Z)
    np.testing.assert_allclose(judge.softmax(head.logits(X)), expected, atol=2e-3)


def test_rows_that_are_sure_are_learned_as_labels_are(run: Run) -> None:
    _, X, targets = world(80, 1)
    folds = np.arange(80) % 4
    sure = np.eye(2, dtype=np.float32)[targets]
    hard = run(cross_validate(X, targets, 2, folds, [0.1]))
    soft = run(cross_validate(X, targets, 2, folds, [0.1], soft=sure))
    np.testing.assert_allclose(soft, hard, atol=1e-4)


def test_a_small_network_learns_more_from_a_large_one_than_from_labels(run: Run) -> None:
    gains = []
    for seed in range(6):
        large, small, targets = world(120, seed)
        _, fresh, truth = world(2000, 1000 + seed)
        by_labels = run(fit_linear(small, targets, 2, parts_to_ask(targets, names(120), 0, 0)))
        gains.append(
            loss(by_labels.head, fresh, truth) - loss(distilled(run, large, small, targets).head, fresh, truth)
        )
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / np.sqrt(len(gains))


def test_what_it_is_asked_about_did_not_reach_it_through_its_teacher(run: Run) -> None:
    """Its loss out of fold is that of pictures it never saw; a teacher that knew the part's labels would lower it."""
    losses: dict[str, list[float]] = {"honest": [], "leaking": [], "fresh": []}
    for seed in range(6):
        X, targets = flat(60, seed)
        for name in ("honest", "leaking"):
            fit = distilled(run, X, X, targets, honest=name == "honest")
            losses[name].append(tempered(fit.out_of_fold, targets[fit.rows]))
        losses["fresh"].append(loss(fit.head, *flat(1000, 100 + seed)))
    honest, leaking, fresh = (float(np.mean(losses[name])) for name in ("honest", "leaking", "fresh"))
    assert honest > 0.75 * fresh  # it is chosen among five penalties, and calibrated, on the same pictures
    assert leaking < 0.4 * fresh  # so that this test can tell


def test_a_slice_is_asked_about_where_there_are_many_validation_pictures(run: Run) -> None:
    targets = np.arange(2400) % 2
    folds, one = (parts_to_ask(targets, names(2400), num_val, seed=0) for num_val in (499, 500))
    assert set(folds.tolist()) == {0, 1, 2, 3, 4}
    assert set(one.tolist()) == {-1, 0}
    assert (one == 0).sum() == 240


def test_what_the_teacher_did_not_answer_for_keeps_its_label_and_the_unlabelled_have_answers() -> None:
    answers = Answers(np.array([1]), np.array([[0.0, 2.0]], np.float32), np.array([[4.0, 0.0]], np.float32))
    shares = taught_by(answers, np.array([0, 0]), 2)
    softened = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(shares[0], [1.0, 0.0])
    np.testing.assert_allclose(shares[1], [0.3 + 0.7 * (1 - softened), 0.7 * softened], rtol=1e-5)
    np.testing.assert_allclose(shares[2], judge.softmax(np.array([2.0, 0.0])), rtol=1e-5)


def test_pictures_without_a_label_are_learned_from(run: Run) -> None:
    gains = []
    for seed in range(6):
        large, small, targets = world(60, seed)
        more, others, _ = world(400, 500 + seed)
        _, fresh, truth = world(2000, 1000 + seed)
        member = Frozen(np.arange(60), large, more, 0.03)
        alone = Frozen(np.arange(60), large, more[:0], 0.03)
        parts = parts_to_ask(targets, names(60), 0, seed=0)
        heads = []
        for one, unlabelled in ((member, others), (alone, others[:0])):
            without = functools.partial(_without, one, targets)
            whole = run(without(np.zeros(60, dtype=bool)))
            heads.append(run(taught(small, unlabelled, targets, 2, parts, whole, without, 0.1, None)).head)
        gains.append(loss(heads[1], fresh, truth) - loss(heads[0], fresh, truth))
    assert np.mean(gains) > 2 * np.std(gains, ddof=1) / np.sqrt(len(gains))


def test_models_count_by_how_well_they_answer() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    good = np.stack([-2.0 * (2 * truth - 1), 2.0 * (2 * truth - 1)], 1) + rng.normal(size=(200, 2))
    noise = rng.normal(size=(200, 2))
    both = pooled(np.arange(200), [good.astype(np.float32), noise.astype(np.float32)], [NONE, NONE], truth, None)
    assert np.corrcoef(both.logits[:, 1] - both.logits[:, 0], good[:, 1] - good[:, 0])[0, 1] > 0.95


@pytest.mark.parametrize("views", [1, 2])
def test_mirrored_views_lie_beside_those_of_pictures_without_a_label(run: Run, views: int) -> None:
    large, small, targets = world(60, 3)
    more, others, _ = world(30, 4)
    member = Frozen(np.arange(60), large, more, 0.03)
    parts = parts_to_ask(targets, names(60), 0, seed=0)
    without = functools.partial(_without, member, targets)
    whole = run(without(np.zeros(60, dtype=bool)))
    X, unlabelled = (np.concatenate([one] * views) for one in (small, others))
    fit = run(taught(X, unlabelled, targets, 2, parts, whole, without, 0.1, None, views))
    one = run(taught(small, others, targets, 2, parts, whole, without, 0.1, None))
    np.testing.assert_allclose(fit.head.weight, one.head.weight, atol=1e-3)  # twice the same view changes nothing
    assert fit.rows.tolist() == list(range(60))
