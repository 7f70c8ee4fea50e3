"""Novelty is a percentile: even over pictures like the training ones, 1 for pictures unlike all of them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from tellapart.judge import Novelty, pick_reference
from tellapart.judge import novelty as module
from tellapart.runtime.novelty import NoveltyScorer

Floats = NDArray[np.float32]


def _pictures(rng: np.random.Generator, n: int, clusters: int = 4, dims: int = 32, first: int = 0) -> Floats:
    """Embeddings in clusters along axes `first`, `first + 1`, .. away from an offset that all share."""
    places = np.eye(dims)[first + rng.integers(0, clusters, n)] * 6.0
    return (5.0 + places + rng.normal(size=(n, dims)) * 0.5).astype(np.float32)


def test_pictures_like_the_training_ones_are_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    training = _pictures(rng, 1500)
    novelty = Novelty.fit(training[:1000], training)
    scores = novelty.score(_pictures(rng, 1000))
    assert stats.kstest(scores, "uniform").statistic < 0.06
    assert np.mean(scores > 0.99) < 0.03


def test_pictures_unlike_all_of_them_score_one() -> None:
    rng = np.random.default_rng(1)
    training = _pictures(rng, 400)
    novelty = Novelty.fit(training, training)
    assert (novelty.score(_pictures(rng, 50, first=10)) > 0.99).all()


def test_a_training_picture_does_not_meet_itself_when_it_is_held_out() -> None:
    rng = np.random.default_rng(2)
    training = _pictures(rng, 300)
    scores = Novelty.fit(training, training).score(_pictures(rng, 500))
    alone = Novelty.fit(training, _pictures(rng, 300)).score(_pictures(rng, 500))
    assert abs(scores.mean() - alone.mean()) < 0.06


def test_a_held_out_picture_does_not_meet_its_own_series() -> None:
    # Ten frames of each of 40 scenes: a new scene is ordinary only if frames do not meet their own scene.
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 10)
    scenes = rng.normal(size=(40, 16))
    frames = (scenes[groups] + 0.01 * rng.normal(size=(400, 16))).astype(np.float32)
    new = rng.normal(size=(200, 16)).astype(np.float32)
    assert np.mean(Novelty.fit(frames, frames).score(new) == 1.0) > 0.9
    assert np.mean(Novelty.fit(frames, frames, groups, groups).score(new) == 1.0) < 0.2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), m=st.integers(1, 30), h=st.integers(1, 30), dims=st.integers(1, 8))
def test_scores_are_shares_and_the_same_after_a_round_trip(seed: int, m: int, h: int, dims: int) -> None:
    rng = np.random.default_rng(seed)
    novelty = Novelty.fit(rng.normal(size=(m, dims)), rng.normal(size=(h, dims)))
    arrays = novelty.arrays()
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "reference": "float16",
        "mean": "float32",
        "quantiles": "float32",
    }
    queries = (rng.normal(size=(20, dims)) * 3).astype(np.float32)
    scores = novelty.score(queries)
    assert ((scores >= 0) & (scores <= 1)).all()
    stored = NoveltyScorer(arrays["reference"], arrays["mean"], arrays["quantiles"])
    assert [stored.score(query) for query in queries] == scores.tolist()


def test_a_score_is_the_share_of_held_out_pictures_that_are_less_novel() -> None:
    rng = np.random.default_rng(4)
    reference, held_out, queries = (_pictures(rng, n) for n in (200, 50, 80))
    novelty = Novelty.fit(reference, held_out)
    scorer = NoveltyScorer(novelty.reference, novelty.mean, novelty.quantiles)
    known = np.array([scorer.raw(row) for row in held_out])
    for query, score in zip(queries, novelty.score(queries), strict=True):
        assert abs(score - np.mean(known < scorer.raw(query))) <= 1 / 50 + 1e-9


def test_the_two_ways_to_the_distance_agree() -> None:
    rng = np.random.default_rng(5)
    reference, queries = _pictures(rng, 300), _pictures(rng, 40)
    novelty = Novelty.fit(reference, queries)
    scorer = NoveltyScorer(novelty.reference, novelty.mean, novelty.quantiles)
    expected = np.sort([scorer.raw(query) for query in queries])
    assert novelty.quantiles == pytest.approx(expected, abs=5e-6)


def test_a_picture_scores_the_same_whatever_is_scored_beside_it() -> None:
    rng = np.random.default_rng(6)
    training, queries = _pictures(rng, 500), _pictures(rng, 64)
    novelty = Novelty.fit(training, training)
    assert (novelty.score(queries) == np.concatenate([novelty.score(row[None]) for row in queries])).all()


@pytest.mark.parametrize(
    "training",
    [
        pytest.param(np.full((30, 7), 0.1), id="all alike"),
        pytest.param(np.zeros((30, 7)), id="all zero"),
        pytest.param(np.full((30, 1), 3.0), id="one number"),
        pytest.param(np.full((1, 5), 2.0), id="one picture"),
    ],
)
def test_embeddings_that_tell_nothing_apart_call_nothing_novel(training: Floats) -> None:
    novelty = Novelty.fit(training, training)
    assert (novelty.score(training) == 0.0).all()


def test_pictures_as_near_as_all_held_out_ones_are_not_called_novel_by_rounding() -> None:
    # Two tight points: every distance is 0 up to the rounding of a product, which differs from picture to picture.
    rng = np.random.default_rng(7)
    points = rng.normal(size=(2, 200))
    training = points[np.arange(60) % 2].astype(np.float32)
    novelty = Novelty.fit(training, training, np.arange(60), np.arange(60))
    assert (novelty.score(training * np.float32(1.0 + 1e-7)) < 0.99).all()


def test_thousands_of_pictures_are_kept_within_the_bundle_s_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    training = _pictures(rng, 2500, dims=8)
    picked = pick_reference(rng.integers(0, 4, 2500), [str(row) for row in range(2500)])
    whole = Novelty.fit(training[picked], training)
    assert whole.arrays()["reference"].shape == (2000, 8)
    assert whole.arrays()["quantiles"].shape == (1001,)
    monkeypatch.setattr(module, "SIMILARITIES_AT_ONCE", 2000 * 37)
    parts = Novelty.fit(training[picked], training)
    assert parts.quantiles == pytest.approx(whole.quantiles, abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    good = np.eye(3, dtype=np.float32)
    broken = good.copy()
    broken[1, 1] = bad
    novelty = Novelty.fit(good, good)
    with pytest.raises(ValueError, match="reference must be finite"):
        Novelty.fit(broken, good)
    with pytest.raises(ValueError, match="held_out must be finite"):
        Novelty.fit(good, broken)
    with pytest.raises(ValueError, match="embeddings must be finite"):
        novelty.score(broken)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=120), st.integers(6, 60), st.randoms())
def test_each_class_has_its_share_of_the_reference_whatever_the_order(
    labels: list[int], most: int, random: object
) -> None:
    keys = [hashlib.sha256(str(row).encode()).hexdigest() for row in range(len(labels))]
    picked = pick_reference(np.array(labels), keys, most)
    assert len(picked) == min(most, len(labels))
    assert (np.diff(picked) > 0).all()
    for label in set(labels):
        share = labels.count(label) / len(labels) * len(picked)
        assert abs(sum(labels[row] == label for row in picked) - share) <= 2 + share / 2
        assert any(labels[row] == label for row in picked)
    order = np.random.default_rng(len(labels)).permutation(len(labels))
    again = pick_reference(np.array(labels)[order], [keys[row] for row in order], most)
    assert {keys[order[row]] for row in again} == {keys[row] for row in picked}


def test_a_large_class_does_not_crowd_out_a_small_one_nor_the_other_way_round() -> None:
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    picked = pick_reference(labels, [str(row) for row in range(1000)], 100)
    assert np.bincount(labels[picked]) == pytest.approx([70, 20, 10], abs=1)


def test_more_classes_than_places_still_fill_every_place() -> None:
    picked = pick_reference(np.arange(100), [str(row) for row in range(100)], 10)
    assert len(set(picked.tolist())) == 10
