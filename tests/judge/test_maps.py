"""Numbers about maps: against scipy, scikit-image and cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tellapart.judge.maps import RING, area_under, mass, place, rank_correlation, ring_share, ssim

maps = arrays(np.float64, (5, 6), elements=st.integers(-4, 4).map(float))


@given(maps, maps)
def test_rank_correlation_is_spearmans(one: np.ndarray, other: np.ndarray) -> None:
    from scipy.stats import spearmanr  # type: ignore[import-untyped]

    if np.ptp(one) == 0 or np.ptp(other) == 0:
        assert rank_correlation(one, other) == 0.0
    else:
        assert rank_correlation(one, other) == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)


@pytest.mark.parametrize("side", [7, 12])
def test_ssim_is_that_of_scikit_image(side: int) -> None:
    from skimage.metrics import structural_similarity

    random = np.random.default_rng(side)
    one = random.random((side, side))
    other = np.clip(one + random.normal(0, 0.2, one.shape), 0, 1)
    assert ssim(one, other) == pytest.approx(structural_similarity(one, other, win_size=7, data_range=1.0))
    assert ssim(one, one) == pytest.approx(1.0)


def test_mass_is_what_speaks_for_a_class() -> None:
    found = mass(np.array([[1.0, -5.0], [3.0, 0.0]]))
    assert found is not None
    assert found.tolist() == [[0.25, 0.0], [0.75, 0.0]]
    assert mass(np.array([[-1.0, 0.0]])) is None
    assert mass(np.array([[np.inf, 0.0]])) is None


@pytest.mark.parametrize(
    ("row", "column", "words"),
    [
        (0, 0, "upper left"),
        (0, 4, "upper"),
        (4, 8, "right"),
        (4, 4, "in the middle"),
        (8, 8, "lower right"),
        (8, 4, "lower"),
    ],
)
def test_a_place_is_told_in_words(row: int, column: int, words: str) -> None:
    of_map = np.full((9, 9), 0.4 / 80)
    of_map[row, column] = 0.6
    found = place(of_map)
    assert found.words == words
    assert [found.mass, found.area] == pytest.approx([0.6, 1 / 81])
    assert found.sentence == f"{words}, 60% of the map in 1% of the picture"


def test_an_even_map_is_nowhere_in_particular() -> None:
    found = place(np.full((7, 7), 1 / 49))
    assert found.words == "spread over the picture"
    assert found.mass == pytest.approx(found.area)


@given(st.integers(2, 40))
def test_an_even_map_has_in_the_ring_what_its_area_says(cells: int) -> None:
    share, area = ring_share(np.full((cells, cells), 1 / cells**2))
    assert share == pytest.approx(area) == pytest.approx(1 - (1 - 2 * RING) ** 2)


def test_all_of_a_frame_lies_in_the_ring_and_nothing_of_a_middle() -> None:
    frame = np.ones((8, 8))
    frame[1:-1, 1:-1] = 0
    assert ring_share(frame / frame.sum())[0] == pytest.approx(1.0)
    middle = 1 - frame
    assert ring_share(middle / middle.sum())[0] == pytest.approx(0.0)


def test_the_area_under_a_curve_is_its_mean_height() -> None:
    assert area_under(np.array([0.0, 0.5, 1.0]), np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])).tolist() == [0.5, 1.0]
