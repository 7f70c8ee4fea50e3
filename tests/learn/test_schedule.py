from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.learn.schedule import Decay, Horizon, batch_size_for, epochs_for, image_size_for, learning_rate


@settings(deadline=None)
@given(st.integers(1, 500), st.lists(st.tuples(st.integers(0, 500), st.integers(1, 900)), max_size=4))
def test_progress_never_goes_back_and_always_reaches_the_end_wherever_it_is_moved(
    total: int, moves: list[tuple[int, int]]
) -> None:
    horizon = Horizon.of(total)
    for step, end in sorted(moves):
        if step >= horizon.total:
            continue
        before = [horizon.progress(i) for i in range(step + 1)]
        horizon = horizon.moved(step, end)
        assert step == 0 or [horizon.progress(i) for i in range(step + 1)] == pytest.approx(before)
    path = [horizon.progress(step) for step in range(horizon.total + 2)]
    assert path[0] == 0.0
    assert path[horizon.total] == 1.0
    assert all(early < late for early, late in itertools.pairwise(path[: horizon.total + 1]))


def test_a_moved_horizon_spends_what_is_left_evenly() -> None:
    horizon = Horizon.of(100).moved(40, 60)
    assert [horizon.progress(step) for step in (0, 20, 40, 50, 60)] == [0.0, 0.2, 0.4, 0.7, 1.0]


@settings(deadline=None)
@given(st.floats(0.0, 1.0), st.floats(0.01, 0.45), st.floats(0.0, 0.5), st.sampled_from(["linear", "cosine"]))
def test_the_rate_is_a_share_of_the_peak(progress: float, warmup: float, stable: float, decay: Decay) -> None:
    assert 0.0 <= learning_rate(progress, warmup, stable, decay) <= 1.0


def test_the_rate_stays_at_the_peak_for_as_long_as_asked_and_decays_as_asked() -> None:
    assert [learning_rate(p, 0.1, 0.4) for p in (0.1, 0.3, 0.5, 0.75, 1.0)] == [1.0, 1.0, 1.0, 0.5, 0.0]
    halfway = [learning_rate(p, 0.2, 0.0, "cosine") for p in (0.2, 0.4, 0.6, 0.8, 1.0)]
    assert halfway == pytest.approx([0.5 * (1 + math.cos(math.pi * part / 4)) for part in range(5)])


def test_the_rate_climbs_to_the_peak_and_ends_at_zero() -> None:
    assert [learning_rate(p, 0.2) for p in (0.0, 0.1, 0.2, 0.6, 1.0)] == [0.0, 0.5, 1.0, 0.5, 0.0]


@settings(deadline=None)
@given(st.integers(1, 10_000_000))
def test_batches_are_powers_of_two_and_epochs_stay_within_limits(count: int) -> None:
    size = batch_size_for(count)
    assert 8 <= size <= 256
    assert size & (size - 1) == 0
    assert 15 <= epochs_for(count) <= 100
    assert epochs_for(count) >= epochs_for(count + 1)


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(2, 1_000_000), st.floats(0.0, 4000.0))
def test_small_pictures_keep_their_size_and_large_ones_get_what_the_time_allows(
    shorter: int, count: int, seconds: float
) -> None:
    size = image_size_for(shorter, count, seconds)
    assert size % 4 == 0
    if shorter <= 64:
        assert max(8, shorter) <= size < max(8, shorter) + 4
    else:
        assert size in (64, 96, 128)
        assert size <= shorter
        assert image_size_for(shorter, count, 2 * seconds) >= size
