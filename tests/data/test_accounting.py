"""Whatever lies in a folder, every file is used or left out with a reason, and nothing is touched."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tellapart.data import SPLITS, Manifest
from tellapart.data.listing import is_picture
from tellapart.errors import DataError
from tellapart.recipe import Recipe

from .conftest import noise, write_classes, write_picture

KNOWN_NAMES = st.sampled_from(
    [
        *("a", "b.png", "C", "train", "Val", "test", "e\u0301", "\u00e9", "\u202egnp", "\U0001f41d", "x y", "n\nl"),
        *("..png", ".hidden", "Thumbs.db", "__MACOSX", "-rf", "%s", "{}", "'", os.fsdecode(b"\xff\xfe.png"), "d" * 200),
    ]
)
ANY_NAMES = (
    st.text(min_size=1, max_size=6) | st.binary(min_size=1, max_size=6).map(os.fsdecode)  # any Unicode, any bytes
).filter(lambda name: name not in (".", "..") and not set(name) & {"/", "\0"})
NAMES = KNOWN_NAMES | ANY_NAMES if sys.platform == "linux" else KNOWN_NAMES
CONTENTS = st.sampled_from(
    ["picture"] * 6
    + ["copy", "jpeg", "cut", "empty", "text", "small", "link", "broken link", "up link", "folder link", "pipe"]
)
TREES = st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), CONTENTS), max_size=14)


# Every code has a section there, with a fix: tests/test_errors.py.
ADVICE = set(re.findall(r"^### (.*)$", (Path(__file__).parents[2] / "docs/errors.md").read_text("utf-8"), re.MULTILINE))


def put(root: Path, outside: Path, path: Path, content: str, seed: int) -> None:
    """Write one thing, unless something is in its way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path):
            return
        if content == "picture":
            Image.fromarray(noise(seed)).save(path, format="PNG")
        elif content == "copy":
            Image.fromarray(noise(seed % 2)).save(path, format="PNG")
        elif content == "jpeg":
            Image.fromarray(noise(seed)).save(path, format="JPEG")
        elif content == "cut":
            path.write_bytes((outside / "0.png").read_bytes()[:-30])
        elif content == "empty":
            path.touch()
        elif content == "text":
            path.write_text("hello")
        elif content == "small":
            Image.fromarray(noise(seed, 3, 3)).save(path, format="PNG")
        elif content == "pipe":
            os.mkfifo(path)
        else:
            targets = {"link": outside / "0.png", "up link": root, "folder link": outside}
            path.symlink_to(targets.get(content, Path("gone")))
    except (FileExistsError, NotADirectoryError):
        pass


def state(root: Path) -> list[tuple[str, int, int, str]]:
    """Return names, kinds, times and contents of everything below a folder."""
    found = []
    for folder, folders, names in os.walk(root):
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            entry = os.lstat(path)
            regular = os.path.isfile(path) and not os.path.islink(path)
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest() if regular else ""
            found.append((path, entry.st_mode, entry.st_mtime_ns, digest))
    return sorted(found)


def files_that_count(root: Path) -> set[str]:
    """Return what a plain walk finds that is neither hidden nor the system's: files, links, pipes, hidden classes."""
    found = set()

    def ignored(name: str) -> bool:
        return name.startswith(".") or name.lower() in ("thumbs.db", "__macosx")

    for folder, folders, names in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found |= {os.path.relpath(os.path.join(folder, n), root) for n in [*names, *links] if not ignored(n)}
        folders[:] = [name for name in folders if not ignored(name)]
    for place in (root, root / "train", root / "Val", root / "test"):
        for path in place.glob(".*"):
            if not path.is_symlink() and path.is_dir() and any(map(is_picture, path.iterdir())):
                found.add(os.path.relpath(path, root))  # it may be meant for a class
    return found


def outcome(data: Path, **options: Any) -> tuple[Manifest | None, DataError | None]:
    try:
        return Manifest.scan(data, Recipe.of(**options)), None
    except DataError as error:
        return None, error


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.sampled_from(["stop", "first", "path"]), st.sampled_from(["skip", "stop"]))
def test_used_and_left_out_are_all_that_was_found_and_nothing_is_touched(
    tree: list[tuple[list[str], str]], nested: str, unlabelled: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, outside = Path(folder) / "set", Path(folder) / "outside"
        write_picture(outside / "0.png", 0)
        root.mkdir()
        for seed, (names, content) in enumerate([(["a", "1.png"], "picture"), (["C", "1.png"], "picture"), *tree]):
            put(root, outside, root.joinpath(*names), content, seed)
        before = state(Path(folder))
        manifest, error = outcome(root, nested=nested, unlabelled=unlabelled)
        assert state(Path(folder)) == before
        if manifest is None:
            assert error is not None
            assert error.code in ADVICE
            assert error.next
            assert str(error).isprintable()
            return
        paths = [row.path for row in manifest.rows] + [item.path for item in manifest.excluded]
        assert len(paths) == len(set(paths)) == manifest.found
        assert set(paths) == files_that_count(root)
        assert all(item.code in ADVICE and item.path and item.note for item in manifest.excluded)
        assert manifest.classes == tuple(sorted({row.label for row in manifest.rows}))
        assert {row.split for row in manifest.rows} <= set(SPLITS)
        manifest.write(Path(folder) / "manifest.jsonl")
        assert Manifest.read(Path(folder) / "manifest.jsonl") == manifest


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [f"{n}.png" for n in range(6)] + ["./0.png", "x/../1.png", "../o.png", "/etc/passwd", "t.txt"]
            ),
            st.sampled_from(["a", "b", " a", "01", ""]),
            st.sampled_from(["train", "Val", "test", "", "tset"]),
        ),
        max_size=8,
    )
)
def test_a_table_s_rows_are_used_left_out_or_refused_as_a_whole(lines: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(6):
            write_picture(root / f"{number}.png", number)
        (root / "t.txt").write_text("words")
        table = [("7.png", "a", "train"), ("8.png", "b", "train"), *lines]
        write_picture(root / "7.png", 7)
        write_picture(root / "8.png", 8)
        (root / "t.csv").write_text("path,label,split\n" + "".join(",".join(line) + "\n" for line in table))
        manifest, error = outcome(root / "t.csv")
        if manifest is None:
            assert error is not None
            assert error.code in ("blank_label", "unknown_split", "conflicting_rows", "class_not_in_train")
            return
        listed = {os.path.normpath(path) for path, _, _ in table}
        used = [row.path for row in manifest.rows] + [os.path.normpath(item.path) for item in manifest.excluded]
        assert sorted(used) == sorted(listed)
        assert manifest.found == len(listed)


def test_the_order_of_a_folder_on_the_disk_changes_nothing(tmp_path: Path) -> None:
    forth = write_classes(tmp_path / "1/set", {"cat": 9, "dog": 9})
    back = tmp_path / "2/set"
    for path in sorted(forth.rglob("*.png"), reverse=True):
        target = back / path.relative_to(forth)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    one, two = (Manifest.scan(root, Recipe(), tmp_path / "cache") for root in (forth, back))
    assert one.rows == two.rows
    assert one.fingerprint == two.fingerprint


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.sampled_from([".zip", ".tar"]))
def test_an_archive_of_a_folder_is_the_folder_or_is_refused(tree: list[tuple[list[str], str]], suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, outside = Path(folder) / "set", Path(folder) / "outside"
        write_picture(outside / "0.png", 0)
        root.mkdir()
        for seed, (names, content) in enumerate([(["a", "1.png"], "picture"), (["C", "1.png"], "picture"), *tree]):
            if "link" not in content and content != "pipe":
                put(root, outside, root.joinpath(*names), content, seed)
        try:
            if suffix == ".zip":
                with zipfile.ZipFile(f"{folder}/set.zip", "w") as packed:
                    for path in sorted(root.rglob("*")):
                        packed.write(path, path.relative_to(root))
            else:
                with tarfile.open(f"{folder}/set.tar", "w") as tar:
                    tar.add(root, ".")
        except UnicodeEncodeError:
            return  # a zip has no names that are no Unicode
        (unpacked, why), (plain, error) = outcome(Path(f"{folder}/set{suffix}")), outcome(root)
        if why is not None and why.code in ("archive_name", "archive_duplicate"):
            return
        assert (None if why is None else why.code) == (None if error is None else error.code)
        if unpacked is not None and plain is not None:
            assert unpacked.rows == plain.rows
            assert unpacked.excluded == plain.excluded
