"""The support vector machine that ships is scikit-learn's, and its probabilities are honest."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.svm import SVC

from tellapart import judge
from tellapart.learn.balancing import Balancing
from tellapart.learn.folds import make_folds
from tellapart.learn.kernel_machine import fit_kernel_machine, fit_machine
from tellapart.learn.learners import best_learner
from tellapart.learn.linear import fit_linear


def run(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def rings(n: int, num_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes on rings around each other, which no linear head can tell apart."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % num_classes
    angle, length = rng.uniform(0, 2 * np.pi, n), 0.4 * targets + rng.normal(0.3, 0.05, n)
    return np.stack([length * np.cos(angle), length * np.sin(angle)], axis=1).astype(np.float32), targets.astype(
        np.int64
    )


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_scores_are_the_mean_of_scikit_learns_pairwise_decisions(num_classes):
    X, targets = rings(120, num_classes)
    machine = run(fit_machine(X, targets, num_classes, 2.0, 4.0))
    oracle = SVC(C=4.0, gamma=2.0, decision_function_shape="ovo").fit(X, targets)
    decisions = oracle.decision_function(X)
    if num_classes == 2:
        expected = np.stack([-decisions, decisions], axis=1)
    else:
        expected, pair = np.zeros((len(X), num_classes)), 0
        for first in range(num_classes):
            for second in range(first + 1, num_classes):
                expected[:, first] += decisions[:, pair] / (num_classes - 1)
                expected[:, second] -= decisions[:, pair] / (num_classes - 1)
                pair += 1
    np.testing.assert_allclose(machine.scores(X), expected, atol=2e-4)


def test_the_graph_that_ships_gives_calibrated_log_probabilities():
    X, targets = rings(300)
    folds = make_folds(targets, [f"{row:03d}" for row in range(300)])
    found = run(fit_kernel_machine(X, targets, 3, folds, Balancing("none"), lambda: 600.0))
    assert found is not None
    fresh, truth = rings(300, seed=1)
    probs = judge.softmax(found.head.logits(fresh))
    assert (probs.argmax(axis=1) == truth).mean() > 0.95
    measured = judge.metrics(truth, probs)
    assert measured.ece is not None
    assert measured.ece < 0.08
    assert (found.out_of_fold.argmax(axis=1) == targets[found.rows]).mean() > 0.95
    tempered = found.head.tempered(2.0).logits(fresh)
    np.testing.assert_allclose(tempered, found.head.logits(fresh) / 2, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Attribute:FutureWarning")  # skl2onnx asks for what scikit-learn lets go
def test_skl2onnx_writes_the_same_decisions():
    convert = pytest.importorskip("skl2onnx").to_onnx
    X, targets = rings(90, 2)
    machine = run(fit_machine(X, targets, 2, 1.0, 4.0))
    oracle = SVC(C=4.0, gamma=1.0, decision_function_shape="ovr").fit(X, targets)
    import onnxruntime

    session = onnxruntime.InferenceSession(
        convert(oracle, X[:1]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    labels = session.run(None, {session.get_inputs()[0].name: X})[0]
    assert (machine.scores(X).argmax(axis=1) == labels).mean() == 1.0


def test_a_class_that_is_not_there_is_never_said():
    X, targets = rings(60)
    machine = run(fit_machine(X[targets != 1], targets[targets != 1], 3, 1.0, 4.0))
    assert not (machine.scores(X).argmax(axis=1) == 1).any()


def test_without_pictures_or_time_there_is_none():
    X, targets = rings(30)
    folds = make_folds(targets, [f"{row}" for row in range(30)])
    assert run(fit_kernel_machine(X, targets, 3, folds, Balancing("none"), lambda: 600.0)) is None
    X, targets = rings(400)
    folds = make_folds(targets, [f"{row}" for row in range(400)])
    assert run(fit_kernel_machine(X, targets, 3, folds, Balancing("none"), lambda: 1e-6)) is None


def test_the_mean_of_both_learners_ships_as_one_graph():
    X, targets = rings(300)
    folds = make_folds(targets, [f"{row:03d}" for row in range(300)])
    machine = run(fit_kernel_machine(X, targets, 3, folds, Balancing("none"), lambda: 600.0))
    linear = run(fit_linear(X, targets, 3, folds))
    best, words = best_learner(machine, linear, targets, Balancing("none"))
    assert best.name == "mean_of_both", words
    assert (best.head.logits(X).argmax(axis=1) == targets).mean() > 0.95, "a line that parts no rings does no harm"
    tempered = [
        one.head.logits(X) / judge.fit_temperature(one.out_of_fold, targets[one.rows]) for one in (machine, linear)
    ]
    np.testing.assert_allclose(best.head.logits(X), (tempered[0] + tempered[1]) / 2, atol=1e-3)


def test_a_learner_that_is_better_than_the_mean_beyond_doubt_ships_alone():
    X, targets = rings(300)
    folds = make_folds(targets, [f"{row:03d}" for row in range(300)])
    machine = run(fit_kernel_machine(X, targets, 3, folds, Balancing("none"), lambda: 600.0))
    linear = run(fit_linear(X, targets, 3, folds))
    hit, noise = np.eye(3)[targets], np.random.default_rng(0).normal(size=(300, 3))
    rows = np.arange(300)
    good = dataclasses.replace(linear, rows=rows, out_of_fold=(3 * hit + noise).astype(np.float32))
    worse = dataclasses.replace(machine, rows=rows, out_of_fold=(hit + noise).astype(np.float32))
    best, words = best_learner(worse, good, targets, Balancing("none"))
    assert (best.name, best.head) == ("linear", linear.head), words
