"""From one picture a class upwards a run ends in a bundle that predicts, and says how little its numbers say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart

TINTS = ((200, 60, 40), (40, 90, 200), (60, 190, 80), (180, 180, 60), (150, 60, 170))


def folder(place: Path, num_classes: int, each: int) -> Path:
    """Textured squares, each class with a colour of its own."""
    for label in range(num_classes):
        (place / f"class_{label}").mkdir(parents=True)
        for number in range(each):
            noise = np.random.default_rng([label, number]).integers(-40, 40, (64, 80, 3))
            pixels = np.clip(np.array(TINTS[label]) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"class_{label}" / f"{number}.png")
    return place


@pytest.mark.parametrize(("num_classes", "each"), [(2, 1), (2, 2), (2, 3), (5, 1), (5, 2), (3, 5)])
def test_a_handful_of_pictures_becomes_a_bundle(tmp_path, monkeypatch, num_classes, each):
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = folder(tmp_path / "few", num_classes, each)
    run = tellapart.train(data, out=tmp_path / "run", effort="quick")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["method"] == "classical"
    assert report["counts"]["train"] == num_classes * each
    assert report["val"] is None
    assert report["test"] is None
    said = [answer.as_json()["label"] for answer in tellapart.predict(run.bundle, [data])]
    assert said == [f"class_{label}" for label in range(num_classes) for _ in range(each)]
    page = (tmp_path / "run" / "report.html").read_text()
    if each == 1:
        assert report["headline_split"] is None
        assert "no picture was held out" in page
    else:
        left_out = report["train"]
        assert left_out["n"] == num_classes * each
        assert left_out["accuracy_high"] - left_out["accuracy_low"] > 0.1
        assert "Nothing was set apart to test on" in page


@pytest.mark.parametrize("each", [2, 3])
def test_what_was_learned_is_kept_where_so_few_pictures_cannot_tell(tmp_path, monkeypatch, each):
    """All of one colour: left out, most are named wrong. The row of the ladder says so, as the verdict does."""
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(f"{__name__}.TINTS", TINTS[:1] * 2)
    data = folder(tmp_path / "few", 2, each)
    tellapart.train(data, out=tmp_path / "run", effort="quick")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["method"] == "classical"
    row = next(row for row in report["ladder"] if row["chosen"])
    assert row["val"] is None
    assert row["left_out"]["n"] == 2 * each
    for number in ("accuracy", "log_loss"):
        assert row["left_out"][number] == report["train"][number] == report["folds"][number]
    assert row["accuracy_high"] - row["accuracy_low"] > 0.5
    guessing = next(row for row in report["ladder"] if row["method"] == "majority")
    assert guessing["left_out"]["accuracy"] == 0.5


def test_splits_that_are_given_are_kept_however_few(tmp_path, monkeypatch):
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for split in ("train", "test"):
        folder(tmp_path / "few" / split, 2, 3)
    run = tellapart.train(tmp_path / "few", out=tmp_path / "run", effort="quick", val=0.0)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["counts"]["train"] > 0
    assert Path(run.bundle).is_dir()


def test_more_labels_may_look_wrong_than_there_are_training_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    data = folder(tmp_path / "few" / "train", 2, 10).parent
    wrong = folder(tmp_path / "other", 2, 40)
    (data / "test").mkdir()
    for label in range(2):  # each named as the other; the first ten are those of train
        for picture in sorted((wrong / f"class_{label}").iterdir(), key=lambda path: int(path.stem))[:10]:
            picture.unlink()
        (wrong / f"class_{label}").rename(data / "test" / f"class_{1 - label}")
    run = tellapart.train(data, out=tmp_path / "run", effort="quick", val=0.0)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["test"]["accuracy"] < 0.2
    [suspects] = [found for found in report["findings"] if found["check"] == "label_suspect"]
    assert len(suspects["rows"]) > report["counts"]["train"]
    assert Path(run.bundle).is_dir()
