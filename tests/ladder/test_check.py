"""`check` on files: faults planted in a folder are found, written down, and put right."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

import tellapart
from tellapart.data import Manifest
from tellapart.errors import InputError
from tellapart.recipe import Recipe

COUNT = 60


def drawn(seed: int, kind: int) -> Image.Image:
    """Return a picture of a disc or a square on cloudy ground, 96 px."""
    random = np.random.default_rng([seed, kind])
    ground = random.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    picture = Image.fromarray(ground).resize((96, 96), Image.Resampling.BICUBIC)
    x, y = (int(place) for place in random.integers(20, 60, 2))
    shape = ImageDraw.Draw(picture).ellipse if kind else ImageDraw.Draw(picture).rectangle
    shape((x, y, x + 25, y + 25), fill=(255, 255, 255) if kind else (20, 20, 20))
    return picture


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return split folders of two classes with a fault of each kind that can be planted in files."""
    root = tmp_path_factory.mktemp("spoilt") / "shapes"
    for kind, label in enumerate(("square", "disc")):
        for number in range(COUNT):
            split = "test" if number % 4 == 0 else "train"
            place = root / split / label / f"{(number * 7919 + kind) % 10007:x}q.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            drawn(number, kind).save(place)
    train = sorted((root / "train" / "disc").iterdir())
    shutil.copy(train[0], root / "train" / "disc" / "copy.png")
    drawn_again = Image.open(train[1]).resize((80, 80))
    drawn_again.save(root / "train" / "disc" / "version.jpg", quality=70)
    shutil.copy(train[2], root / "test" / "disc" / "leak.png")
    shutil.copy(train[3], root / "train" / "square" / "twin.png")
    (root / "train" / "disc" / "cut.png").write_bytes(train[4].read_bytes()[:400])
    ImageEnhance.Brightness(Image.open(train[5])).enhance(0.03).save(root / "train" / "disc" / "night.png")
    Image.new("RGB", (96, 96), (130, 130, 130)).save(root / "train" / "square" / "blank.png")
    return root


PLANTED = {
    "duplicate": "train/disc/copy.png",
    "near_duplicate": "train/disc/version.jpg",
    "split_leak": "test/disc/leak.png",
    "identical_in_two_classes": "train/square/twin.png",
    "unreadable": "train/disc/cut.png",
    "quality": "train/square/blank.png",
}


@pytest.fixture(scope="module", autouse=True)
def _no_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TELLAPART_WEIGHTS", raising=False)
        patch.setenv("HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        yield


@pytest.fixture(scope="module")
def checked(spoilt: Path) -> tellapart.CheckResult:
    return tellapart.check(spoilt, fix=spoilt.parent / "clean.csv", out=spoilt.parent / "page")


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_is_found(checked: tellapart.CheckResult, check: str) -> None:
    rows = {
        row["path"] for finding in checked.as_json()["findings"] if finding["check"] == check for row in finding["rows"]
    }
    assert PLANTED[check] in rows
    assert len(rows) <= 6


def test_the_object_is_that_of_the_contract(checked: tellapart.CheckResult) -> None:
    found = checked.as_json()
    assert list(found) == ["version", "counts", "classes", "findings"]
    assert found["version"] == 1
    assert found["classes"] == ["disc", "square"]
    assert found["counts"]["found"] == found["counts"]["used"] + found["counts"]["excluded"]
    severities = [finding["severity"] for finding in found["findings"]]
    assert severities == sorted(severities, reverse=True)
    json.dumps(found, allow_nan=False)


def test_what_could_not_be_looked_at_is_said_in_one_line(
    checked: tellapart.CheckResult,
) -> None:
    assert [
        note for note in checked.notes if note.startswith("No network looks at the pictures, features made by hand do")
    ]


def test_the_cleaned_table_trains_and_has_no_copies_or_leaks(spoilt: Path, checked: tellapart.CheckResult) -> None:
    place = spoilt.parent / "clean.csv"
    with place.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"path", "label", "split", "group"}
    names = {row["path"] for row in rows}
    for path in ("duplicate", "near_duplicate", "split_leak", "identical_in_two_classes", "unreadable"):
        # Of copies and versions one stays, whichever name comes first.
        assert f"shapes/{PLANTED[path]}" not in names or path in ("duplicate", "near_duplicate")
    assert checked.fixed is not None
    assert f"{len(rows)} of {checked.counts['found']} files stay" in checked.fixed
    manifest = Manifest.scan(place, Recipe(), cache=spoilt.parent / "cache")
    assert len(manifest.rows) == len(rows)
    assert [note for note in manifest.notes if "are in train too" in note] == []
    again = {finding.check for finding in tellapart.check(place, out=spoilt.parent / "again").findings}
    assert not again & {"duplicate", "near_duplicate", "split_leak", "identical_in_two_classes", "unreadable"}


def test_nothing_in_the_data_is_changed_and_nothing_is_written_into_it(spoilt: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")}
    for place in ({"fix": spoilt / "clean.csv"}, {"out": spoilt / "page"}):
        with pytest.raises(InputError, match="lies inside the pictures' folder"):
            tellapart.check(spoilt, **place)  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in spoilt.rglob("*")} == before


def test_a_foreign_table_is_never_written_over(spoilt: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="is no table that check wrote"):
        tellapart.check(spoilt, fix=mine)
    assert mine.read_text(encoding="utf-8") == "a,b\n1,2\n"


def test_corrections_silence_what_was_looked_at(spoilt: Path, tmp_path: Path) -> None:
    place = tmp_path / "corrections.csv"
    place.write_text("path,action\ntrain/square/blank.png,keep\ntrain/disc/night.png,drop\n", encoding="utf-8")
    result = tellapart.check(spoilt, corrections=str(place), out=tmp_path)
    named = {row.path for finding in result.findings for row in finding.rows}
    assert not named & {"train/square/blank.png", "train/disc/night.png"}


def test_one_class_is_checked_and_told_no_error(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / "data" / "only").mkdir(parents=True, exist_ok=True)
        drawn(number, 0).save(tmp_path / "data" / "only" / f"{number}.png")
    assert tellapart.check(tmp_path / "data", out=tmp_path).classes == ("only",)


def test_a_run_begins_with_the_audit_and_reports_it(spoilt: Path, tmp_path: Path) -> None:
    run = tellapart.train(spoilt, out=tmp_path / "run", method="majority", budget="60s")
    report = json.loads((run.run / "report.json").read_text(encoding="utf-8"))
    found = {finding["check"]: finding for finding in report["findings"]}
    assert {"duplicate", "near_duplicate", "split_leak", "identical_in_two_classes", "quality"} <= set(found)
    assert any(note.startswith("split_leak: ") for note in report["notes"])
    assert "What is amiss with the pictures" in run.report.read_text(encoding="utf-8")
