"""The risk-coverage curve is what answering from each confidence up would give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.judge import risk_coverage


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.sampled_from([4, 1000]))
def test_every_point_is_a_count(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    top = 0.5 + np.round(rng.uniform(0, 0.5, n) * levels) / levels
    probs, targets, novelty = np.stack([top, 1 - top], axis=1), rng.integers(0, 2, n), rng.random(n)
    points = risk_coverage(targets, probs, novelty, 0.9)
    assert len(points) <= 101
    right = probs.argmax(axis=1) == targets
    for point in points:
        answered = (top >= point.min_prob) & (novelty <= 0.9)
        assert point.share == pytest.approx(answered.mean())
        assert point.accuracy == pytest.approx(right[answered].mean())
    shares = [point.share for point in points]
    assert shares == sorted(shares)
    if points:
        assert shares[-1] == pytest.approx((novelty <= 0.9).mean())
