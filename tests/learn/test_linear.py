from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tellapart.events import Progress
from tellapart.judge import fit_temperature, log_softmax, softmax
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import GRID, cross_validate, fit_linear, fit_path
from tellapart.learn.linear_solver import Design, Rows, Solver
from tellapart.learn.rungs import FloatArray, IntArray

Run = Callable[..., Any]


def features(n: int, width: int, num_classes: int, seed: int = 0, apart: float = 0.6) -> tuple[FloatArray, IntArray]:
    """Features much as a network gives them: not negative, of very different size, classes that overlap."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, num_classes, n)
    centres = rng.normal(size=(num_classes, width)) * apart
    sizes = rng.uniform(0.05, 3.0, width)
    X = np.maximum(rng.normal(size=(n, width)) + centres[targets] + 0.3, 0) * sizes
    return X.astype(np.float32), targets.astype(np.int64)


def scaled(X: FloatArray, weights: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
    """The features as they are penalised, written out again."""
    wide = X.astype(np.float64)
    mean = np.average(wide, axis=0, weights=weights)
    spread = np.sqrt(np.average((wide - mean) ** 2, axis=0, weights=weights))
    return np.asarray((wide - mean) / np.sqrt(spread * spread.mean()))


def oracle(Z: Any, targets: IntArray, penalty: float, weights: Any = None) -> LogisticRegression:
    # With two classes scikit-learn has one column of coefficients, twice ours: its square counts double.
    n = len(targets) if weights is None else weights.sum()
    strength = (2 if len(np.unique(targets)) == 2 else 1) / (penalty * n)
    return LogisticRegression(C=strength, tol=1e-9, max_iter=5000).fit(Z, targets, sample_weight=weights)


def probabilities(head: Any, X: FloatArray) -> Any:
    return softmax(head.logits(X))


@pytest.mark.parametrize(("n", "width", "num_classes"), [(60, 150, 2), (60, 150, 4), (300, 40, 2), (300, 40, 5)])
def test_a_head_is_the_one_scikit_learn_finds(run: Run, n: int, width: int, num_classes: int) -> None:
    X, targets = features(n, width, num_classes)
    penalties = [1.0, 0.03, 0.001]
    for penalty, head in zip(penalties, run(fit_path(X, targets, num_classes, penalties)), strict=True):
        expected = oracle(scaled(X), targets, penalty).predict_proba(scaled(X))
        np.testing.assert_allclose(probabilities(head, X), expected, atol=2e-3)


def test_weights_count_as_scikit_learn_counts_them(run: Run) -> None:
    X, targets = features(200, 30, 3)
    weights = np.random.default_rng(1).uniform(0.1, 4.0, 200)
    (head,) = run(fit_path(X, targets, 3, [0.05], weights))
    Z = scaled(X, weights)
    expected = oracle(Z, targets, 0.05, weights).predict_proba(Z)
    np.testing.assert_allclose(probabilities(head, X), expected, atol=2e-3)


def test_a_weight_of_two_is_the_row_twice(run: Run) -> None:
    X, targets = features(80, 20, 3)
    twice = np.arange(80) % 3 == 0
    (weighted,) = run(fit_path(X, targets, 3, [0.02], np.where(twice, 2.0, 1.0)))
    again = np.concatenate([np.arange(80), np.flatnonzero(twice)])
    (repeated,) = run(fit_path(X[again], targets[again], 3, [0.02]))
    np.testing.assert_allclose(probabilities(weighted, X), probabilities(repeated, X), atol=2e-3)


def test_out_of_fold_logits_are_those_of_models_that_did_not_see_the_picture(run: Run) -> None:
    X, targets = features(150, 30, 3)
    folds = make_folds(targets, [str(row) for row in range(150)])
    (logits,) = run(cross_validate(X, targets, 3, folds, [0.05]))
    Z = scaled(X)
    for fold in range(5):
        held = folds == fold
        expected = oracle(Z[~held], targets[~held], 0.05).predict_proba(Z[held])
        np.testing.assert_allclose(softmax(logits[held]), expected, atol=0.02)


def test_a_picture_does_not_leak_through_its_mirrored_view(run: Run) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 200)).astype(np.float32)
    targets = rng.integers(0, 2, 120)
    folds = make_folds(targets, [str(row) for row in range(120)])
    fitted = run(fit_linear(np.concatenate([X, X]), targets, 2, folds, views=2))
    assert fitted.out_of_fold.shape == (120, 2)
    assert (fitted.out_of_fold.argmax(axis=1) == targets[fitted.rows]).mean() < 0.7


def test_a_mirrored_view_is_trained_on(run: Run) -> None:
    X, targets = features(60, 20, 2)
    folds = np.full(60, -1)
    plain = run(fit_linear(np.concatenate([X, X]), targets, 2, folds, views=2)).head
    mixed = run(fit_linear(np.concatenate([X, X[:, ::-1]]), targets, 2, folds, views=2)).head
    assert np.abs(plain.weight - mixed.weight).max() > 1e-3


def test_labels_that_mean_nothing_get_a_strong_penalty_and_no_false_hope(run: Run) -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(300, 50)).astype(np.float32)
    targets = rng.integers(0, 3, 300)
    folds = make_folds(targets, [str(row) for row in range(300)])
    fitted = run(fit_linear(X, targets, 3, folds))
    assert fitted.penalty >= 0.3
    assert min(point.log_loss for point in fitted.sweep) > np.log(3) - 0.02
    assert len(fitted.sweep) < len(GRID)


def test_the_sweep_takes_its_lowest_point_and_looks_on_both_sides_of_it(run: Run) -> None:
    X, targets = features(400, 60, 4)
    folds = make_folds(targets, [str(row) for row in range(400)])
    fitted = run(fit_linear(X, targets, 4, folds))
    losses = [point.log_loss for point in fitted.sweep]
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1
    assert fitted.sweep[best].penalty == fitted.penalty
    assert fitted.sweep[best - 1].penalty / fitted.penalty < 3.2
    (logits,) = run(cross_validate(X, targets, 4, folds, [fitted.penalty]))
    chosen = -np.log(softmax(logits)[np.arange(400), targets]).mean()
    assert chosen == pytest.approx(losses[best], rel=0.01)
    np.testing.assert_allclose(softmax(fitted.out_of_fold), softmax(logits), atol=0.03)


@pytest.mark.parametrize("sampled", [200, 25])
def test_many_rows_are_solved_without_a_copy_to_the_same_minimum(run: Run, sampled: int) -> None:
    X, targets = features(600, 40, 3)
    few = Design.of(X[:sampled], np.ones(sampled))
    design = few.over(X, np.ones(600))
    rows = Rows.of(X, targets, 3, np.full(600, -1), None, 1)
    solver = Solver(design, rows, [-1])
    run(solver.solve(0.03, 1e-6))
    Z = (X - design.centre) / design.scale
    expected = oracle(Z, targets, 0.03).predict_proba(Z)
    np.testing.assert_allclose(probabilities(solver.head(), X), expected, atol=2e-3)


def test_many_rows_are_all_predicted_out_of_fold(run: Run) -> None:
    X, targets = features(900, 30, 3, apart=1.5)
    folds = make_folds(targets, [str(row) for row in range(900)])
    small = run(fit_linear(X, targets, 3, folds, max_rows=300))
    assert small.rows.tolist() == list(range(900))
    assert (small.out_of_fold.argmax(axis=1) == targets).mean() > 0.9
    whole = run(fit_linear(X, targets, 3, folds))
    assert (small.head.logits(X).argmax(axis=1) == whole.head.logits(X).argmax(axis=1)).mean() > 0.97


def test_memory_beyond_the_embeddings_does_not_grow_with_their_width(run: Run) -> None:
    X, targets = features(12_000, 300, 2, apart=0.05)
    folds = make_folds(targets, [str(row) for row in range(len(X))])
    tracemalloc.start()
    run(fit_linear(X, targets, 2, folds, max_rows=400))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * X.nbytes


def test_two_runs_give_the_same_bits(run: Run) -> None:
    X, targets = features(200, 300, 4)
    folds = make_folds(targets, [str(row) for row in range(200)])
    first, second = (run(fit_linear(X, targets, 4, folds)) for _ in range(2))
    assert first.head.weight.tobytes() == second.head.weight.tobytes()
    assert first.out_of_fold.tobytes() == second.out_of_fold.tobytes()


def test_units_of_the_features_do_not_count(run: Run) -> None:
    X, targets = features(100, 20, 3)
    (plain,) = run(fit_path(X, targets, 3, [0.01]))
    (moved,) = run(fit_path(X * 50 + 7, targets, 3, [0.01]))
    np.testing.assert_allclose(probabilities(plain, X), probabilities(moved, X * 50 + 7), atol=5e-3)


@pytest.mark.parametrize("case", ["one feature never moves", "all equal", "twins", "a class without pictures", "two"])
def test_odd_data_gives_a_finite_head(run: Run, case: str) -> None:
    X, targets = features(40, 12, 2)
    num_classes = 2
    if case == "one feature never moves":
        X[:, 3] = 1234.5
    if case == "all equal":
        X[:] = 3.0
    if case == "twins":
        X[1::2] = X[::2]
    if case == "a class without pictures":
        num_classes = 3
    if case == "two":
        X, targets = X[:2], np.array([0, 1])
    folds = make_folds(targets, [str(row) for row in range(len(X))])
    fitted = run(fit_linear(X, targets, num_classes, folds))
    assert np.isfinite(fitted.head.weight).all()
    assert np.isfinite(fitted.head.bias).all()
    assert np.isfinite(fitted.out_of_fold).all()
    if case == "one feature never moves":
        assert (fitted.head.weight[3] == 0).all()
    if case == "a class without pictures":
        assert softmax(fitted.head.logits(X))[:, 2].max() < 0.05


def test_a_long_fit_can_be_interrupted(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    clock = itertools.count()
    monkeypatch.setattr("tellapart.learn.linear_solver.time.monotonic", lambda: next(clock))
    X, targets = features(60, 20, 3)
    seen: list[object] = []
    run(fit_linear(X, targets, 3, make_folds(targets, [str(row) for row in range(60)])), seen)
    assert sum(isinstance(event, Progress) for event in seen) > 20


def test_with_a_handful_of_pictures_a_penalty_is_judged_by_what_its_head_says_once_calibrated(run: Run) -> None:
    X, targets = features(30, 200, 6, seed=3, apart=0.25)
    fit = run(fit_linear(X, targets, 6, make_folds(targets, [str(row) for row in range(30)])))
    chosen = next(point for point in fit.sweep if point.penalty == fit.penalty)
    truth = targets[fit.rows]
    warmth = np.float32(fit_temperature(fit.out_of_fold, truth))
    told = -log_softmax(fit.out_of_fold / warmth)[np.arange(len(truth)), truth].mean()
    assert chosen.log_loss == pytest.approx(told, rel=1e-4)
    plain = -log_softmax(fit.out_of_fold)[np.arange(len(truth)), truth].mean()
    assert abs(plain - told) > 0.01  # so that this test can tell


def test_a_handful_of_pictures_does_not_say_how_each_feature_spreads(run: Run) -> None:
    """Times ten, a feature counts for ten times as much there, where it else counts for the root of that."""
    for n, power in ((24, 1.0), (240, 0.5)):
        X, targets = features(n, 30, 4, seed=1)
        design = Design.of(X, np.ones(n), alike=n < 32)
        wide = Design.of(X * np.where(np.arange(30) == 0, 10, 1).astype(np.float32), np.ones(n), alike=n < 32)
        share = (10 / wide.scale[0]) / (1 / design.scale[0]) / (design.scale[1] / wide.scale[1])
        assert share == pytest.approx(10**power, rel=1e-3)
    few, targets = features(24, 30, 4, seed=1)
    [head] = run(fit_path(few, targets, 4, [0.1]))
    # What the library chose by itself is what dividing by one number gives: an oracle on features of one scale.
    Z = (few - few.mean(0)) / np.sqrt(few.var(0).mean())
    expected = oracle(Z.astype(np.float64), targets, 0.1).predict_proba(Z)
    np.testing.assert_allclose(probabilities(head, few), expected, atol=2e-3)
