"""Any folder, any table, any archive: used, used in part, or refused in a sentence; the data stays as it was."""

from __future__ import annotations

import contextlib
import csv
import errno
import json
import os
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

import tellapart
from tellapart.cli import main
from tellapart.data import Manifest, disk, facts, spool
from tellapart.data.audit.cleaned import Cleaned, write_cleaned
from tellapart.data.walk import walk
from tellapart.driving import finish
from tellapart.errors import DataError
from tellapart.events import Event, StageEnded
from tellapart.recipe import Recipe

from .conftest import LINUX_ROOT, Mount, like_a_user, state
from .trees import CASES, Case, pets, picture

MISSING = {"": False, "posix": os.name != "posix", "linux": sys.platform != "linux", "root": not LINUX_ROOT}


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    with like_a_user():
        code = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u200b]", captured.err), "nothing harms a terminal"
    return code, json.loads(captured.out)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if MISSING[case.needs]:
        pytest.skip(f"needs {case.needs}")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    (tmp_path / "in").mkdir()
    data = case.build(tmp_path / "in")
    before = state(tmp_path / "in")
    run = tmp_path / "run"
    code, told = ran(capsys, "train", data, "--out", run, "--method", "majority", "--budget", "9h", *case.options)
    assert state(tmp_path / "in") == before
    assert not [name for name in state(tmp_path) if name.endswith((".tmp", ".part", ".old", ".lock"))]
    if case.stop is not None:
        assert (code, told["error"]["code"]) == (2, case.stop)
        assert told["error"]["next"]
        assert told["error"]["message"].isprintable()
        assert not run.exists()
        assert not list((tmp_path / "cache").rglob("archives/*"))
        return
    assert code == 0
    manifest = Manifest.read(run / "manifest.jsonl")
    left = {item.path: item.code for item in manifest.excluded}
    if "" in case.left:
        assert list(left.values()) == list(case.left.values())
    else:
        assert left == case.left
    counts = told["counts"]
    assert counts["found"] == counts["used"] + counts["excluded"] == manifest.found
    assert case.found in (None, counts["found"])
    for words in case.words:
        assert any(words in note for note in manifest.notes), manifest.notes
    assert all(re.fullmatch(r"[a-z_]+", item.code) and item.note for item in manifest.excluded)


def test_a_class_of_one_picture_stays_in_train(tmp_path: Path) -> None:
    picture(pets(tmp_path / "set") / "newt/1.png", 901)
    manifest = Manifest.scan(tmp_path / "set")
    assert [row.split for row in manifest.rows if row.label == "newt"] == ["train"]


def test_case_43_a_mount_inside_itself_is_read_once(tmp_path: Path, mounted: Mount) -> None:
    root = pets(tmp_path / "set")
    (root / "cat/again").mkdir()
    mounted("--bind", root, root / "cat/again")
    manifest = Manifest.scan(root)
    assert {item.path: item.code for item in manifest.excluded} == {"cat/again": "folder_loop"}
    assert len(manifest.rows) == 8


def test_case_48_names_are_harmless_in_page_and_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_bundle: Path
) -> None:
    odd = ["=cmd()|'x'!A1.png", "+1.png", "-1.png", "@x.png", "<script>alert(1)<.png", "a\u202eb\u200b\x1b[2J.png"]
    for number, name in enumerate(odd):
        picture(tmp_path / "set" / name, number)
    table = tmp_path / "answers.csv"
    with contextlib.chdir(tmp_path / "set"):
        assert main(["predict", str(tiny_bundle), "--csv", str(table), "--", *sorted(os.listdir())]) == 0  # case 76
    capsys.readouterr()
    lines = table.read_text().splitlines()
    assert len(lines) == len(odd) + 1
    assert all(line[0] not in "=+-@" and line.isprintable() for line in lines)


def test_case_62_a_folder_of_very_many_files_is_walked_with_progress(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for number in range(20_000):
        os.close(os.open(tmp_path / "cat" / f"{number}.png", os.O_CREAT))
    told: list[Event] = []
    assert len(finish(walk(tmp_path), told.append).files) == 20_000
    assert len(told) >= 20


def test_case_62_a_file_that_is_no_picture_takes_few_bytes_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that millions of them fit: names too are on the disk, beyond the first ones."""
    monkeypatch.setattr(spool, "KEPT", 512)
    peaks = {}
    for count in (6_000, 26_000):
        root = tmp_path / f"{count}"
        (root / "cat").mkdir(parents=True)
        for number in range(count):
            os.close(os.open(root / "cat" / f"{number:08d}.png", os.O_CREAT))
        tracemalloc.start()
        with pytest.raises(DataError, match=f"{count} empty_file"):
            Manifest.scan(root, Recipe.of(threads=1), tmp_path / "cache")
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (peaks[26_000] - peaks[6_000]) / 20_000 < 20


def test_case_63_pictures_that_change_during_the_scan_stop_the_run_before_it_trains(tmp_path: Path) -> None:
    root = pets(tmp_path / "set")

    def meddle(event: Event) -> None:
        if event == StageEnded("scan", getattr(event, "seconds", 0.0)):
            picture(root / "cat/000.png", 4711)
            (root / "cat/001.png").unlink()
            os.utime(root / "cat/002.png")  # a new time alone is no new picture

    with pytest.raises(DataError) as caught:
        tellapart.train(root, out=tmp_path / "run", method="majority", watch=meddle)
    assert caught.value.code == "changed_file"
    assert "cat/000.png, cat/001.png" in caught.value.message
    assert "002" not in caught.value.message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("each", "broken", "stops"), [(100, 1, False), (100, 3, True)])
def test_case_64_a_disk_that_fails_is_asked_again_then_the_file_is_left_out_and_more_than_a_few_stop_the_run(
    each: int, broken: int, stops: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pets(tmp_path / "set", each=each)
    asked: dict[str, int] = {}

    def failing(path: str, *arguments: Any, **options: Any) -> Any:
        if any(path.endswith(f"cat/{number:03d}.png") for number in range(broken)):
            asked[path] = asked.get(path, 0) + 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return open(path, *arguments, **options)

    monkeypatch.setattr(facts, "open", failing, raising=False)
    monkeypatch.setattr(disk, "_PAUSES_SECONDS", (0.0, 0.0, 0.0))
    if stops:
        with pytest.raises(DataError) as caught:
            Manifest.scan(root)
        assert caught.value.code == "disk_errors"
        assert "3 of 200" in caught.value.message
    else:
        assert {item.code for item in Manifest.scan(root).excluded} == {"disk_error"}
    assert set(asked.values()) == {4}


def test_case_65_data_and_home_may_be_read_only(
    tmp_path: Path, mounted: Mount, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pets(tmp_path / "set")
    (tmp_path / "home").mkdir()
    for place in (root, tmp_path / "home"):
        mounted("--bind", place, place)
        mounted("-o", "remount,ro,bind", place)
    for name in ("TELLAPART_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, told = ran(capsys, "train", root, "--out", tmp_path / "run", "--method", "majority", "--budget", "9h")
    assert code == 0
    code, _ = ran(capsys, "evaluate", told["bundle"], root)
    assert code == 0
    assert list((tmp_path / "home").iterdir()) == []


def test_case_66_a_run_folder_is_never_inside_the_pictures_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pets(tmp_path / "set")
    before = state(root)
    code, told = ran(capsys, "train", root, "--out", root / "run", "--budget", "9h")
    assert (code, told["error"]["code"]) == (2, "out_inside_data")
    monkeypatch.chdir(root / "cat")
    code, told = ran(capsys, "train", root, "--method", "majority", "--budget", "9h")
    assert code == 0
    assert Path(told["bundle"]).resolve().relative_to(tmp_path).parts[0] != "set", "the default lies beside DATA"
    assert state(root) == before


def test_case_70_pictures_of_one_group_are_in_one_split(tmp_path: Path) -> None:
    lines = ["path,label,animal"]
    for number in range(60):
        picture(tmp_path / f"{number}.png", number)
        lines.append(f"{number}.png,{'cat' if number % 2 else 'dog'},{'cat' if number % 2 else 'dog'}{number // 6}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    manifest = Manifest.scan(tmp_path / "t.csv", Recipe.of(group_column="animal"))
    splits: dict[str, set[str]] = {}
    for row in manifest.rows:
        number = int(row.path.split(".")[0])
        splits.setdefault(f"{number % 2}/{number // 6}", set()).add(row.split)
    assert {row.split for row in manifest.rows} == {"train", "val", "test"}
    assert all(len(found) == 1 for found in splits.values())


def test_case_76_no_cell_of_an_exported_table_is_a_formula(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_bundle: Path
) -> None:
    for number, name in enumerate(("=cmd()|'x'!A1.png", "@x.png")):
        picture(tmp_path / "set" / name, number)
    with contextlib.chdir(tmp_path / "set"):
        assert main(["predict", str(tiny_bundle), "--csv", str(tmp_path / "a.csv"), "--", *sorted(os.listdir())]) == 0
    capsys.readouterr()
    with (tmp_path / "a.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    assert [row[0] for row in rows] == ["'=cmd()|'x'!A1.png", "'@x.png"]


def test_case_76_a_cleaned_table_runs_no_formula_and_is_read_as_it_was_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["=cmd()", "'=cmd()", "-1", "'twas", "@x", "a"]
    for number, label in enumerate(labels * 4):
        picture(tmp_path / "set" / label / f"{number}.png", number)
    picture(tmp_path / "set/a" / "+1.png", 50)
    before = Manifest.scan(tmp_path / "set", cache=tmp_path / "cache")
    write_cleaned(before, Cleaned(tuple(range(len(before.rows))), ""), tmp_path / "set" / "clean.csv")
    with (tmp_path / "set" / "clean.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    after = Manifest.scan(tmp_path / "set" / "clean.csv", cache=tmp_path / "cache")
    assert {(row.path, row.label) for row in after.rows} == {(row.path, row.label) for row in before.rows}
    assert set(after.classes) == set(labels)
