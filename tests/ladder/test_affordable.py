"""How many pictures a probe can have in the time there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tellapart.ladder.affordable import affordable

SECONDS = st.floats(0.0, 1e4)


def test_what_cannot_be_fitted_in_time_does_not_keep_the_rest_out() -> None:
    """Of 60,000 pictures in ten classes 30 were used, with two minutes left: the fit was reckoned for all of them."""
    found = affordable(0, 0.0095, 10, 119.0, 180.0)
    assert 8_000 < found < 10_000


@given(st.integers(0, 100_000), st.floats(1e-4, 1.0), st.integers(2, 1000), SECONDS, st.floats(1.0, 1e5))
def test_there_is_time_to_embed_and_to_fit_as_many(
    present: int, each: float, num_classes: int, seconds: float, budget: float
) -> None:
    found = affordable(present, each, num_classes, seconds, budget)
    assert found >= 0
    if found > present:
        assert (found - present) * each + 3e-4 * found * num_classes <= seconds + 1e-6
        assert (found - present) * each <= 0.75 * seconds + 1e-6


@given(st.integers(0, 10_000), st.floats(1e-3, 0.1), SECONDS, SECONDS)
def test_more_time_is_never_for_fewer(present: int, each: float, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert affordable(present, each, 10, less, 600.0) <= affordable(present, each, 10, more, 600.0)
