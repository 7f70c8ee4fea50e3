"""What a corruption costs, on the same pictures."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.judge.paired import paired_interval
from tellapart.judge.robust import compare_corrupted


def test_the_paired_interval_holds_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    for lost in (0.05, 0.3):
        drawn = rng.multinomial(80, [0.03, lost, 0.97 - lost], 1000)
        held = [low <= 0.03 - lost <= high for low, high in (paired_interval(g, x, 80) for g, x, _ in drawn.tolist())]
        assert 0.93 <= np.mean(held) <= 0.98


def test_the_worst_comes_first_and_the_change_is_paired() -> None:
    right = np.arange(50) % 5 > 0
    found = compare_corrupted(right, {("blur", 1): right.copy(), ("noise", 3): np.arange(50) % 2 > 0})
    assert [(one.corruption, one.n) for one in found] == [("noise", 50), ("blur", 50)]
    assert found[0].change == pytest.approx(0.5 - 0.8)
    assert found[0].change_high < 0
    assert found[1].change == 0
    assert found[1].change_low < 0 < found[1].change_high
