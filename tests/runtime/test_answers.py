"""Answers: calibrated probabilities, novelty against its definition, three words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.runtime.answers import answer, softmax
from tellapart.runtime.novelty import NoveltyScorer


def _directions(rows: np.ndarray, mean: np.ndarray) -> np.ndarray:
    centred = rows.astype(np.float64) - mean
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_raw_novelty_is_the_mean_cosine_distance_to_the_three_nearest(count: int) -> None:
    random = np.random.default_rng(count)
    rows, queries = random.normal(2, 1, (count, 20)), random.normal(2, 1, (30, 20)).astype(np.float32)
    mean = np.full(20, 2.0, np.float32)
    reference = _directions(rows, mean).astype(np.float16)
    distances = 1.0 - _directions(queries, mean) @ _directions(rows, mean).T
    expected = np.sort(distances, axis=1)[:, :3].mean(axis=1)
    scorer = NoveltyScorer(reference, mean, np.array([0.5], np.float32))
    # The references are rounded to half precision; the oracle's are not.
    np.testing.assert_allclose([scorer.raw(query) for query in queries], expected, atol=2e-3)


def test_novelty_is_the_share_of_held_out_pictures_that_are_less_novel() -> None:
    reference = np.eye(3, dtype=np.float16)[:1]
    scorer = NoveltyScorer(reference, np.zeros(3, np.float32), np.array([0.0, 0.25, 0.25, 0.5, 1.0], np.float32))

    def at(raw: float) -> np.ndarray:
        return np.array([1 - raw, np.sqrt(1 - (1 - raw) ** 2), 0], np.float32)

    assert scorer.score(at(0.0)) == 0.0
    assert scorer.score(at(0.25)) == pytest.approx(0.2, abs=1e-4)  # only one of five is strictly less novel
    assert scorer.score(at(0.375)) == pytest.approx(0.5, abs=1e-4)  # halfway between the third and the fourth
    assert scorer.score(at(1.2)) == 1.0


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e38])
def test_odd_embeddings_have_a_novelty_without_a_warning(value: float) -> None:
    scorer = NoveltyScorer(np.eye(4, dtype=np.float16), np.zeros(4, np.float32), np.linspace(0, 1, 5, dtype=np.float32))
    novelty = scorer.score(np.full(4, value, np.float32))
    assert 0.0 <= novelty <= 1.0
    if not np.isfinite(value):
        assert novelty == 1.0


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=6))
def test_softmax_is_a_distribution_in_the_order_of_the_logits(logits: list[float]) -> None:
    probs = softmax(np.array(logits, np.float32))
    assert probs.sum() == pytest.approx(1.0)
    assert (probs >= 0).all()
    assert probs[int(np.argmax(logits))] == probs.max()


def test_an_answer_is_a_label_only_when_it_is_sure_and_known() -> None:
    assert answer(0.9, 0.5, 0.6, 0.99) == "label"
    assert answer(0.6, 0.99, 0.6, 0.99) == "label"
    assert answer(0.59, 0.5, 0.6, 0.99) == "unsure"
    assert answer(0.9, 1.0, 0.6, 0.99) == "unknown"
    assert answer(0.1, 1.0, 0.6, 0.99) == "unknown"
    assert answer(float("nan"), 0.0, 0.0, 1.0) == "unsure"
    assert answer(1.0, float("nan"), 0.0, 1.0) == "unknown"
