"""The score of novelty is chosen by evidence: what separates better is taken, what is simpler where it is no worse."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tellapart.judge.gaussian import principal_directions
from tellapart.judge.separation import CANDIDATES, auroc, choose_methods
from tellapart.runtime.novelty import NoveltyMethod


@pytest.mark.parametrize("levels", [4, 10_000])
def test_auroc_is_that_of_sklearn_with_ties(levels: int) -> None:
    rng = np.random.default_rng(levels)
    known, novel = rng.integers(0, levels, 200) * 1.0, rng.integers(0, levels, 90) + levels / 4
    expected = roc_auc_score(np.repeat([0, 1], [200, 90]), np.concatenate([known, novel]))
    assert auroc(known, novel) == pytest.approx(expected)


def _rounds(**means: float) -> list[dict[tuple[NoveltyMethod, ...], float]]:
    rng = np.random.default_rng(0)
    wobble = rng.normal(0, 0.03, 8)
    return [
        {name: means.get("_".join(name), 0.5) + one + rng.normal(0, 0.004) for name in CANDIDATES} for one in wobble
    ]


def test_what_separates_clearly_better_is_chosen_whatever_the_rounds_have_in_common() -> None:
    choice = choose_methods(_rounds(neighbours=0.70, energy_neighbours=0.74))
    assert choice.methods == ("energy", "neighbours")
    assert "energy + neighbours 0.7" in choice.words


def test_what_is_simpler_is_chosen_within_noise_but_not_for_more_than_a_hundredth() -> None:
    close: list[dict[tuple[NoveltyMethod, ...], float]] = [
        {("neighbours",): 0.74, ("energy", "neighbours"): 0.741 + sign * 0.01} for sign in (-1, 1) * 4
    ]
    assert choose_methods(close).methods == ("neighbours",)
    rng = np.random.default_rng(1)
    noisy: list[dict[tuple[NoveltyMethod, ...], float]] = [
        {("neighbours",): 0.70 + a, ("energy",): 0.74 + b} for a, b in rng.normal(0, 0.3, (3, 2))
    ]
    means = {name: np.mean([one[name] for one in noisy]) for name in noisy[0]}
    chosen = choose_methods(noisy).methods
    assert means[chosen] >= max(means.values()) - 0.01


def test_leading_directions_hold_the_variance_that_an_exact_decomposition_holds() -> None:
    rng = np.random.default_rng(2)
    X = (rng.normal(size=(300, 60)) * np.linspace(5, 0.1, 60)).astype(np.float32)
    X -= X.mean(axis=0)
    got = principal_directions(X, 10)
    np.testing.assert_allclose(got.T @ got, np.eye(10), atol=1e-4)
    best = np.square(np.linalg.svd(X, compute_uv=False)[:10]).sum()
    assert np.square(X @ got).sum() == pytest.approx(best, rel=0.02)
    assert (principal_directions(X, 10) == got).all()
