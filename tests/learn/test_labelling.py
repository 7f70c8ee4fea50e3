"""What to label first: unlike each other, the same in any order, the least sure and the most typical."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from tellapart.driving import finish
from tellapart.learn.labelling import find_groups, margins, most_typical, teach_most, unit


def blobs(sizes: list[int], seed: int = 0, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings float32 [n, 12] around as many far points as there are sizes, and whose each is."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(sizes), 12))
    centres *= 4 / np.linalg.norm(centres, axis=1, keepdims=True)
    of = np.repeat(np.arange(len(sizes)), sizes)
    return (centres[of] + spread * random.normal(size=(len(of), 12))).astype(np.float32), of


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 50), st.integers(2, 5), st.integers(0, 99))
def test_what_is_ranked_is_distinct_and_does_not_hang_on_the_order_of_the_pictures(
    n: int, count: int, num_classes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    X = unit(random.normal(size=(n, 6)).astype(np.float32))
    probs = random.dirichlet(np.ones(num_classes), size=n)
    shuffled = random.permutation(n)
    for ranked, again in (
        (most_typical(X, count, 0), shuffled[most_typical(X[shuffled], count, 0)]),
        (teach_most(X, probs, count, 0), shuffled[teach_most(X[shuffled], probs[shuffled], count, 0)]),
    ):
        assert len(ranked) == min(n, count) == len(set(ranked.tolist()))
        assert ranked.tolist() == again.tolist()


def test_representatives_cover_every_group_the_largest_first_and_are_no_outliers() -> None:
    X, of = blobs([60, 30, 10, 5])
    strange = np.random.default_rng(8).normal(size=(1, 12)).astype(np.float32) * 3
    vectors = unit(np.concatenate([X, strange]))
    first = most_typical(vectors, 5, seed=0)
    assert set(of[first[first < len(of)]].tolist()) == {0, 1, 2, 3}
    assert of[first[0]] == 0
    assert len(of) not in first[:4], "the one that is like nothing is not typical"


def test_what_a_model_is_sure_of_is_not_asked_for_and_copies_are_asked_for_once() -> None:
    X, of = blobs([40, 40, 40])
    probs = np.full((120, 3), 0.01)
    probs[np.arange(120), of] = 0.98
    unsure = np.concatenate([np.arange(0, 10), np.arange(40, 50)])
    probs[unsure] = [0.4, 0.35, 0.25]
    ranked = teach_most(unit(X), probs, 2, seed=0)
    assert set(ranked.tolist()) <= set(unsure.tolist())
    assert len(set(of[ranked].tolist())) == 2, "one of each kind that it is unsure of"
    told = 1 - margins(probs[teach_most(unit(X), probs, 30, seed=0)])
    assert (np.diff(told) <= 1e-12).all()


@pytest.mark.parametrize("sizes", [[30, 20], [40, 25, 20, 15], [20] * 7])
def test_groups_are_found_and_counted(sizes: list[int]) -> None:
    X, of = blobs(sizes, seed=3)
    groups = finish(find_groups(unit(X), None, seed=0))
    assert groups.number == len(sizes)
    assert adjusted_rand_score(of, groups.labels) == pytest.approx(1.0)
    assert (np.diff(np.bincount(groups.labels)) <= 0).all(), "the largest first"
    assert finish(find_groups(unit(X), 3, seed=0)).number == 3


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_pictures_is_no_fault(n: int) -> None:
    X = unit(np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32))
    groups = finish(find_groups(X, None, seed=0))
    assert groups.labels.shape == (n,)
    assert sorted(most_typical(X, 9, 0).tolist()) == list(range(n))
    assert finish(find_groups(np.zeros((n, 4), np.float32), 2, 0)).labels.shape == (n,)
