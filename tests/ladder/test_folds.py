"""With folds every picture is learned from, and every number is of a picture that its model had not seen."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart
from tellapart.errors import RecipeError
from tellapart.ladder import crossed
from tellapart.ladder.choose import Candidate, Ground, candidate
from tellapart.learn.rungs import Fitted
from tellapart.runtime import Bundle


@pytest.fixture(autouse=True)
def _without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_all_is_learned_from_and_all_is_measured(photos: Path, tmp_path: Path) -> None:
    run = tellapart.train(photos, out=tmp_path / "run", method="classical", effort="quick", folds=4)
    assert run.result["counts"]["train"] == 48
    assert run.result["val"] is run.result["test"] is None
    folds = run.result["folds"]
    assert (folds["count"], folds["n"]) == (4, 48)
    assert folds["accuracy_low"] < folds["accuracy"] <= folds["accuracy_high"]
    assert folds["words"].startswith("4-fold cross-validation: each of 48 training pictures")
    card = Bundle(run.bundle).card.metrics
    assert (card["val"], card["test"], card["folds"]) == (None, None, folds)
    assert run.summary is not None
    assert ("folds", 4, "asked for by --folds") in run.summary.decisions
    assert "4-fold cross-validation" in (tmp_path / "run" / "report.html").read_text()


def test_groups_stay_whole(tmp_path: Path) -> None:
    """Near-copies with a label drawn for each group: torn apart they would be known again, whole they are a guess."""
    draws = np.random.default_rng(7)
    colours = np.array([(230, 30, 30), (30, 230, 30), (30, 30, 230), (230, 230, 30), (230, 30, 230), (30, 230, 230)])
    rows = []
    for group, colour in enumerate(colours):
        for copy in range(8):
            pixels = np.clip(colour + draws.integers(-20, 21, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{group}_{copy}.png")
            rows.append((f"{group}_{copy}.png", "aabbab"[group], group, f"{group}_{copy}"))
    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group", "own"), *rows])
    seen = {}
    for name, column in (("whole", "group"), ("torn", "own")):
        run = tellapart.train(
            tmp_path / "table.csv",
            out=tmp_path / name,
            method="classical",
            effort="quick",
            folds=3,
            near_duplicates="off",
            group_series="off",
            group_column=column,
        )
        seen[name] = run.result["folds"]["accuracy"]
    assert seen["torn"] == 1.0
    assert seen["whole"] < 0.7


@pytest.mark.parametrize("wish", ["auto", "none"])
def test_models_of_folds_are_calibrated_as_classes_count_in_the_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    uneven, seen = tmp_path / "uneven", []
    shutil.copytree(photos, uneven)
    for path in sorted((uneven / "bees").iterdir())[9:]:
        path.unlink()

    def watched(fitted: Fitted, ground: Ground, *rest: Any) -> Candidate:
        seen.append(ground.balanced)
        return candidate(fitted, ground, *rest)

    monkeypatch.setattr(crossed, "candidate", watched)
    tellapart.train(uneven, out=tmp_path / "run", method="classical", effort="quick", folds=3, balance=wish)
    assert seen == [wish == "auto"] * 3


@pytest.mark.parametrize("given", ["val", "test"])
def test_a_split_that_is_given_stays(photos: Path, tmp_path: Path, given: str) -> None:
    for path in sorted(photos.rglob("*.png")):
        split = given if int(path.stem) % 4 == 0 else "train"
        (tmp_path / "given" / split / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "given" / split / path.parent.name / path.name)
    run = tellapart.train(tmp_path / "given", out=tmp_path / "run", method="classical", effort="quick", folds=3)
    assert run.result["counts"][given] == 12
    assert run.result["counts"]["train"] == 36
    assert run.result[given]["n"] == 12
    assert run.result[{"val": "test", "test": "val"}[given]] is None
    assert run.result["folds"]["n"] == 36
    assert run.summary is not None
    assert run.summary.headline_split == given
    assert "Of the 36," in (tmp_path / "run" / "report.html").read_text()


def test_shares_that_are_asked_for_are_carved_all_the_same(photos: Path, tmp_path: Path) -> None:
    run = tellapart.train(photos, out=tmp_path / "run", method="majority", folds=3, test=0.25)
    assert [run.result["counts"][split] for split in ("train", "val", "test")] == [36, 0, 12]
    assert run.result["folds"]["n"] == 36
    assert run.result["folds"]["accuracy"] == 0.5
    assert "as long" not in run.result["folds"]["words"]


def test_off_sets_apart_however_few(tmp_path: Path, photos: Path) -> None:
    for label in ("ants", "bees"):
        (tmp_path / "few" / label).mkdir(parents=True)
        for number in range(6):
            shutil.copy(photos / label / f"{number:02d}.png", tmp_path / "few" / label)
    by_itself = tellapart.train(tmp_path / "few", out=tmp_path / "auto", method="majority")
    assert by_itself.result["folds"]["n"] == by_itself.result["counts"]["train"] == 12
    off = tellapart.train(tmp_path / "few", out=tmp_path / "off", method="majority", folds="off")
    assert off.result["test"]["n"] > 0
    assert "folds" not in off.result


def test_a_run_that_goes_on_keeps_to_its_folds(photos: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"out": tmp_path / "run", "method": "majority", "val": 0.0, "test": 0.0}
    tellapart.train(photos, **asked)
    again = tellapart.train(photos, **asked, resume=True, budget="11m")
    assert again.result["folds"]["n"] == 48
    assert json.loads((tmp_path / "run" / "report.json").read_text())["headline_split"] == "train"


@pytest.mark.parametrize("wrong", [1, 21, "many", 2.5, "-3"])
def test_a_number_of_folds_that_makes_no_sense_is_refused(photos: Path, tmp_path: Path, wrong: object) -> None:
    with pytest.raises(RecipeError, match=r"--folds got .*; expected auto, off or a whole number from 2 to 20"):
        tellapart.train(photos, out=tmp_path / "run", folds=wrong)
