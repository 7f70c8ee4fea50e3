"""Pictures without class folders are read like any others: all that is named, each once, with reasons for the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tellapart.data.pool import pool
from tellapart.driving import finish
from tellapart.errors import DataError
from tellapart.recipe import Recipe


def test_files_folders_globs_and_archives_become_one_list(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos/ants/bad.png").write_bytes(b"words")
    shutil.make_archive(str(tmp_path / "bees"), "zip", photos / "bees")
    named = [tmp_path / "photos/ants", tmp_path / "photos/bees/0*.png", tmp_path / "photos/bees/00.png"]
    found = finish(pool(named, "x", Recipe(), tmp_path / "cache"))
    assert len(found.rows) == 24 + 10
    assert [item.code for item in found.excluded] == ["not_an_image"]
    assert {row.label for row in found.rows} == {"x"}
    assert {row.split for row in found.rows} == {"train"}
    assert all(found.file(row).is_file() for row in found.rows)
    packed = finish(pool([tmp_path / "bees.zip"], "x", Recipe(), tmp_path / "cache"))
    assert sorted(row.path for row in packed.rows) == sorted(path.name for path in (photos / "bees").iterdir())


def test_copies_share_a_group(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "ants", tmp_path / "ants")
    shutil.copy(tmp_path / "ants/00.png", tmp_path / "ants/again.png")
    found = finish(pool([tmp_path / "ants"], "x", Recipe(), tmp_path / "cache"))
    groups = {row.path: row.group for row in found.rows}
    assert groups["00.png"] == groups["again.png"]
    assert len(set(groups.values())) == 24


def test_where_nothing_can_be_used_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("words")
    with pytest.raises(DataError) as refused:
        finish(pool([tmp_path / "text.jpg"], "x", Recipe(), tmp_path / "cache"))
    assert refused.value.code == "no_pictures"
    assert "class" not in refused.value.next
