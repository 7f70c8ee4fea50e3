"""Every number of a split lies in its 95 % interval about as often as it says; tests/promises looks more closely."""

from __future__ import annotations

import pytest

from tests.judge.coverage import Drawn, held


@pytest.mark.parametrize("drawn", [Drawn(2, 80, 1.0), Drawn(5, 200, 2.0), Drawn(3, 80, 1.0, most=4)])
def test_intervals_hold_the_truth_about_95_times_in_100(drawn: Drawn) -> None:
    shares = held(drawn, 100)
    assert min(shares.values()) >= 0.88, shares  # three deviations of 100 draws below 0.95
