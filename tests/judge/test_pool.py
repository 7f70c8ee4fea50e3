"""Weights of models that answer together."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.judge import log_softmax, pool_weights


def loss(logits: np.ndarray, targets: np.ndarray) -> float:
    return float(-log_softmax(logits)[np.arange(len(targets)), targets].mean())


def models(num: int, rows: int, sharpness: list[float]) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 3, rows)
    truth = np.eye(3)[targets]
    return [(truth * sharp + rng.normal(size=(rows, 3))).astype(np.float32) for sharp in sharpness[:num]], targets


def test_no_weights_near_those_found_are_better() -> None:
    logits, targets = models(3, 500, [1.0, 1.5, 0.5])
    found = pool_weights(logits, targets)
    best = loss(sum(w * one for w, one in zip(found, logits, strict=True)), targets)
    for model in range(3):
        for change in (-0.02, 0.02):
            other = found.copy()
            other[model] += change
            assert loss(sum(w * one for w, one in zip(other, logits, strict=True)), targets) > best


def test_together_they_are_better_than_the_best_and_the_better_one_counts_for_more() -> None:
    logits, targets = models(2, 500, [1.0, 2.0])
    found = pool_weights(logits, targets)
    assert found[1] > found[0] > 0.0
    assert loss(found[0] * logits[0] + found[1] * logits[1], targets) < min(loss(one, targets) for one in logits)


def test_a_model_that_is_wrong_counts_for_nothing() -> None:
    logits, targets = models(2, 500, [2.0, -1.0])
    found = pool_weights(logits, targets)
    assert found[0] > 0.5
    assert found[1] == pytest.approx(0.0, abs=1e-9)


def test_rows_that_weigh_nothing_change_nothing() -> None:
    logits, targets = models(2, 400, [1.0, 2.0])
    weights = np.concatenate([np.ones(200), np.zeros(200)])
    assert pool_weights(logits, targets, weights) == pytest.approx(
        pool_weights([one[:200] for one in logits], targets[:200]), abs=1e-5
    )


def test_without_rows_all_count_alike() -> None:
    assert pool_weights([np.zeros((0, 3)), np.zeros((0, 3))], np.zeros(0, np.int64)).tolist() == [0.5, 0.5]
