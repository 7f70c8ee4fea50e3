"""A table is read as it is written, whatever program wrote it."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.data import Manifest
from tellapart.data.table_columns import numbers_of, told_apart
from tellapart.data.table_rows import read_table
from tellapart.errors import DataError, MissingExtraError

from .conftest import Scan, codes, labels, write_picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(8):
        write_picture(tmp_path / f"p/{number}.png", number)
    return tmp_path


def rows(separator: str = ",", header: str = "path,label", names: tuple[str, str] = ("cat", "dog")) -> str:
    lines = [header, *(f"p/{number}.png,{names[number % 2]}" for number in range(8))]
    return "\n".join(line.replace(",", separator) for line in lines) + "\n"


EXPECTED = {f"p/{number}.png": ("cat", "dog")[number % 2] for number in range(8)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.csv", rows().encode()),
        ("crlf.csv", rows().replace("\n", "\r\n").encode()),
        ("old_mac.csv", rows().replace("\n", "\r").encode()),
        ("bom.csv", rows().encode("utf-8-sig")),
        ("utf16.csv", rows().encode("utf-16")),
        ("utf16_no_bom.csv", rows().encode("utf-16-le")),
        ("utf16_be.csv", rows().encode("utf-16-be")),
        ("semicolon.csv", rows(";").encode()),
        ("tab.csv", rows("\t").encode()),
        ("tab.tsv", rows("\t").encode()),
        ("comma.tsv", rows().encode()),
        ("names.csv", rows(header=" FileName ,Class").encode()),
        ("blank_lines.csv", rows().replace("\n", "\n\n").encode()),
        ("dotted.csv", rows().replace("p/", "./p//").encode()),
        ("windows.csv", rows().replace("p/", "p\\").encode()),
        ("through.csv", rows().replace("p/", "p/../p/").encode()),
        ("a.jsonl", "\n".join(json.dumps({"path": p, "label": t}) for p, t in EXPECTED.items()).encode()),
    ],
)
def test_tables_of_any_program_give_the_same_rows(folder: Path, scan_of: Scan, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    manifest = scan_of(folder / name)
    assert labels(manifest) == EXPECTED
    assert manifest.root == folder


def test_parquet_is_read_and_needs_the_extra_alone_when_asked(
    folder: Path, scan_of: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({"image": list(EXPECTED), "target": [int(t == "dog") for t in EXPECTED.values()], "x": [0.0] * 8})
    pq.write_table(table, folder / "t.parquet")
    assert labels(scan_of(folder / "t.parquet")) == {p: str(int(t == "dog")) for p, t in EXPECTED.items()}
    (folder / "bad.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match="not a Parquet file"):
        scan_of(folder / "bad.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="train"):
        scan_of(folder / "t.parquet")


def test_labels_are_text_as_written(folder: Path, scan_of: Scan) -> None:
    written = ["01", "1", "None", "NaN", "1.0", "true", "null", "=cmd()"]
    (folder / "t.csv").write_text("path,label\n" + "".join(f"p/{n}.png,{t}\n" for n, t in enumerate(written)))
    assert list(labels(scan_of(folder / "t.csv")).values()) == written
    lines = [f'{{"path": "p/{n}.png", "label": {t}}}\n' for n, t in enumerate(["1", "1.0", "1e2", "true", "NaN"])]
    (folder / "t.jsonl").write_text("".join(lines))
    assert list(labels(scan_of(folder / "t.jsonl")).values()) == ["1", "1.0", "1e2", "true", "NaN"]


def test_latin_1_is_read_with_a_note(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_bytes(rows(names=("café", "thé")).encode("latin-1"))
    manifest = scan_of(folder / "t.csv")
    assert manifest.classes == ("café", "thé")
    assert any("Latin-1" in note for note in manifest.notes)


def test_spaces_around_labels_are_removed_with_a_note(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_text(rows(names=(" cat", "dog ")))
    manifest = scan_of(folder / "t.csv")
    assert manifest.classes == ("cat", "dog")
    assert any("Spaces around 8" in note for note in manifest.notes)


def test_labels_that_differ_in_case_alone_are_told(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_text(rows(names=("cat", "Cat")))
    assert any("upper and lower case" in note for note in scan_of(folder / "t.csv").notes)


def test_columns_can_be_named_and_misnaming_one_gets_a_suggestion(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_text(rows(header="photo,species"))
    assert labels(scan_of(folder / "t.csv", path_column="photo", label_column="species")) == EXPECTED
    with pytest.raises(DataError, match=r"no column 'specie'\. Did you mean 'species'\?"):
        scan_of(folder / "t.csv", path_column="photo", label_column="specie")
    with pytest.raises(DataError, match="no column for the path") as caught:
        scan_of(folder / "t.csv", label_column="species")
    assert "--path-column" in caught.value.next


def test_a_column_that_was_named_for_one_thing_is_not_taken_for_another(folder: Path, scan_of: Scan) -> None:
    lines = ["path,class,label", *(f"p/{n}.png,{'ab'[n % 2]},{n}" for n in range(8))]
    (folder / "t.csv").write_text("\n".join(lines))
    manifest = scan_of(folder / "t.csv", label_column="class", group_column="label")
    assert manifest.classes == ("a", "b")


def test_splits_and_groups_come_from_their_columns(folder: Path, scan_of: Scan) -> None:
    lines = ["path,label,split,group"]
    lines += [
        f"p/{n}.png,{'ab'[n % 2]},{s},{g}"
        for n, (s, g) in enumerate(zip(["Train"] * 4 + ["valid"] * 2 + ["TEST"] * 2, "wwxxyyzz", strict=True))
    ]
    (folder / "t.csv").write_text("\n".join(lines))
    manifest = scan_of(folder / "t.csv")
    assert [row.split for row in manifest.rows] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert [row.group == manifest.rows[n - 1].group for n, row in enumerate(manifest.rows) if n] == [
        True,
        False,
    ] * 3 + [True]
    assert all(
        row.group == min(other.sha256 for other in manifest.rows if other.group == row.group) for row in manifest.rows
    )


def test_rows_without_a_split_count_as_train(folder: Path, scan_of: Scan) -> None:
    lines = ["path,label,split", *(f"p/{n}.png,{'ab'[n % 2]},{'' if n < 6 else 'test'}" for n in range(8))]
    (folder / "t.csv").write_text("\n".join(lines))
    manifest = scan_of(folder / "t.csv", val=0.0)
    assert [row.split for row in manifest.rows] == ["train"] * 6 + ["test"] * 2
    assert any("6 row(s) name no split" in note for note in manifest.notes)


def test_a_picture_outside_of_the_table_s_folder_is_left_out_unopened(folder: Path, scan_of: Scan) -> None:
    inner = folder / "inner"
    for number in range(4):
        write_picture(inner / f"{number}.png", 50 + number)
    secret = write_picture(folder / "secret.png", 99)
    (inner / "link.png").symlink_to(secret)
    (inner / "up").symlink_to(folder)
    bad = {
        "../secret.png": "outside_root",
        str(secret): "outside_root",
        f"file://{secret}": "outside_root",
        "https://example.org/a.png": "outside_root",
        "C:\\a.png": "outside_root",
        "a/../../secret.png": "outside_root",
        "link.png": "symlink_outside",
        "up/secret.png": "symlink_outside",
    }
    good = [f"{n}.png,{'ab'[n % 2]}" for n in range(3)] + [f"{inner / '3.png'},b"]
    (inner / "t.csv").write_text("\n".join(["path,label", *good, *(f"{path},a" for path in bad)]))
    manifest = scan_of(inner / "t.csv")
    assert codes(manifest) == bad
    assert labels(manifest) == {f"{n}.png": "ab"[n % 2] for n in range(4)}


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ("path,label\np/0.png,\np/1.png,b\n\np/2.png,  \n", "blank_label", "2 row(s) without a label: line 2, 5"),
        ("", "empty_table", "t.csv is empty"),
        (" \n\n", "empty_table", "t.csv is empty"),
        ("path,label\n,a\np/1.png,b\n", "blank_path", "line 2"),
        ("path,label\np/0.png,a\np/0.png,b\n", "conflicting_rows", "p/0.png (lines 2 and 3)"),
        ("path,label\np/0.png,a\n./p/0.png,b\n", "conflicting_rows", "1 picture(s) twice"),
        ("path,label,split\np/0.png,a,tset\n", "unknown_split", "Did you mean 'test'?"),
        ("path,label,split\np/0.png,a,holdout\n", "unknown_split", "allowed are train, val and test"),
        ("p/0.png,a\np/1.png,b\n", "no_header", "not columns"),
        ("path,label\n", "empty_table", "no pictures"),
        ("x,y\n1,2\n", "unknown_column", "first line"),
        ("path,label,label\np/0.png,a,b\n", "column_twice", "label"),
        ('path,label\np/0.png,"a\np/1.png,b\n', "damaged_table", "cannot be read"),
        ("path,label\np/0.png,a,b,c\n", "damaged_table", "line 2"),
        ("path,label\n" + "".join(f"gone/{n}.png,a\n" for n in range(25)), "missing_files", "25 file(s)"),
    ],
)
def test_faults_of_a_table_are_refused_with_their_lines(
    folder: Path, scan_of: Scan, content: str, code: str, says: str
) -> None:
    (folder / "t.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        scan_of(folder / "t.csv")
    assert caught.value.code == code
    assert says in caught.value.message
    assert caught.value.next


@pytest.mark.parametrize(
    ("head", "says", "next_step"),
    [
        ("Filename,Clas", "for the label of a picture (a first line with names such as label, class, category", "Clas"),
        ("Filename,Clas", "Did you mean 'class' by 'Clas'?", "--label-column"),
        ("paht,lable", "for the path and the label of a picture", "--path-column and --label-column"),
        ("paht,lable", "Did you mean 'path' by 'paht', and 'label' by 'lable'?", "paht, lable"),
        ("paht,label", "Did you mean 'path' by 'paht'?", "--path-column"),
    ],
)
def test_misspelt_columns_are_answered_with_the_usual_names(
    folder: Path, scan_of: Scan, head: str, says: str, next_step: str
) -> None:
    (folder / "t.csv").write_text(f"{head}\np/0.png,a\np/1.png,b\n")
    with pytest.raises(DataError) as caught:
        scan_of(folder / "t.csv")
    assert caught.value.code == "unknown_column"
    assert says in caught.value.message
    assert next_step in caught.value.next


@pytest.mark.parametrize("name", ["bin.csv", "bin.tsv", "bin.jsonl"])
def test_bytes_that_are_no_text_are_told_as_such_and_not_shown(folder: Path, scan_of: Scan, name: str) -> None:
    for size in (100, 5000):
        (folder / name).write_bytes(random.Random(size).randbytes(size))
        with pytest.raises(DataError, match=f"{name} is not text") as caught:
            scan_of(folder / name)
        assert caught.value.code == "damaged_table"
        assert len(str(caught.value)) < 200


def test_columns_are_listed_as_far_as_a_person_reads(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_text(",".join(f"{n}-{'x' * 500}" for n in range(300)) + "\n1,2\n")
    with pytest.raises(DataError) as caught:
        scan_of(folder / "t.csv")
    assert caught.value.code == "unknown_column"
    assert "0-xxx" in caught.value.next
    assert "288 more" in caught.value.next
    assert len(caught.value.next) < 600


def test_columns_unlike_any_usual_name_bring_no_guess(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_text("x,y\np/0.png,a\n")
    with pytest.raises(DataError) as caught:
        scan_of(folder / "t.csv")
    assert "Did you mean" not in str(caught.value)


def test_a_table_beside_its_pictures_is_told_where_it_belongs(folder: Path, scan_of: Scan) -> None:
    (folder / "tables").mkdir()
    (folder / "tables" / "t.csv").write_text(
        "path,label\n" + "".join(f"../p/{n}.png,{'ab'[n % 2]}\n" for n in range(4))
    )
    with pytest.raises(DataError) as caught:
        scan_of(folder / "tables" / "t.csv")
    assert "4 outside_root" in caught.value.message
    assert "put the table into a folder above the pictures" in caught.value.next


def test_of_missing_files_ten_are_named(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_text("path,label\n" + "".join(f"gone/{n:02d}.png,a\n" for n in range(25)))
    with pytest.raises(DataError, match=r"gone/09\.png and 15 more"):
        scan_of(folder / "t.csv")


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"path": "p/0.png", "label": [1]}', '{"path": null, "label": "a"}'])
def test_lines_that_are_no_json_object_with_a_label_are_refused(folder: Path, scan_of: Scan, line: str) -> None:
    (folder / "t.jsonl").write_text(line + "\n")
    with pytest.raises(DataError):
        scan_of(folder / "t.jsonl")


def test_a_row_that_repeats_another_is_dropped_with_a_note(folder: Path, scan_of: Scan) -> None:
    (folder / "t.csv").write_text(rows() + "p/0.png,cat\n")
    manifest = scan_of(folder / "t.csv")
    assert manifest.found == 8
    assert any("1 row(s) repeat" in note for note in manifest.notes)


def test_what_is_no_file_is_left_out_unopened(folder: Path, scan_of: Scan) -> None:
    os.mkfifo(folder / "p/pipe.png")
    (folder / "t.csv").write_text(rows() + "p/pipe.png,cat\np,dog\n")
    assert codes(scan_of(folder / "t.csv")) == {"p/pipe.png": "not_a_file", "p": "not_a_file"}


def test_a_table_in_the_working_folder_may_be_named_alone(
    folder: Path, scan_of: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "t.csv").write_text(rows())
    monkeypatch.chdir(folder)
    assert labels(scan_of(Path("t.csv"))) == EXPECTED


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda text: bool(text.strip())
)


def both(names: Sequence[str]) -> list[str]:
    if not {"path", "label"} <= set(names):
        raise DataError("unknown_column", "It has not both columns.")
    return ["path", "label"]


@settings(deadline=None)
@given(
    st.lists(st.tuples(cell, cell), min_size=1, max_size=8), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"])
)
def test_any_cell_that_a_writer_quotes_is_read_back(pairs: list[tuple[str, str]], separator: str, ending: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "label"), *pairs])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_bytes(out.getvalue().encode("utf-8-sig"))
        table = read_table(path, both)
    assert list(zip(table.values["path"], table.values["label"], strict=True)) == pairs


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl"]))
def test_no_bytes_in_a_table_raise_anything_but_our_own_refusal(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(content)
        with pytest.raises(DataError):
            Manifest.scan(path, cache=Path(folder))


@pytest.mark.parametrize("name", ["more.csv", "more.jsonl", "more.parquet"])
def test_columns_that_say_more_of_the_pictures_are_kept_with_them(folder: Path, scan_of: Scan, name: str) -> None:
    table = [
        {
            "path": f"p/{n}.png",
            "label": "ab"[n % 2],
            "camera": "xy"[n // 4],
            "grams": n / 2,
            "text": f"n{n}" * 120,
            "one": 1,
        }
        for n in range(8)
    ]
    if name.endswith("csv"):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    elif name.endswith("jsonl"):
        (folder / name).write_text("\n".join(json.dumps({**row, "tags": ["x"]}) for row in table))
    else:
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(
            pa.Table.from_pylist([{**row, "blob": bytes([n])} for n, row in enumerate(table)]), folder / name
        )
    manifest = scan_of(folder / name)
    assert manifest.columns == ("camera", "grams"), "one value, and long texts, tell no kinds apart"
    assert [row.columns for row in manifest.rows] == [("xy"[n // 4], str(n / 2)) for n in range(8)]
    manifest.write(folder / "manifest.jsonl")
    assert Manifest.read(folder / "manifest.jsonl") == manifest


def test_a_column_of_many_words_is_none_of_kinds_and_one_of_many_numbers_is() -> None:
    many = [str(number) for number in range(300)]
    assert told_apart({"id": [f"n{one}" for one in many], "lux": many, "day": [one[0] for one in many]}) == (
        "lux",
        "day",
    )
    assert numbers_of(["", *many]) is not None
    assert numbers_of(["2024", "2025"] * 40) is None


@pytest.mark.parametrize(
    ("row", "code", "said"),
    [
        ({"path": "p/0.png", "label": ["cat"]}, "not_text", "1 row(s) whose label is no single value: line 2 (a list)"),
        ({"path": "p/0.png", "label": {"id": 1}}, "not_text", "label is no single value: line 2 (an object)"),
        ({"path": ["p/0.png"], "label": "cat"}, "not_text", "1 row(s) whose path is no single value: line 2 (a list)"),
        ({"path": "p/0.png", "label": "cat", "group": [1]}, "not_text", "whose group is no single value"),
        ('{"path": "p/0.png", "label": "cat", "label": "dog"}', "key_twice", "line 2, has the key 'label' twice"),
    ],
)
def test_a_row_of_json_that_says_no_single_thing_is_refused(
    folder: Path, scan_of: Scan, row: object, code: str, said: str
) -> None:
    table = folder / "t.jsonl"
    table.write_text('{"path": "p/1.png", "label": 1}\n' + (row if isinstance(row, str) else json.dumps(row)) + "\n")
    with pytest.raises(DataError) as refused:
        scan_of(table)
    assert refused.value.code == code
    assert said in refused.value.message
    assert refused.value.next


def test_a_list_of_labels_in_parquet_is_refused(folder: Path, scan_of: Scan) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"path": ["p/0.png"], "label": [["cat", "dog"]]}), folder / "t.parquet")
    with pytest.raises(DataError, match=r"whose label is no single value: line 1 \(a list\)"):
        scan_of(folder / "t.parquet")
