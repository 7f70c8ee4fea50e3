"""What a person decided about pictures is read strictly and taken to heart."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tellapart.data.corrections import read_corrections
from tellapart.errors import DataError
from tests.data.conftest import Scan, write_classes


def table(folder: Path, text: str) -> Path:
    place = folder / "corrections.csv"
    place.write_text(text, encoding="utf-8")
    return place


REFUSED = {
    "path,verdict\na.jpg,keep\n": "line 1, has the column 'verdict'",
    "path,label\na.jpg,b\n": "line 1",
    "": "line 1",
    "path,action\na.jpg,delete\n": "line 2: 'delete' is no action; allowed are keep, relabel, drop",
    "path,action\na.jpg,dorp\n": "Did you mean 'drop'?",
    "path,action,label\na.jpg,relabel,\n": "line 2: a picture to relabel has no label",
    "path,action\n,drop\n": "line 2, names neither a path nor a sha256",
    "sha256,action\nabc,drop\n": "line 2: 'abc' is no sha256",
    "path,action\na.jpg,drop\na.jpg,keep\n": "lines 2 and 3, say two things of one picture",
    "path,action\na.jpg\n": "line 2, has 1 cells where 2 are expected",
    'path,action\n"a.jpg"x,drop\n': "is no CSV",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_clear_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError) as refused:
        read_corrections(table(tmp_path, text))
    assert refused.value.code == "bad_corrections"
    assert REFUSED[text] in refused.value.message
    assert "\n" not in str(refused.value)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_corrections(tmp_path / "none.csv")


def guarded(text: str) -> str:
    """What the page of check writes into a cell."""
    return f"'{text}" if text.lstrip("'")[:1] in ("=", "+", "-", "@", "\t") else text


@example(["'\t"])
@example(["=a", "'=a", "''=a"])
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1), unique=True))
def test_any_path_comes_back_as_it_was_written(paths: list[str]) -> None:
    import tempfile

    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["path", "action"])
    writer.writerows([guarded(path), "drop"] for path in paths)
    with tempfile.TemporaryDirectory() as folder:
        corrections = read_corrections(table(Path(folder), written.getvalue()))
    assert set(corrections.by_path) == set(paths)


@pytest.mark.parametrize("label", ["=cmd()", "+1", "-1", "@home", "'=cmd()", "'tis"])
def test_any_label_comes_back_as_it_was_written(tmp_path: Path, label: str) -> None:
    place = table(tmp_path, f"path,action,label\na.jpg,relabel,{guarded(label)}\n")
    corrections = read_corrections(place)
    assert corrections.by_path["a.jpg"].label == label
    corrections.check_labels([label, "other"], place)


def test_pictures_are_dropped_relabelled_and_kept(tmp_path: Path, scan_of: Scan) -> None:
    data = write_classes(tmp_path / "data", {"a": 6, "b": 6})
    names = sorted(path.name for path in (data / "a").iterdir())
    before = scan_of(data)
    digest = {row.path: row.sha256 for row in before.rows}
    text = (
        "path,sha256,action,label\n"
        f"a/{names[0]},,drop,\n"
        f"a/{names[1]},{digest[f'a/{names[1]}']},relabel,b\n"
        f",{digest[f'a/{names[2]}']},keep,\n"
        f"a/{names[3]},{'0' * 64},drop,\n"
        "a/gone.png,,drop,\n"
    )
    manifest = scan_of(data, corrections=str(table(tmp_path, text)))
    labels = {row.path: row.label for row in manifest.rows}
    assert f"a/{names[0]}" not in labels
    assert [(item.path, item.code) for item in manifest.excluded] == [(f"a/{names[0]}", "dropped")]
    assert labels[f"a/{names[1]}"] == "b"
    assert manifest.kept == (f"a/{names[2]}",)
    assert labels[f"a/{names[3]}"] == "a", "it is another file than the one that was looked at"
    assert "Corrections: 1 picture(s) relabelled, 1 dropped, 1 kept as they are. 2 line(s) met no picture" in str(
        manifest.notes
    )


def test_a_label_that_no_picture_has_is_refused_with_the_nearest(tmp_path: Path, scan_of: Scan) -> None:
    data = write_classes(tmp_path / "data", {"apple": 4, "pear": 4})
    with pytest.raises(DataError, match=r"'aple' is no class of the data\. Did you mean 'apple'"):
        scan_of(data, corrections=str(table(tmp_path, "path,action,label\npear/x.png,relabel,aple\n")))
