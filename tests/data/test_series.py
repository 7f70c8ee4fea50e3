"""Bursts and films are found by names or times that go with looks, and by neither alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tellapart.data.manifest import Manifest
from tellapart.data.series import find_series, neighbours
from tellapart.images.measure import MEASURES
from tests.data.conftest import Scan

LONG, MANY = 10, 12


def film(seed: int = 0) -> NDArray[np.uint8]:
    """Return thumbnails of 12 films of 10 frames: what they show moves little from frame to frame."""
    random = np.random.default_rng(seed)
    scenes = random.integers(0, 256, (MANY, 1, 8, 8, 3)) + random.normal(0, 6, (MANY, LONG, 8, 8, 3))
    return scenes.reshape(-1, 8, 8, 3).clip(0, 255).astype(np.uint8)


def nothing_known(n: int) -> NDArray[np.void]:
    return np.zeros(n, dtype=MEASURES)


def same_as(numbers: NDArray[np.int64]) -> list[list[int]]:
    return [np.flatnonzero(numbers == number).tolist() for number in np.unique(numbers)]


FILMS = [list(range(start, start + LONG)) for start in range(0, LONG * MANY, LONG)]


@pytest.mark.parametrize("step", [1, 25])
def test_frames_of_a_film_are_a_series_where_their_numbers_follow_each_other(step: int) -> None:
    names = [f"a/film_{step * number:06d}.jpg" for number in range(LONG * MANY)]
    found = find_series(neighbours(names, nothing_known(len(names))), film())
    assert found.strong
    assert same_as(found.numbers) == FILMS


def test_numbers_that_follow_each_other_are_no_series_where_looks_do_not() -> None:
    names = [f"a/IMG_{number:04d}.jpg" for number in range(300)]
    looks = np.random.default_rng(1).integers(0, 256, (300, 8, 8, 3)).astype(np.uint8)
    assert not find_series(neighbours(names, nothing_known(300)), looks).strong


def test_looks_that_are_alike_are_no_series_where_neither_names_nor_times_follow() -> None:
    names = [f"a/{chr(97 + number % 26)}{chr(97 + number // 26)}.jpg" for number in range(LONG * MANY)]
    assert not find_series(neighbours(names, nothing_known(len(names))), film()).strong


def test_case_70_a_burst_is_found_by_the_time_of_one_camera() -> None:
    n = LONG * MANY
    names = [f"a/{chr(97 + number % 26)}{chr(97 + number // 26)}.jpg" for number in range(n)]
    taken = nothing_known(n)
    taken["taken"] = 1_600_000_000 + np.repeat(np.arange(MANY) * 3600, LONG) + np.tile(np.arange(LONG), MANY)
    taken["camera"] = 5
    assert same_as(find_series(neighbours(names, taken), film()).numbers) == FILMS
    taken["camera"] = np.arange(n)
    assert not len(neighbours(names, taken).pairs)


def write_films(root: Path) -> Path:
    """Write two classes of six films each, of ten frames."""
    frames = film(3)
    for number, pixels in enumerate(frames):
        label = "ab"[number // (len(frames) // 2)]
        (root / label).mkdir(parents=True, exist_ok=True)
        large = Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST)
        large.save(root / label / f"frame{number:05d}.png")
    return root


@pytest.mark.parametrize(("wish", "together"), [("auto", True), ("on", True), ("off", False)])
def test_case_70_a_split_keeps_films_whole_unless_told_not_to(
    tmp_path: Path, scan_of: Scan, wish: str, together: bool
) -> None:
    data = write_films(tmp_path / "films")
    manifest: Manifest = scan_of(data, group_series=wish, near_duplicates="off", val=0.25, test=0.25)
    split = {row.path: row.split for row in manifest.rows}
    torn = 0
    for members in FILMS:
        names = [f"{'ab'[number // 60]}/frame{number:05d}.png" for number in members]
        torn += len({split[name] for name in names}) > 1
    assert (torn == 0) == together
    assert bool(manifest.facts.get("series_together")) == together
