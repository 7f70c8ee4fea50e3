"""An option that reaches no rung that was climbed is told, once, in words; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tellapart
from tellapart.events import Event, Note
from tellapart.ladder.unheeded import unheeded
from tellapart.recipe import Recipe

ALL = ("majority", "classical", "probe", "finetune", "scratch")


@pytest.mark.parametrize(
    ("options", "climbed", "told"),
    [
        ({"augment": "strong"}, ALL[:3], "--augment strong had no effect: no rung that trains on varied pictures"),
        ({"augment": "none"}, ALL[:1], "--augment none had no effect: no rung that trains on varied pictures"),
        ({"augment": "none", "flip": "on"}, ALL[:3], "--augment none had no effect: "),
        ({"flip": "off"}, ALL[:1], "--flip off had no effect: no rung that learns from mirrored pictures"),
        ({"epochs": 5}, ALL[:3], "--epochs 5 had no effect: no rung that trains a network"),
        ({"lr": 0.01}, ALL[:3], "--lr 0.01 had no effect: no rung that trains a network was climbed."),
        ({"tune": 3}, (*ALL[:3], "scratch"), "--tune 3 had no effect: no backbone was tuned."),
        (
            {"backbone": "a"},
            ("majority", "scratch"),
            "--backbone a had no effect: no rung that looks through a backbone",
        ),
        ({"image_size": 64}, ALL[:1], "--image-size 64 had no effect: no rung that looks at pictures"),
        (
            {"head": "mlp", "pooling": "gem", "tune": "last", "bn_policy": "train"},
            ALL[:3],
            "--tune last, --head mlp, --pooling gem and --bn-policy train had no effect: no backbone",
        ),
    ],
)
def test_what_no_climbed_rung_heeds_is_told(options: dict[str, Any], climbed: tuple[str, ...], told: str) -> None:
    said = unheeded(Recipe.of(**options), climbed)
    assert said.startswith(told)
    assert said.endswith(".")
    assert unheeded(Recipe.of(**options), ALL) == ""


def test_several_reasons_are_one_sentence() -> None:
    said = unheeded(Recipe.of(augment="light", head="mlp"), ["majority", "probe"])
    assert said == (
        "--augment light had no effect: no rung that trains on varied pictures was climbed; "
        "--head mlp had no effect: no backbone was tuned."
    )


@pytest.mark.parametrize("rung", ALL)
def test_defaults_and_what_is_heeded_are_never_told(rung: str) -> None:
    assert unheeded(Recipe(), ["majority", rung]) == ""
    assert unheeded(Recipe.of(augment="auto", flip="auto", tune="auto", head="linear", method=rung), [rung]) == ""
    assert unheeded(Recipe.of(balance="weights", resize="pad", threads=1, reference=False), [rung]) == ""
    if rung != "majority":
        assert unheeded(Recipe.of(augment="none"), ["majority", rung]) == "", "a head learns from no mirrored pictures"


def test_it_is_told_once_on_the_terminal_and_in_the_report(photos: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    options: dict[str, Any] = {"method": "classical", "augment": "strong", "lr": 0.01, "robustness": "off"}
    run = tellapart.train(photos, out=tmp_path / "run", budget="5m", watch=seen.append, **options)
    told = (
        "--augment strong had no effect: no rung that trains on varied pictures was climbed; "
        "--lr 0.01 had no effect: no rung that trains a network was climbed."
    )
    assert [event.level for event in seen if isinstance(event, Note) and event.text == told] == ["warning"]
    assert json.loads((tmp_path / "run" / "report.json").read_text())["notes"].count(told) == 1
    assert told.replace("--", "") in Path(run.report).read_text(encoding="utf-8").replace("--", "")
    plain = tellapart.train(photos, out=tmp_path / "plain", method="classical", robustness="off", budget="5m")
    assert plain.summary is not None
    assert not [note for note in plain.summary.notes if "no effect" in note]
