"""What has changed in a data set is told in words, and what only looks so is not."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tellapart.data import Manifest, disk
from tellapart.data.changes import changes_since
from tellapart.driving import finish
from tellapart.errors import DataError
from tellapart.recipe import Recipe

from .conftest import Scan, write_classes, write_picture


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / ".cache-of-test"


@pytest.fixture
def kept(tmp_path: Path, scan_of: Scan) -> Callable[..., Manifest]:
    """Scan, write the manifest, read it again: what a run that goes on has."""

    def stored(data: Path, **options: object) -> Manifest:
        scan_of(data, **options).write(tmp_path / "manifest.jsonl")
        return Manifest.read(tmp_path / "manifest.jsonl")

    return stored


def differs(before: Manifest, data: Path, cache: Path, **options: object) -> str:
    return finish(changes_since(before, data, Recipe.of(**options), cache))


def everything(root: Path) -> Path:
    """Write pictures of two classes, and all kinds of files that are left out."""
    write_classes(root, {"ants": 6, "bees": 6})
    write_picture(root / "unlabelled/one.png", 900)
    write_picture(root / "stray.png", 901)
    write_picture(root / "ants/same.png", 902)
    write_picture(root / "bees/same.png", 902)
    (root / "bees/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (root / "bees/empty.png").touch()
    (root / "ants/gone.png").symlink_to("nowhere")
    return root


def test_nothing_has_changed_and_no_file_is_opened_to_see_that(
    tmp_path: Path, kept: Callable[..., Manifest], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept(everything(tmp_path / "set"))
    assert len(before.excluded) == 7

    def opened(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(disk, "_digest", opened)
    assert differs(before, tmp_path / "set", cache) == ""


def test_a_file_that_was_touched_or_written_again_with_the_same_bytes_is_the_same(
    tmp_path: Path, kept: Callable[..., Manifest], cache: Path
) -> None:
    root = everything(tmp_path / "set")
    before = kept(root)
    for path in root.rglob("*.png"):
        if path.is_file():
            path.write_bytes(path.read_bytes())
            os.utime(path, (1, 1))
    assert differs(before, root, cache) == ""


def test_all_that_has_changed_is_counted_and_a_few_are_named(
    tmp_path: Path, kept: Callable[..., Manifest], cache: Path
) -> None:
    root = write_classes(tmp_path / "set", {"ants": 12, "bees": 12})
    before = kept(root)
    for number in range(5):
        write_picture(root / f"ants/new{number}.png", 500 + number)
    (root / "bees/003.png").unlink()
    picture = root / "bees/004.png"
    turned = bytearray(picture.read_bytes())
    turned[-20] ^= 1
    picture.write_bytes(turned)
    os.utime(picture, (1, 1))
    write_picture(root / "bees/005.png", 700, width=40)
    assert differs(before, root, cache) == (
        "5 files were added (ants/new0.png, ants/new1.png, ants/new2.png and 2 more), "
        "1 file was removed (bees/003.png), 2 files have other bytes (bees/004.png, bees/005.png)"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bees/empty.png", "1 file has other bytes"),
        ("unlabelled/one.png", "1 file has other bytes"),
        ("bees/same.png", "1 file has other bytes"),
        ("ants/gone.png", "1 file has other bytes"),
        ("stray.png", "1 file has other bytes"),
    ],
)
def test_what_was_left_out_counts_too(
    name: str, said: str, tmp_path: Path, kept: Callable[..., Manifest], cache: Path
) -> None:
    root = everything(tmp_path / "set")
    before = kept(root)
    (root / name).unlink()
    assert differs(before, root, cache) == f"1 file was removed ({name})"
    write_picture(root / name, 4711, width=33)
    assert differs(before, root, cache) == f"{said} ({name})"


TABLE = "path,label,split,group,place\n" + "".join(
    f"{number}.png,{'ab'[number % 2]},{split},g{number // 2},{'in' if number % 3 else 'out'}\n"
    for number, split in enumerate(["train"] * 8 + ["test"] * 4)
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", ""),
        ("3.png,b", "3.png,a", "1 file has another label (3.png)"),
        ("9.png,b,test", "9.png,b,train", "1 file is in another split (9.png)"),
        ("2.png,a,train", "2.png,a,test", "1 file is in another split (2.png)"),
        ("g1,", "g0,", "the table has other groups or other values in further columns"),
        (
            "5.png,b,train,g2,in",
            "5.png,b,train,g2,out",
            "the table has other groups or other values in further columns",
        ),
        ("11.png,b,test,g5,in\n", "", "1 file was removed (11.png)"),
    ],
)
def test_what_a_table_says_counts(
    old: str, new: str, said: str, tmp_path: Path, kept: Callable[..., Manifest], cache: Path
) -> None:
    for number in range(12):
        write_picture(tmp_path / f"set/{number}.png", number)
    table = tmp_path / "set/labels.csv"
    table.write_text(TABLE)
    before = kept(table)
    rows = TABLE.replace(old, new).splitlines(keepends=True)
    table.write_text("".join([rows[0], *reversed(rows[1:])]))  # another order of rows is no change
    assert differs(before, table, cache) == said


def test_splits_that_come_to_a_table_later_are_a_change(
    tmp_path: Path, kept: Callable[..., Manifest], cache: Path
) -> None:
    for number in range(12):
        write_picture(tmp_path / f"set/{number}.png", number)
    table = tmp_path / "set/labels.csv"
    table.write_text("path,label\n" + "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(12)))
    before = kept(table)
    table.write_text("path,label,split\n" + "".join(f"{number}.png,{'ab'[number % 2]},train\n" for number in range(12)))
    assert differs(before, table, cache).startswith("12 files are in other splits")


def test_corrections_that_have_changed_are_a_change(tmp_path: Path, kept: Callable[..., Manifest], cache: Path) -> None:
    root = write_classes(tmp_path / "set", {"ants": 6, "bees": 6})
    corrections = tmp_path / "corrections.csv"
    corrections.write_text("path,action,label\nants/000.png,relabel,bees\nants/001.png,drop,\n")
    before = kept(root, corrections=str(corrections))
    assert differs(before, root, cache, corrections=str(corrections)) == ""
    corrections.write_text("path,action,label\nants/000.png,keep,\nants/001.png,keep,\nbees/000.png,drop,\n")
    assert differs(before, root, cache, corrections=str(corrections)) == (
        "3 files have other labels (ants/000.png, ants/001.png, bees/000.png)"
    )


def test_an_archive_is_compared_by_what_is_in_it(tmp_path: Path, kept: Callable[..., Manifest], cache: Path) -> None:
    root = write_classes(tmp_path / "set", {"ants": 4, "bees": 4})

    def pack() -> Path:
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
            for path in sorted(root.rglob("*.png")):
                packed.write(path, path.relative_to(root))
        return tmp_path / "set.zip"

    before = kept(pack())
    shutil.rmtree(cache / "archives")  # unpacked anew, at another time
    assert differs(before, pack(), cache) == ""
    (root / "ants/000.png").unlink()
    assert differs(before, pack(), cache) == "1 file was removed (ants/000.png)"


def test_a_manifest_of_an_older_version_is_compared_by_what_it_has(
    tmp_path: Path, kept: Callable[..., Manifest], cache: Path
) -> None:
    root = everything(tmp_path / "set")
    kept(root)
    lines = [json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    for line in lines:
        if "excluded" in line:
            line.pop("size", None), line.pop("mtime_ns", None)
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = Manifest.read(tmp_path / "manifest.jsonl")
    assert differs(before, root, cache) == ""
    (root / "ants/000.png").unlink()
    assert differs(before, root, cache) == "1 file was removed (ants/000.png)"


def test_data_that_can_no_longer_be_listed_is_refused(
    tmp_path: Path, kept: Callable[..., Manifest], cache: Path
) -> None:
    root = write_classes(tmp_path / "set", {"ants": 4, "bees": 4})
    before = kept(root)
    for path in root.iterdir():
        shutil.rmtree(path)
    with pytest.raises(DataError, match="holds no files"):
        differs(before, root, cache)
