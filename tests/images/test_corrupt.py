"""Corruptions: the same each time, stronger each step, and never another shape."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from tellapart.images.corrupt import CORRUPTIONS, STRENGTHS, corrupt

GOLDEN = {"noise": "acf6573aca51aabc", "brightness": "ba09e30d83ee3096", "blur": "1b3a66806a85df62"}


def picture(height: int = 112, width: int = 128) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    waves = [30 * np.sin(columns / period) * np.cos(rows / (period + 1)) for period in (2, 4, 7)]
    return np.asarray((np.stack(waves, axis=2) + (40 + 120 * columns / width)[:, :, None]).astype(np.uint8))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_corruption_moves_further_at_each_strength_and_keeps_shape(corruption: str) -> None:
    whole = picture()
    before = whole.copy()
    moved = []
    for strength in STRENGTHS:
        changed = corrupt(whole, corruption, strength, 7)
        assert changed.shape == whole.shape
        assert changed.dtype == np.uint8
        assert np.array_equal(changed, corrupt(whole, corruption, strength, 7))
        moved.append(float(np.abs(changed.astype(float) - whole).mean()))
    assert 0 < moved[0] < moved[1] < moved[2], moved
    assert np.array_equal(whole, before), "the picture itself is never changed"


def test_noise_and_direction_are_a_function_of_the_key() -> None:
    for corruption in ("noise", "rotation"):
        assert not np.array_equal(corrupt(picture(), corruption, 2, 2), corrupt(picture(), corruption, 2, 3))
    assert np.array_equal(corrupt(picture(), "blur", 2, 2), corrupt(picture(), "blur", 2, 3))


def test_noise_is_of_the_deviation_that_it_says() -> None:
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    assert corrupt(grey, "noise", 1, 5).astype(float).std() == pytest.approx(0.08 * 255, rel=0.02)


def test_a_turn_by_nothing_but_degrees_keeps_the_middle_and_the_border_is_no_black_corner() -> None:
    white = np.full((40, 60, 3), 255, dtype=np.uint8)
    assert corrupt(white, "rotation", 3, 1).min() == 255
    dot = np.zeros((41, 61, 3), dtype=np.uint8)
    dot[19:22, 29:32] = 255
    assert corrupt(dot, "rotation", 2, 1)[20, 30].min() > 200


@pytest.mark.parametrize("shape", [(8, 8), (8, 200), (300, 9)])
def test_pictures_of_any_shape_can_be_corrupted(shape: tuple[int, int]) -> None:
    for corruption in CORRUPTIONS:
        assert corrupt(picture(*shape), corruption, 3, 1).shape == (*shape, 3)


@pytest.mark.parametrize(("corruption", "digest"), GOLDEN.items())
def test_the_bits_are_the_same_on_every_machine(corruption: str, digest: str) -> None:
    assert hashlib.sha256(corrupt(picture(), corruption, 1, 42).tobytes()).hexdigest()[:16] == digest
