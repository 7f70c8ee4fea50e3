"""`suggest` writes a table that a person corrects and `train` takes, and changes nothing of the pictures."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tellapart
from tellapart.data.manifest import Manifest
from tellapart.errors import DataError, InputError
from tellapart.ladder.suggest import COLUMNS
from tellapart.recipe import Recipe
from tellapart.runtime import Bundle
from tests.conftest import SHARED


@pytest.fixture
def pool(photos: Path, tmp_path: Path) -> Path:
    """Ants and bees without their folders, one of them twice, and a file that is no picture."""
    (tmp_path / "pool").mkdir()
    for file in photos.rglob("*.png"):
        shutil.copy(file, tmp_path / "pool" / f"{file.parent.name}, {file.name}")
    shutil.copy(photos / "ants" / "00.png", tmp_path / "pool" / "again.png")
    (tmp_path / "pool" / "text.png").write_text("words")
    return tmp_path / "pool"


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_of_a_bundle_proposes_labels_and_is_taken_by_train(
    pool: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in pool.iterdir()}
    found = tellapart.suggest(tiny_bundle, pool, out=tmp_path / "to-label.csv", num=10)
    assert {path: path.read_bytes() for path in pool.iterdir()} == before
    rows = rows_of(found.table)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 49 == found.used
    assert [code for _, code in found.excluded] == ["not_an_image"]
    assert [row["rank"] for row in rows[:11]] == [str(rank) for rank in range(1, 11)] + [""]
    assert [Path(row["path"]).name for row in rows[:10]] == list(found.ranked)
    assert all(row["label"] == row["suggested"] for row in rows[:10])
    assert {row["label"] for row in rows[10:]} == {""}
    assert all(row["suggested"] in Path(row["path"]).name for row in rows if "again" not in row["path"])
    with pytest.raises(DataError) as refused:
        Manifest.scan(found.table)
    assert refused.value.code == "blank_label"
    manifest = Manifest.scan(found.table, Recipe.of(unlabelled="skip"))
    assert {row.path: row.label for row in manifest.rows} == {row["path"]: row["label"] for row in rows[:10]}
    assert {item.code for item in manifest.excluded} == {"no_label"}
    assert f"{len(manifest.excluded)} picture(s) without a label were left out." in manifest.notes
    page = found.page.read_text(encoding="utf-8")
    assert "to-label.csv" in page
    assert "<script" not in page
    assert page.count("<figure") == 10


def test_nearly_equal_pictures_are_asked_for_once(pool: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    found = tellapart.suggest(tiny_bundle, pool, out=tmp_path / "a.csv", num=1000)
    assert len(found.ranked) == 48
    assert len({"again.png", "ants, 00.png"} & set(found.ranked)) == 1


def test_what_a_person_decided_is_never_written_over(pool: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    cases = {
        "pool/in.csv": "out_inside_data",
        "a.txt": "not_a_csv",
        "no/a.csv": "cannot_write",
        "mine.csv": "table_exists",
    }
    (tmp_path / "mine.csv").write_text("path,label\n")
    for name, code in cases.items():
        with pytest.raises(InputError) as refused:
            tellapart.suggest(tiny_bundle, pool, out=tmp_path / name)
        assert refused.value.code == code
    assert (tmp_path / "mine.csv").read_text() == "path,label\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.csv", "pool"]


def test_without_a_name_the_table_is_named_after_the_pictures_and_lies_here(
    pool: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tellapart.suggest(tiny_bundle, pool, num=3)
    assert sorted(path.name for path in Path().iterdir()) == [
        f"{pool.name}-to-label.{kind}" for kind in ("csv", "html")
    ]


def test_what_can_judge_nothing_is_refused(
    pool: Path, write_tiny_bundle: Callable[..., Bundle], tiny_fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    majority = write_tiny_bundle(tmp_path / "majority", fitted=dataclasses.replace(tiny_fitted, method="majority"))
    other = write_tiny_bundle(tmp_path / "other")
    cases: list[tuple[Path | str, dict[str, Any], str]] = [
        (majority.path, {}, "no_embedding"),
        (other.path, {"clusters": 3}, "bad_option"),
        ("no_such_net", {}, "no_such_weights"),
        (pool, {}, "bundle_missing_file"),
    ]
    for model, options, code in cases:
        with pytest.raises(InputError) as refused:
            tellapart.suggest(model, pool, out=tmp_path / "a.csv", **options)
        assert refused.value.code == code
        assert not (tmp_path / "a.csv").exists()


def test_a_backbone_alone_finds_groups(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from tellapart.cli import main

    if not (SHARED / "weights" / "mobilenetv2_035").is_dir():
        pytest.skip(f"{SHARED / 'weights'} has no backbones")
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(SHARED / "weights"))
    out = tmp_path / "groups.csv"
    command = ["suggest", "mobilenetv2_035", str(pool), "--out", str(out), "--num", "6", "--clusters", "2", "--json"]
    assert main([*command, "--image-size", "64"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["ranked"]) == 6
    assert [group["name"] for group in told["groups"]] == ["group 1", "group 2"]
    rows = rows_of(out)
    kinds = {(row["cluster"], Path(row["path"]).name[:4]) for row in rows if "again" not in row["path"]}
    assert len(kinds) == 2, "dark red and bright blue pictures are two groups"
    assert {row["label"] for row in rows} == {""}
    assert {name[:4] for name in told["ranked"]} >= {"ants", "bees"}
