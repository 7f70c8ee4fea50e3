"""An archive goes where a folder goes, and is called by its own name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tellapart.data import Manifest


@pytest.fixture
def packed(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `pets.zip` (all in one folder, `photos`) and a cache of its own."""
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    shutil.copytree(photos, tmp_path / "set" / "photos")
    (tmp_path / "set/photos/ants/bad.png").write_bytes(b"words")
    shutil.make_archive("pets", "zip", tmp_path / "set")
    return work


def test_train_and_evaluate_read_an_archive_and_leave_all_beside_it(tellapart, packed: Path) -> None:
    before = Path("pets.zip").read_bytes()
    ran = tellapart("train", "pets.zip", "--method", "majority", "--budget", "9h", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["run"] == "pets-runs/1"
    assert ran.json["counts"]["found"] == 49
    manifest = Manifest.read(packed / "pets-runs/1/manifest.jsonl")
    assert (manifest.source, manifest.excluded[0].path) == ("pets.zip/photos", "ants/bad.png")
    assert "pets.zip" in Path(ran.json["report"]).read_text()
    told = tellapart("evaluate", ran.json["bundle"], "pets.zip", "--json")
    assert (told.code, told.json["n"]) == (0, 48)
    assert sorted(path.name for path in packed.iterdir()) == ["pets-runs", "pets.zip"]
    assert Path("pets.zip").read_bytes() == before


def test_predict_names_members_of_an_archive(tellapart, packed: Path, tiny_bundle: Path) -> None:
    ran = tellapart("predict", tiny_bundle, "pets.zip", "--json", "--sort-into", "sorted")
    assert ran.code == 0
    assert [line["path"] for line in ran.lines][:2] == ["pets.zip/photos/ants/00.png", "pets.zip/photos/ants/01.png"]
    [bad] = [line for line in ran.lines if "error" in line]
    assert bad["path"] == "pets.zip/photos/ants/bad.png"
    assert str(packed.parent) not in ran.out
    assert len([path for path in Path("sorted").rglob("*") if path.is_file()]) == 48


def test_a_cleaned_table_of_an_archive_is_refused_for_it_would_point_into_the_cache(tellapart, packed: Path) -> None:
    ran = tellapart("check", "pets.zip", "--fix", "clean.csv", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (2, "fix_refused")
    assert sorted(path.name for path in packed.iterdir()) == ["pets.zip"]


def test_a_refused_archive_beside_a_good_picture_is_a_failure_in_its_place(
    tellapart, packed: Path, tiny_bundle: Path
) -> None:
    Path("cut.zip").write_bytes(Path("pets.zip").read_bytes()[:-100])
    good = Path("pets.zip")
    ran = tellapart("predict", tiny_bundle, "cut.zip", good, "--json")
    assert ran.code == 0
    assert (ran.lines[0]["path"], "error" in ran.lines[0]) == ("cut.zip", True)
    assert ran.lines[1]["path"] == "pets.zip/photos/ants/00.png"


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict"])
def test_an_archive_that_is_refused_is_one_sentence(tellapart, packed: Path, tiny_bundle: Path, verb: str) -> None:
    Path("pets.zip").write_bytes(Path("pets.zip").read_bytes()[:-100])
    ran = tellapart(verb, *([] if verb == "train" else [tiny_bundle]), "pets.zip")
    assert (ran.code, ran.out) == (2, "")
    assert "pets.zip is damaged" in ran.err.splitlines()[-1]
    assert sorted(path.name for path in packed.iterdir()) == ["pets.zip"]
