"""A folder of pictures is read as a person would, and refused where a person could not tell."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tellapart.data import Manifest, scan
from tellapart.errors import DataError, RecipeError
from tellapart.events import Event, Note, Progress, StageBegan, StageEnded, Steps
from tellapart.recipe import Recipe

from .conftest import Scan, codes, labels, write_classes, write_picture

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, pipes and byte names of POSIX")


def refusal(scan_of: Scan, data: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        scan_of(data)
    assert caught.value.next
    return caught.value


def test_a_folder_per_class_gives_labels_sizes_and_paths_relative_to_it(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "pets", {"cat": 4, "dog": 5})
    manifest = scan_of(tmp_path / "pets")
    assert manifest.classes == ("cat", "dog")
    assert labels(manifest) == {f"{c}/{n:03d}.png": c for c, k in (("cat", 4), ("dog", 5)) for n in range(k)}
    assert [row.path for row in manifest.rows] == sorted(row.path for row in manifest.rows)
    assert {(row.width, row.height) for row in manifest.rows} == {(16, 12)}
    assert manifest.given == ()
    assert all(manifest.file(row).is_file() for row in manifest.rows)


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("Training", "VALID", "testing"), ("train", "val", "test")),
        (("train", "dev", "eval"), ("train", "val", "test")),
        (("train", "validation"), ("train", "val")),
    ],
)
def test_given_splits_are_kept_in_their_usual_spellings(
    tmp_path: Path, scan_of: Scan, folders: tuple[str, ...], splits: tuple[str, ...]
) -> None:
    for number, folder in enumerate(folders):
        write_classes(tmp_path / "set" / folder, {"cat": 6, "dog": 6}, first=100 * number)
    manifest = scan_of(tmp_path / "set")
    assert manifest.given == splits
    spelled = dict(zip(folders, splits, strict=True))
    assert all(row.split == spelled[row.path.split("/")[0]] for row in manifest.rows)
    assert {row.label for row in manifest.rows} == {"cat", "dog"}


def test_validation_is_carved_out_of_train_and_the_given_test_stays(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set/train", {"cat": 40, "dog": 40})
    write_classes(tmp_path / "set/test", {"cat": 5, "dog": 5}, first=100)
    manifest = scan_of(tmp_path / "set", val=0.25)
    assert manifest.counts == {"found": 90, "used": 90, "excluded": 0, "train": 60, "val": 20, "test": 10}
    assert all((row.split == "test") == row.path.startswith("test/") for row in manifest.rows)
    assert manifest.given == ("train", "test")


def test_no_test_split_is_carved_where_validation_was_given(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set/train", {"cat": 9, "dog": 9})
    write_classes(tmp_path / "set/val", {"cat": 3, "dog": 3}, first=100)
    counts = scan_of(tmp_path / "set").counts
    assert (counts["train"], counts["val"], counts["test"]) == (18, 6, 0)


def test_a_train_folder_alone_is_split_like_a_fresh_set(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set/train", {"cat": 20, "dog": 20})
    counts = scan_of(tmp_path / "set").counts
    assert (counts["train"], counts["val"], counts["test"]) == (28, 6, 6)


def test_evaluation_splits_nothing_and_takes_one_class(tmp_path: Path) -> None:
    write_classes(tmp_path / "set", {"cat": 5})
    steps = scan(tmp_path / "set", Recipe(), tmp_path, purpose="evaluate")
    manifest = finish(steps)
    assert [row.split for row in manifest.rows] == ["test"] * 5


def finish(steps: Steps[Manifest]) -> Manifest:
    def kept() -> Generator[Event, None, None]:
        found.append((yield from steps))

    found: list[Manifest] = []
    for _ in kept():
        pass
    return found[0]


def test_a_scan_tells_how_far_it_is_and_says_its_notes(tmp_path: Path) -> None:
    write_classes(tmp_path / "set", {"cat": 60, "dog": 60})
    write_picture(tmp_path / "set/stray.png", 7777)
    steps = scan(tmp_path / "set", Recipe(), tmp_path / "cache")
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            manifest = end.value
            break
    assert events[0] == StageBegan("scan")
    assert isinstance(events[-1], StageEnded)
    done = [event.done for event in events if isinstance(event, Progress) and event.unit == "pictures"]
    assert done[-1] == 121
    assert max(b - a for a, b in zip([0, *done], done, strict=False)) <= 50
    assert tuple(event.text for event in events if isinstance(event, Note)) == manifest.notes


def test_hidden_and_system_files_are_ignored_and_counted(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    for name in (".DS_Store", "cat/Thumbs.db", "cat/._000.png", "__MACOSX/cat/x.png", "dog/@eaDir/t.png", ".git/a"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    manifest = scan_of(root)
    assert manifest.found == 6
    assert any(re.match("Ignored 6 ", note) for note in manifest.notes)


def test_files_that_are_no_pictures_are_left_out_with_their_reason(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    whole = (root / "cat/000.png").read_bytes()
    (root / "cat/notes.txt").write_text("a cat")
    (root / "cat/empty.jpg").write_bytes(b"")
    (root / "cat/cut.png").write_bytes(whole[:-40])
    (root / "README.md").write_text("about")
    (root / "dog/annotations").mkdir()
    (root / "dog/annotations/1.json").write_text("{}")
    write_picture(root / "dog/tiny.png", 50, width=4, height=4)
    assert codes(scan_of(root)) == {
        "cat/notes.txt": "not_an_image",
        "cat/empty.jpg": "empty_file",
        "cat/cut.png": "truncated",
        "README.md": "not_an_image",
        "dog/annotations/1.json": "not_an_image",
        "dog/tiny.png": "too_small",
    }


def test_pictures_beside_the_class_folders_are_left_out_and_told(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    write_picture(root / "stray.jpg", 50)
    manifest = scan_of(root)
    assert codes(manifest) == {"stray.jpg": "no_label"}
    assert "1 picture(s) outside of any class folder were left out." in manifest.notes


def test_an_empty_class_folder_is_left_out_and_named(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3, "unicorn": 0})
    manifest = scan_of(root)
    assert manifest.classes == ("cat", "dog")
    assert any("unicorn" in note for note in manifest.notes)


def test_a_class_without_a_usable_file_is_left_out_and_named(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3, "broken": 0})
    (root / "broken/a.jpg").write_bytes(b"no")
    manifest = scan_of(root)
    assert manifest.classes == ("cat", "dog")
    assert any("broken" in note for note in manifest.notes)


@posix
def test_links_stay_inside_and_what_is_no_file_is_never_opened(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    outside = write_classes(tmp_path / "elsewhere", {"secret": 1})
    (root / "cat/in.png").symlink_to(root / "cat/000.png")
    (root / "cat/out.png").symlink_to(outside / "secret/000.png")
    (root / "cat/broken.png").symlink_to("nowhere.png")
    (root / "cat/loop").symlink_to(root)
    (root / "cat/self").symlink_to("self")
    (root / "more").symlink_to(outside)
    os.mkfifo(root / "dog/pipe.jpg")
    (root / "dog/pipe_link.jpg").symlink_to("pipe.jpg")
    manifest = scan_of(root)
    assert codes(manifest) == {
        "cat/out.png": "symlink_outside",
        "cat/broken.png": "not_a_file",
        "cat/loop": "symlink_folder",
        "cat/self": "not_a_file",
        "more": "symlink_outside",
        "dog/pipe.jpg": "not_a_file",
        "dog/pipe_link.jpg": "not_a_file",
    }
    assert labels(manifest)["cat/in.png"] == "cat"


@posix
def test_a_link_to_the_data_itself_is_followed(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "real", {"cat": 3, "dog": 3})
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(scan_of(tmp_path / "link").rows) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are any bytes")
def test_names_that_are_not_utf8_survive_to_the_manifest_file(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    odd = os.fsdecode(b"caf\xe9 \xff.png")
    write_picture(root / "cat" / odd, 50)
    write_picture(root / "cat" / "line\nbreak \u202e.png", 51)
    manifest = scan_of(root)
    manifest.write(tmp_path / "manifest.jsonl")
    again = Manifest.read(tmp_path / "manifest.jsonl")
    assert again == manifest
    assert {f"cat/{odd}", "cat/line\nbreak \u202e.png"} <= set(labels(again))
    assert all(again.file(row).is_file() for row in again.rows)


def test_a_manifest_with_a_split_that_is_none_is_refused(tmp_path: Path, scan_of: Scan) -> None:
    file = tmp_path / "manifest.jsonl"
    scan_of(write_classes(tmp_path / "set", {"cat": 9, "dog": 9})).write(file)
    file.write_text(file.read_text().replace('"split": "train"', '"split": "tset"', 1))
    with pytest.raises(DataError, match="'tset' is no split; allowed are train, val, test"):
        Manifest.read(file)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are any bytes")
def test_a_class_name_that_is_not_utf8_is_refused_with_a_hint(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, os.fsdecode(b"d\xf6g"): 3})
    error = refusal(scan_of, root)
    assert error.code == "class_name"
    assert str(error).isprintable()


def test_class_names_are_compared_in_one_spelling_of_unicode(tmp_path: Path, scan_of: Scan) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    write_classes(tmp_path / "set/train", {composed: 4, "tea": 4})
    write_classes(tmp_path / "set/test", {decomposed: 2, "tea": 2}, first=50)
    assert scan_of(tmp_path / "set").classes == (composed, "tea")
    twins = write_classes(tmp_path / "twins", {composed: 3, decomposed: 3})
    if len(list(twins.iterdir())) == 2:
        assert refusal(scan_of, twins).code == "class_twice"


def test_class_folders_that_differ_in_case_alone_are_refused(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set/train", {"Cat": 3, "dog": 3})
    write_classes(tmp_path / "set/test", {"cat": 3, "dog": 3}, first=50)
    assert refusal(scan_of, tmp_path / "set").code == "class_twice"


def test_nested_class_folders_are_refused_with_both_readings(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat/siamese": 2, "cat/persian": 2, "dog": 3})
    error = refusal(scan_of, root)
    assert error.code == "nested_classes"
    assert "the classes cat, dog" in error.message
    assert "cat/siamese" in error.message


def test_a_folder_around_the_class_folders_is_named_as_what_to_give(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "download/pets", {"cat": 2, "dog": 2})
    error = refusal(scan_of, tmp_path / "download")
    assert error.code == "nested_classes"
    assert str(tmp_path / "download/pets") in error.next


def test_split_folders_beside_unlabelled_pictures_are_refused(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set/train", {"cat": 2, "dog": 2})
    write_classes(tmp_path / "set", {"more": 2}, first=50)
    error = refusal(scan_of, tmp_path / "set")
    assert error.code == "ambiguous_layout"
    assert "unlabelled pictures (more)" in error.message


def test_a_class_may_be_called_test_or_train(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set", {"train": 4, "bus": 4})
    assert scan_of(tmp_path / "set").classes == ("bus", "train")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda root: root / "missing", "no_data"),
        (lambda root: (root / "empty").mkdir() or root / "empty", "empty_folder"),
        (lambda root: write_picture(root / "one.png", 1), "data_is_picture"),
        (lambda root: write_classes(root / "flat", {".": 3}), "no_classes"),
        (lambda root: write_classes(root / "one", {"cat": 3}), "one_class"),
        (lambda root: write_classes(root / "unsorted", {"train": 3, "test": 3}), "no_classes"),
        (lambda root: write_classes(root / "tested", {"test/a": 3, "test/b": 3}), "no_train_split"),
        (lambda root: write_classes(root / "twice", {"val/a": 1, "valid/b": 1, "train/a": 1}), "split_twice"),
        (lambda root: write_classes(root / "odd", {"train/a": 3, "train/b": 3, "test/c": 1}), "class_not_in_train"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused_in_one_sentence(
    tmp_path: Path, scan_of: Scan, make: object, code: str
) -> None:
    assert refusal(scan_of, make(tmp_path)).code == code  # type: ignore[operator]


def test_when_no_file_can_be_used_the_reasons_are_counted(tmp_path: Path, scan_of: Scan) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"words" if name.startswith("a") else b"")
    error = refusal(scan_of, tmp_path / "set")
    assert error.code == "no_pictures"
    assert "2 not_an_image, 1 empty_file" in error.message


def test_folders_that_cannot_be_read_stop_the_scan_and_are_all_named(
    tmp_path: Path, scan_of: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A superuser may read everything, so the refusal is the system call's.
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3, "private": 3, "secret": 3})
    real = os.scandir

    def guarded(path: str | Path) -> object:
        if Path(path).name in ("private", "secret"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)
    error = refusal(scan_of, root)
    assert error.code == "unreadable_folder"
    assert "private" in error.message
    assert "secret" in error.message


def test_a_table_lying_in_a_flat_folder_is_pointed_out(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set", {".": 3})
    (tmp_path / "set/labels.csv").write_text("path,label\n")
    assert "labels.csv" in refusal(scan_of, tmp_path / "set").next


def test_val_and_test_must_leave_something_to_train_on(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    with pytest.raises(Exception, match="leave too little"):
        scan_of(root, val=0.5, test=0.5)


def test_a_hidden_folder_of_pictures_where_a_class_may_be_meant_is_said_and_counted(
    tmp_path: Path, scan_of: Scan
) -> None:
    root = write_classes(tmp_path / "set", {"train/.25": 2, "train/1": 4, "train/2": 4, ".5": 2, ".thumbnails": 2})
    manifest = scan_of(root)
    assert codes(manifest) == {".5": "hidden_folder", "train/.25": "hidden_folder"}
    assert manifest.found == 10
    assert any("2 hidden folder(s) hold pictures, which are not used: .5, train/.25" in note for note in manifest.notes)
    assert any("Ignored 1 hidden" in note for note in manifest.notes)


@pytest.mark.parametrize("option", ["path_column", "label_column", "split_column", "group_column"])
def test_an_option_for_tables_is_refused_where_there_is_none(tmp_path: Path, scan_of: Scan, option: str) -> None:
    root = write_classes(tmp_path / "set", {"cat": 4, "dog": 4})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as packed:
        for path in root.rglob("*.png"):
            packed.write(path, path.relative_to(root))
    for data in (root, tmp_path / "set.zip"):
        with pytest.raises(RecipeError, match=f"--{option.replace('_', '-')} cannot be followed: .*set") as refused:
            scan_of(data, **{option: "x"})
        assert refused.value.code == "no_table"
