"""A file is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tellapart import files


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    files.write_json(target, {"x": 1})
    with pytest.raises(TypeError):
        files.write_json(target, {"x": object()})
    with pytest.raises(TypeError):
        files.write_bytes(target, "not bytes")  # type: ignore[arg-type]
    assert json.loads(target.read_text()) == {"x": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": (2,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [None, 1.5], "c": [2]}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with pytest.raises(FileNotFoundError), files.new_folder(target) as folder:
        (folder / "absent" / "half").write_text("x")
    assert list(tmp_path.iterdir()) == []
    with files.new_folder(target) as folder:
        (folder / "one").write_text("1")
        assert not target.exists()
    with files.new_folder(target) as folder:
        (folder / "two").write_text("2")
    assert [path.name for path in target.iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_name_that_is_not_unicode_is_written_back_as_it_was(tmp_path: Path) -> None:
    files.write_text(tmp_path / "names", b"caf\xe9".decode("utf-8", errors="surrogateescape"))
    assert (tmp_path / "names").read_bytes() == b"caf\xe9"
