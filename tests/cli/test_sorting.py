"""Sorted copies: nothing is overwritten, nothing leaves the folder, the originals stay as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.cli.sorting import Sorter, folder_name
from tellapart.errors import InputError

LABELS = st.one_of(
    st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, categories=None), max_size=120),
    st.sampled_from(
        ["..", ".", "", "a/b", "a\\b", "CON", "nul.txt", "_unsure", "_unknown", "x ", "x.", "~", "-rf", "C:"]
    ),
)


@given(LABELS)
def test_a_folder_name_stays_in_its_folder(label: str) -> None:
    name = folder_name(label)
    assert Path(name).parts == (name,)
    assert not name.startswith((".", "_"))
    assert name == name.strip(" .")
    assert name.split(".")[0].lower() not in {"con", "prn", "aux", "nul"}
    assert len(name) <= 100
    assert name.isprintable()


@given(st.lists(LABELS, unique=True, min_size=2, max_size=6))
def test_two_classes_never_share_a_folder(labels: list[str]) -> None:
    assert len({folder_name(label) for label in labels}) == len(labels)


@pytest.mark.parametrize("label", ["ants", "bees", "t-shirt", "Löwe", "größe 2 (alt)", "猫"])
def test_harmless_names_are_kept(label: str) -> None:
    assert folder_name(label) == label


def test_pictures_of_one_name_are_all_kept(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(folder.encode())
    given = [str(tmp_path / folder / "1.jpg") for folder in ("a", "b", "c")]
    sorter = Sorter(tmp_path / "sorted", given)
    for path in given:
        sorter.copy(path, "ants", "label")
    assert {p.name: p.read_bytes() for p in (tmp_path / "sorted" / "ants").iterdir()} == {
        "1.jpg": b"a",
        "1-1.jpg": b"b",
        "1-2.jpg": b"c",
    }
    assert Path(given[0]).read_bytes() == b"a"


def test_answers_that_are_no_label_have_folders_of_their_own(tmp_path: Path) -> None:
    picture = tmp_path / "1.jpg"
    picture.write_bytes(b"x")
    sorter = Sorter(tmp_path / "sorted", [str(picture)])
    assert sorter.copy(str(picture), None, "unsure").parent.name == "_unsure"
    assert sorter.copy(str(picture), None, "unknown").parent.name == "_unknown"


def test_a_link_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"keep")
    (tmp_path / "sorted" / "ants").mkdir(parents=True)
    (tmp_path / "sorted" / "ants" / "1.jpg").symlink_to(tmp_path / "precious")
    picture = tmp_path / "1.jpg"
    picture.write_bytes(b"x")
    (tmp_path / "apart").mkdir()
    Sorter(tmp_path / "sorted", []).copy(str(picture), "ants", "label")
    assert (tmp_path / "precious").read_bytes() == b"keep"


@pytest.mark.parametrize(
    ("folder", "pictures"),
    [
        ("photos", "photos"),
        ("photos", "photos/a.jpg"),
        (".", "photos"),
        ("photos/sorted", "photos"),
        (".", "photos/*.jpg"),
    ],
)
def test_pictures_and_copies_do_not_lie_in_one_another(
    tmp_path: Path, folder: str, pictures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="lie in one another"):
        Sorter(Path(folder), [pictures])
    assert [p.name for p in tmp_path.rglob("*")] == ["photos", "a.jpg"]
