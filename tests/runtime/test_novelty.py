"""Novelty scores against pytorch-ood's detectors, and what a bundle scores with numbers that are odd."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from tellapart.judge import gaussian as fitting
from tellapart.judge.gaussian import fit_gaussian
from tellapart.judge.separation import CANDIDATES, Scores, blend_of
from tellapart.runtime.novelty import METHODS, Blend, NoveltyScorer, energy

Floats = NDArray[np.float32]


def _classes(rng: np.random.Generator, n: int, dims: int = 6) -> tuple[Floats, NDArray[np.int64]]:
    targets = rng.integers(0, 3, n)
    places = rng.normal(size=(3, dims)) * 3.0
    mixed = rng.normal(size=(dims, dims))
    return (4.0 + places[targets] + rng.normal(size=(n, dims)) @ mixed).astype(np.float32), targets


def test_mahalanobis_distances_are_those_of_pytorch_ood(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    detectors = pytest.importorskip("pytorch_ood.detector")
    monkeypatch.setattr(fitting, "SHRINKAGE", 0.0)
    rng = np.random.default_rng(0)
    seen, targets = _classes(rng, 300)
    new = (4.0 + 5.0 * rng.normal(size=(50, 6))).astype(np.float32)
    got = fit_gaussian(seen, targets).distances(new)
    # Theirs hold covariances that are sums, not means, over the pictures, and half the distance.
    for place, (detector, factor) in enumerate(((detectors.Mahalanobis, 2 * len(seen)), (detectors.RMD, len(seen)))):
        fitted = detector(None).fit_features(torch.from_numpy(seen), torch.from_numpy(targets))
        expected = factor * fitted.predict_features(torch.from_numpy(new)).numpy()
        np.testing.assert_allclose(got[:, place], expected, rtol=1e-3, atol=1e-2)


def test_the_residual_is_the_share_of_length_that_no_mix_of_the_directions_explains() -> None:
    rng = np.random.default_rng(4)
    seen = (rng.normal(size=(80, 40)) * np.linspace(4, 0.2, 40)).astype(np.float32)
    gaussian = fit_gaussian(seen, np.repeat([0, 1], 40))
    assert gaussian.project.shape == (40, 20)
    new = (rng.normal(size=(30, 40)) * 2.0).astype(np.float32)
    centred = (new - gaussian.mean).astype(np.float64)
    explained = gaussian.project @ np.linalg.lstsq(gaussian.project.astype(np.float64), centred.T, rcond=None)[0]
    expected = np.linalg.norm(centred - explained.T, axis=1) / np.linalg.norm(centred, axis=1)
    np.testing.assert_allclose(gaussian.distances(new)[:, 2], expected, rtol=1e-4)
    assert gaussian.distances(gaussian.mean[None])[0, 2] == 0.0
    doubled = dataclasses.replace(  # a direction twice adds nothing
        gaussian,
        project=np.concatenate([gaussian.project, gaussian.project[:, :1]], axis=1),
        centres=np.concatenate([gaussian.centres, gaussian.centres[:, :1]], axis=1),
        variance=np.concatenate([gaussian.variance, gaussian.variance[:1]]),
    )
    np.testing.assert_allclose(doubled.distances(new)[:, 2], expected, rtol=1e-4)


def test_where_directions_explain_everything_there_is_no_residual() -> None:
    seen, targets = _classes(np.random.default_rng(5), 200)
    gaussian = fit_gaussian(seen, targets)
    assert gaussian.project.shape == (6, 6)
    assert (gaussian.distances(seen)[:, 2] == 0.0).all()


def test_energy_and_max_logit_are_those_of_pytorch_ood() -> None:
    torch = pytest.importorskip("torch")
    detectors = pytest.importorskip("pytorch_ood.detector")
    logits = (np.random.default_rng(1).normal(size=(40, 7)) * 10).astype(np.float32)
    scores = Scores.of(np.zeros(40), np.zeros((40, 3)), logits)
    np.testing.assert_allclose(scores.by["energy"], detectors.EnergyBased.score(torch.from_numpy(logits)), rtol=1e-5)
    np.testing.assert_allclose(scores.by["max_logit"], detectors.MaxLogit.score(torch.from_numpy(logits)), rtol=1e-5)
    assert np.isfinite(energy(np.array([1e4, -1e4]))).all()


@pytest.mark.parametrize("methods", CANDIDATES, ids="+".join)
def test_a_picture_alone_scores_as_it_does_among_many(methods: tuple[str, ...]) -> None:
    from tellapart.judge import Novelty

    rng = np.random.default_rng(2)
    seen, targets = _classes(rng, 240)
    new = (4.0 + 5.0 * rng.normal(size=(30, 6))).astype(np.float32)
    logits = rng.normal(size=(240, 3)).astype(np.float32)
    near = Novelty.fit(seen, seen)
    gaussian = fit_gaussian(seen, targets)
    scores = Scores.of(near.distances(seen), gaussian.distances(seen), logits)
    blend = blend_of(methods, scores, 3, gaussian)  # type: ignore[arg-type]
    novelty = near.blended(blend, scores.blended(blend))
    theirs = rng.normal(size=(30, 3)).astype(np.float32)
    many = Scores.of(near.distances(new), gaussian.distances(new), theirs).blended(blend)
    scorer = NoveltyScorer(near.reference, near.mean, novelty.quantiles, blend)
    alone = [scorer.raw(*pair) for pair in zip(new, theirs, strict=True)]
    np.testing.assert_allclose(alone, many, rtol=1e-4, atol=1e-4)
    shares = novelty.score(new, theirs)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares[np.argsort(many)] == np.sort(shares)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_odd_embeddings_and_logits_are_novel_without_a_warning(value: float) -> None:
    rng = np.random.default_rng(3)
    seen, targets = _classes(rng, 60)
    gaussian = fit_gaussian(seen, targets)
    blend = Blend(
        ("mahalanobis", "energy", "residual"), np.zeros((3, 3), np.float32), np.ones((3, 3), np.float32), gaussian
    )
    scorer = NoveltyScorer(np.eye(6, dtype=np.float16), seen[0], np.linspace(0, 9, 5, dtype=np.float32), blend)
    assert scorer.score(np.full(6, value, np.float32), np.zeros(3, np.float32)) == 1.0
    if not np.isfinite(value):
        assert scorer.score(seen[0], np.full(3, value, np.float32)) == 1.0


def test_a_blend_measures_each_picture_by_what_its_class_shows() -> None:
    # Class 0 is always near and class 1 always far: 2 is ordinary for the one and novel for the other.
    held = Scores(
        {"neighbours": np.repeat([0.0, 2.0], 500) + np.tile([-0.1, 0.1], 500), "energy": np.zeros(1000)},
        np.repeat([0, 1], 500),
    )
    blend = blend_of(("energy", "neighbours"), held, 2)
    at = Scores({"neighbours": np.array([2.0, 2.0]), "energy": np.zeros(2)}, np.array([0, 1]))
    of_near, of_far = at.blended(blend)
    assert of_near > of_far + 5.0


def test_stored_names_of_methods_never_change() -> None:
    assert METHODS == ("neighbours", "mahalanobis", "relative_mahalanobis", "energy", "max_logit", "residual")
    assert {field.name for field in dataclasses.fields(Blend)} == {"methods", "centre", "weight", "gaussian"}
