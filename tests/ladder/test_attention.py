"""Where a model looks: a mark at the border that gives the class away is told, a patch anywhere is not."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tellapart
from tellapart.driving import finish
from tellapart.events import Decision, Event, Recall, Steps
from tellapart.images import thumbnail_jpeg
from tellapart.ladder.attention import attention
from tellapart.ladder.clock import Clock
from tellapart.learn.rungs import Pictures
from tellapart.report import PictureCard, verdict
from tellapart.report.attention import Attention
from tests.patches import SIDE, Ending, patch_bundle, patched, scattered, write_pictures


def framed(label: int, seed: int) -> NDArray[np.uint8]:
    """A noisy picture with a frame that tells its class, and a patch of either colour that does not."""
    random = np.random.default_rng([seed, label])
    pixels = patched(int(random.integers(2)), 2, 2, seed)
    colour = np.array([(30, 200, 60), (220, 40, 50)][label])
    inside = np.zeros((SIDE, SIDE), dtype=bool)
    inside[7:-7, 7:-7] = True
    return np.where(inside[..., None], pixels, colour).astype(np.uint8)


def marked(label: int, seed: int) -> NDArray[np.uint8]:
    """A picture whose class is told by a mark that is always in the same corner."""
    return patched(label, 5, 0, seed)


def in_the_middle(label: int, seed: int) -> NDArray[np.uint8]:
    """A picture whose class is told by a patch in the middle, give or take a cell."""
    random = np.random.default_rng(seed)
    return patched(label, int(random.integers(2, 5)), int(random.integers(2, 5)), seed)


def looked_at(
    tmp_path: Path, pictures: NDArray[np.uint8], ending: Ending = "mean"
) -> tuple[Attention | None, dict[int, PictureCard]]:
    tmp_path.mkdir(exist_ok=True)
    bundle = patch_bundle(tmp_path / "bundle", ending, pictures=pictures)
    files = tuple(write_pictures(tmp_path / "pictures", pictures))
    names = tuple(map(str, range(len(files))))
    held_out = Pictures(files, names, names, np.arange(len(files)) % 2)
    cards = {
        row: PictureCard(thumbnail_jpeg(pictures[row], 224), files[row].name, "red", "green", 0.9) for row in range(3)
    }
    return finish(attention(bundle, held_out, held_out, [0, 2], cards, 1, Clock(60.0), tmp_path / "cache"))


@pytest.mark.parametrize("make", [framed, marked])
@pytest.mark.parametrize("ending", ["mean", "highest"])
def test_a_mark_at_the_border_is_told(tmp_path: Path, make, ending: Ending) -> None:
    pictures = np.stack([make(number % 2, 500 + number) for number in range(40)])
    found, _ = looked_at(tmp_path, pictures, ending)
    assert found is not None
    assert found.borders is not None
    assert "shortcut" in found.borders.words


@pytest.mark.parametrize("ending", ["mean", "highest"])
def test_what_lies_in_the_middle_or_anywhere_is_no_shortcut(tmp_path: Path, ending: Ending) -> None:
    middle = np.stack([in_the_middle(number % 2, 900 + number) for number in range(40)])
    for name, pictures in (("middle", middle), ("anywhere", scattered(40, seed=9)[0])):
        found, _ = looked_at(tmp_path / name, pictures, ending)
        assert found is not None
        assert found.borders is not None
        assert found.borders.words == ""


@pytest.mark.parametrize(("make", "told"), [(framed, True), (in_the_middle, False)])
def test_a_run_tells_a_frame_in_its_verdict_and_a_middle_not(tmp_path: Path, make, told: bool) -> None:
    for label, name in enumerate(("green", "red")):
        write_pictures(tmp_path / "photos" / name, np.stack([make(label, 40 * label + number) for number in range(40)]))
    run = tellapart.train(tmp_path / "photos", method="classical", budget="60s", out=tmp_path / "run")
    report = json.loads((run.run / "report.json").read_text(encoding="utf-8"))
    assert report["method"] == "classical"
    assert ("shortcut" in report["attention"]["borders"]["words"]) is told
    assert run.summary is not None
    assert any("at the border of the picture" in caution for caution in verdict(run.summary).cautions) is told


def test_mistakes_get_their_maps_and_other_cards_stay(tmp_path: Path) -> None:
    found, cards = looked_at(tmp_path, scattered(40, seed=9)[0])
    assert found is not None
    assert found.sanity.passed
    assert found.shown == 2
    assert [bool(cards[row].layer) for row in range(3)] == [True, False, True]
    assert "of the map in" in cards[0].where
    assert cards[0].layer.startswith(b"\x89PNG")
    assert found.differences is not None
    assert found.differences.sum() == pytest.approx(1.0)


def test_a_trial_of_the_same_model_on_the_same_pictures_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = np.stack([in_the_middle(number % 2, 900 + number) for number in range(40)])
    first = looked_at(tmp_path, pictures)
    shutil.rmtree(tmp_path / "bundle")

    def again(*_: object) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr("tellapart.ladder.attention.try_maps", again)
    second = looked_at(tmp_path, pictures)
    assert first[0] is not None
    assert second[0] is not None
    assert (first[0].sanity, first[0].borders, first[0].shown) == (
        second[0].sanity,
        second[0].borders,
        second[0].shown,
    )
    assert first[1] == second[1]


def test_a_picture_gets_the_border_of_each_other_one_in_turn() -> None:
    from tellapart.ladder.attention import _partners

    answers = [0] * 6 + [1] * 3 + [2]
    pairs = _partners(answers)
    assert [at for at, _ in pairs] == list(range(10))
    assert all(answers[at] != answers[other] for at, other in pairs)
    assert {other for at, other in pairs if answers[at] == 0} == {6, 7, 8, 9}
    assert _partners([1, 1, 1]) == []


def test_where_the_clock_is_nearly_up_nothing_is_looked_at(tmp_path: Path) -> None:
    pictures = scattered(20)[0]
    bundle = patch_bundle(tmp_path / "bundle", pictures=pictures)
    files = tuple(write_pictures(tmp_path / "pictures", pictures))
    names = tuple(map(str, range(len(files))))
    held_out = Pictures(files, names, names, np.arange(len(files)) % 2)
    assert finish(attention(bundle, held_out, held_out, [], {}, 1, Clock(6.0), tmp_path)) == (None, {})


@pytest.mark.parametrize(("before", "now"), [(60.0, 1.0), (1.0, 60.0)])
def test_a_run_that_goes_on_looks_where_it_did_whatever_the_clock_says(
    tmp_path: Path, before: float, now: float
) -> None:
    pictures = scattered(20)[0]
    bundle = patch_bundle(tmp_path / "bundle", pictures=pictures)
    files = tuple(write_pictures(tmp_path / "pictures", pictures))
    names = tuple(map(str, range(len(files))))
    held_out = Pictures(files, names, names, np.arange(len(files)) % 2)
    first, decided = told(attention(bundle, held_out, held_out, [], {}, 1, Clock(before), tmp_path / "a"), [])
    second, again = told(attention(bundle, held_out, held_out, [], {}, 1, Clock(now), tmp_path / "b"), decided)
    assert again[0] == dataclasses.replace(decided[0], again=True)
    assert (first is None) is (second is None) is (before < now)
    if first is not None and second is not None:
        assert (first.sanity, first.borders) == (second.sanity, second.borders)


def told(
    steps: Steps[tuple[Attention | None, dict[int, PictureCard]]], before: list[Decision]
) -> tuple[Attention | None, list[Decision]]:
    """Return what is found and decided; `before` is what an attempt that was cut off had decided."""
    decided: list[Decision] = []
    try:
        while True:
            event = next(steps)
            if isinstance(event, Recall):
                event.decided.extend(known for known in before if known.name == event.name)
            if isinstance(event, Decision):
                decided.append(event)
    except StopIteration as end:
        return end.value[0], decided


def test_a_slow_model_is_not_looked_into_where_that_would_cost_more_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 10**6, 5))  # each look at the clock is five seconds later
    pictures = scattered(20)[0]
    bundle = patch_bundle(tmp_path / "bundle", pictures=pictures)
    files = tuple(write_pictures(tmp_path / "pictures", pictures))
    names = tuple(map(str, range(len(files))))
    held_out = Pictures(files, names, names, np.arange(len(files)) % 2)
    clock = Clock(600.0)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(clock, "left", lambda: 500.0)
    monkeypatch.setattr(clock, "spent", lambda: 100.0)
    decided: list[Event] = []
    assert finish(attention(bundle, held_out, held_out, [], {}, 1, clock, tmp_path), decided.append) == (None, {})
    assert [event.value for event in decided if isinstance(event, Decision)] == [False]
