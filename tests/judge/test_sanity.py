"""Maps are shown where they deserve it, refused where they do not, and chance is told as it is."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.judge.sanity import Trial, orders_for, sane


def trials(n: int, gain: float, likeness: float = 0.2, seed: int = 0) -> list[Trial]:
    """Trials of maps that take `gain` more from a lead of 1 than random orders do."""
    random = np.random.default_rng(seed)
    orders = orders_for(n)
    found = []
    for _ in range(n):
        level = random.normal(0.5, 0.1)
        noise = random.normal(0, 0.1, 2 * orders + 2)
        found.append(
            Trial(
                1.0,
                likeness,
                likeness / 2,
                level - gain + noise[0],
                level + gain + noise[1],
                tuple(level + noise[2 : 2 + orders]),
                tuple(level + noise[2 + orders :]),
            )
        )
    return found


@pytest.mark.parametrize("n", [1, 3, 12, 24])
def test_maps_that_mark_what_counts_are_shown(n: int) -> None:
    found = sane(trials(n, 0.4))
    assert found.passed
    assert found.n == n
    assert found.deletion is not None
    assert found.random_deletion is not None
    assert found.deletion < found.random_deletion


def test_maps_that_mark_nothing_are_shown_no_more_often_than_chance_allows() -> None:
    shown = [sane(trials(6, 0.0, seed=seed)).passed for seed in range(200)]
    assert np.mean(shown) <= 0.03


def test_the_chance_of_a_worthless_map_is_uniform() -> None:
    chances = [sane(trials(4, 0.0, seed=seed)).p or 0.0 for seed in range(300)]
    assert np.mean(np.array(chances) <= 0.05) <= 0.09
    assert np.mean(chances) == pytest.approx(0.5, abs=0.08)


def test_maps_that_any_head_draws_are_not_shown() -> None:
    found = sane(trials(12, 0.4, likeness=0.9))
    assert not found.passed
    assert "knows nothing" in found.words


def test_where_nothing_speaks_for_an_answer_nothing_is_shown() -> None:
    found = sane([])
    assert (found.passed, found.n, found.correlation) == (False, 0, None)
    assert found.words.startswith("Maps are not shown")


def test_a_map_that_takes_but_does_not_give_back_is_not_shown() -> None:
    import dataclasses

    lame = [dataclasses.replace(trial, insertion=0.0) for trial in trials(12, 0.4)]
    assert not sane(lame).passed
