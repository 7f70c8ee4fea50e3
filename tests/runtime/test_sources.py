"""From names to pictures: the order asked, folders by name, a name that stands for nothing fails in its place."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import InputError, PictureError
from tellapart.images import decode
from tellapart.runtime.predictor import Failure
from tellapart.runtime.sources import expand


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.jpg", "sub/deep/d.jpg", ".hidden/e.jpg", ".f.jpg", "Thumbs.db", "__MACOSX/g"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def _names(tree: Path, *asked: str) -> list[str]:
    """Return what was given, relative to the tree; a failure is `path: code`."""
    return [
        f"{Path(file.path or '').relative_to(tree).as_posix()}: {file.error.code}"
        if isinstance(file, Failure)
        else file.relative_to(tree).as_posix()
        for file in expand(str(tree / name) for name in asked)
    ]


def test_a_folder_is_its_files_at_any_depth_by_name_without_hidden_ones(tree: Path) -> None:
    assert _names(tree, "") == ["a.PNG", "b.jpg", "sub/c.jpg", "sub/deep/d.jpg"]


def test_the_order_asked_is_the_order_given_and_nothing_is_dropped(tree: Path) -> None:
    assert _names(tree, "sub/deep", "b.jpg", "a.PNG", "b.jpg") == ["sub/deep/d.jpg", "b.jpg", "a.PNG", "b.jpg"]


def test_patterns_match_sorted_and_their_folders_are_entered(tree: Path) -> None:
    assert _names(tree, "*.jpg") == ["b.jpg"]
    assert _names(tree, "**/*.jpg") == ["b.jpg", "sub/c.jpg", "sub/deep/d.jpg"]
    assert _names(tree, "s*") == ["sub/c.jpg", "sub/deep/d.jpg"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tree: Path) -> None:
    (tree / "[1].jpg").write_bytes(b"x")
    assert _names(tree, "[1].jpg") == ["[1].jpg"]


@pytest.mark.parametrize(
    ("name", "code"), [("absent.jpg", "not_found"), ("*.gif", "not_found"), ("none/x.jpg", "not_found")]
)
def test_a_name_that_stands_for_nothing_fails_in_its_place_among_others(tree: Path, name: str, code: str) -> None:
    assert _names(tree, "b.jpg", name, "sub") == ["b.jpg", f"{name}: {code}", "sub/c.jpg", "sub/deep/d.jpg"]


def test_where_all_names_stand_for_nothing_the_first_is_refused_before_anything_is_given(tree: Path) -> None:
    (tree / "empty").mkdir()
    for names in (["*.gif", "empty"], ["absent.jpg", "*.gif"]):
        with pytest.raises(InputError) as refused:
            expand([str(tree / name) for name in names])
        assert refused.value.code == "not_found"
    assert _names(tree, "empty", "b.jpg") == ["empty: no_files", "b.jpg"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_fails_in_its_place(tree: Path) -> None:
    (tree / "sub" / "deep").chmod(0)
    try:
        assert _names(tree, "") == ["a.PNG", "b.jpg", "sub/c.jpg", "sub/deep: permission"]
        with pytest.raises(InputError, match="cannot be read"):
            expand([str(tree / "sub" / "deep")])
    finally:
        (tree / "sub" / "deep").chmod(0o755)


def test_a_misspelt_name_is_answered_with_what_lies_beside_it(tree: Path) -> None:
    (tree / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"Did you mean 'holiday\.jpg'"):
        expand([tree / "holyday.jpg"])


def test_an_empty_folder_and_no_names_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no files"):
        expand([str(tmp_path)])
    with pytest.raises(InputError, match="No pictures"):
        expand([])


def test_links_in_a_circle_end(tree: Path) -> None:
    (tree / "sub" / "again").symlink_to(tree, target_is_directory=True)
    (tree / "sub" / "broken.jpg").symlink_to(tree / "nowhere")
    (tree / "sub" / "self.jpg").symlink_to("self.jpg")
    assert _names(tree, "") == [
        *("a.PNG", "b.jpg", "sub/broken.jpg: not_a_file", "sub/c.jpg", "sub/deep/d.jpg", "sub/self.jpg: not_a_file")
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_plain_file_in_a_folder_fails_in_its_place(tree: Path) -> None:
    os.mkfifo(tree / "pipe.jpg")
    assert _names(tree, "") == ["a.PNG", "b.jpg", "pipe.jpg: not_a_file", "sub/c.jpg", "sub/deep/d.jpg"]
    (listed,) = (found.error for found in expand([str(tree)]) if isinstance(found, Failure))
    with pytest.raises(PictureError) as named:
        decode(tree / "pipe.jpg")
    assert (listed.code, str(listed)) == (named.value.code, str(named.value)), "one wording, wherever it is met"


def test_folders_are_listed_only_when_their_turn_comes(tree: Path) -> None:
    found = expand([str(tree)])
    assert next(found) == tree / "a.PNG"
    (tree / "sub" / "late.jpg").write_bytes(b"x")
    assert tree / "sub" / "late.jpg" in list(found)


@given(st.sets(st.lists(st.sampled_from(["a", "b b", "ü", "\n"]), min_size=1, max_size=4).map("/".join), max_size=12))
def test_every_plain_file_of_a_tree_is_given_once(names: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = set()
        for name in sorted(names, key=len, reverse=True):
            path = Path(folder, name)
            if not path.exists() and not any(parent.is_file() for parent in path.parents):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"x")
                made.add(path)
        if made:
            found = list(expand([folder]))
            assert len(found) == len(made)
            assert set(found) == made
