"""A border that answers hang on is told beyond doubt, chance is not, and the map of differences is a plain mean."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.judge.borders import borders, difference_map


def moved(n: int, count: int) -> np.ndarray:
    return np.arange(n) < count


@pytest.mark.parametrize(
    ("ring", "middle", "warned"), [(40, 0, True), (23, 8, True), (20, 18, False), (5, 31, False), (0, 0, False)]
)
def test_answers_that_move_with_the_border_are_told(ring: int, middle: int, warned: bool) -> None:
    found = borders(moved(40, ring), moved(40, middle)[::-1], 0.44)
    assert found is not None
    assert found.warned is warned
    assert (f"{ring} of 40" in found.words) is warned


def test_a_handful_of_pictures_says_nothing() -> None:
    assert borders(moved(11, 11), moved(11, 0), 0.44) is None


def evidence_at(row: int, column: int, n: int = 40, strength: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Maps of two classes that differ in one cell of 6 x 6 alone, in noise."""
    random = np.random.default_rng(row * 6 + column)
    answers = np.arange(n) % 2
    maps = random.normal(0, 0.05, (n, 2, 6, 6))
    maps[:, :, row, column] += strength * np.where(answers[:, None] == np.arange(2), 0.5, -0.5)
    return maps, answers


def test_what_lies_in_a_corner_is_told_and_what_lies_in_the_middle_is_not() -> None:
    still = moved(40, 0)
    for place, words in {
        (0, 0): "upper left",
        (0, 5): "upper right",
        (5, 0): "lower left",
        (5, 5): "lower right",
    }.items():
        found = borders(still, still, 0.44, *evidence_at(*place))
        assert found is not None
        assert found.corner == words
        assert f"in the {words} corner" in found.words
    found = borders(still, still, 0.44, *evidence_at(2, 3))
    assert found is not None
    assert found.words == ""
    assert found.ring_mass is not None
    assert found.ring_mass < 0.3


def test_noise_is_rarely_taken_for_a_border() -> None:
    still = moved(40, 0)
    random = np.random.default_rng(3)
    told = [borders(still, still, 0.44, random.normal(0, 1, (40, 2, 7, 7)), np.arange(40) % 2) for _ in range(60)]
    assert sum(one is not None and one.warned for one in told) <= 3


def test_the_map_of_differences_is_what_a_plain_loop_gives() -> None:
    random = np.random.default_rng(1)
    maps, answers = random.normal(0, 1, (20, 3, 4, 5)), random.integers(0, 3, 20)
    expected = np.zeros((4, 5))
    for label in range(3):
        mine = [maps[i, label] for i in range(20) if answers[i] == label]
        others = [maps[i, label] for i in range(20) if answers[i] != label]
        expected += len(mine) / 20 * (sum(mine) / len(mine) - sum(others) / len(others))
    found = difference_map(maps, answers)
    assert found is not None
    np.testing.assert_allclose(found, expected)
    assert difference_map(maps, np.zeros(20, np.int64)) is None
