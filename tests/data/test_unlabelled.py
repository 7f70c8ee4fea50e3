"""A folder for pictures without a label is no class: it is counted, never measured on, and may be learned from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tellapart.data import scan
from tellapart.driving import finish
from tellapart.ladder.unlabelled import unlabelled_pictures
from tellapart.recipe import Recipe
from tests.conftest import write_photos


@pytest.mark.parametrize("name", ["unlabelled", "Unlabeled", "_no-label"])
def test_it_is_no_class_and_everything_found_is_accounted_for(tmp_path: Path, name: str) -> None:
    write_photos(tmp_path / "photos", each=8)
    (tmp_path / "photos" / name / "batch1").mkdir(parents=True)
    for number, label in enumerate(("ants", "bees")):
        shutil.move(tmp_path / "photos" / label / "00.png", tmp_path / "photos" / name / "batch1" / f"{number}.png")
    shutil.copy(tmp_path / "photos" / "ants" / "01.png", tmp_path / "photos" / name / "copy.png")
    manifest = finish(scan(tmp_path / "photos", Recipe.of(unlabelled="stop"), tmp_path / "cache"))
    assert manifest.classes == ("ants", "bees")
    assert manifest.counts["found"] == manifest.counts["used"] + manifest.counts["excluded"] == 17
    assert {item.code for item in manifest.excluded} == {"unlabelled"}
    assert any("it is no class" in note for note in manifest.notes)
    found = unlabelled_pictures(manifest)
    assert found is not None
    # The copy of a labelled picture is not among them, in whichever split that is.
    assert sorted(file.name for file in found.files) == ["0.png", "1.png"]


def test_beside_splits_and_in_train_it_is_learned_from_and_in_test_it_is_not(tmp_path: Path) -> None:
    write_photos(tmp_path / "data" / "train", each=6)
    write_photos(tmp_path / "data" / "test", each=6)
    for place in ("unlabelled", "train/unlabelled", "test/unlabelled"):
        (tmp_path / "data" / place).mkdir()
    for number, place in enumerate(("unlabelled", "train/unlabelled", "test/unlabelled")):
        shutil.move(tmp_path / "data" / "train" / "ants" / f"0{number}.png", tmp_path / "data" / place / "x.png")
        (tmp_path / "data" / "test" / "ants" / f"0{number}.png").unlink()  # the same picture
    manifest = finish(scan(tmp_path / "data", Recipe(), tmp_path / "cache"))
    assert manifest.classes == ("ants", "bees")
    found = unlabelled_pictures(manifest)
    assert found is not None
    assert {str(file.relative_to(manifest.root).parent) for file in found.files} == {"unlabelled", "train/unlabelled"}
