"""No name of a file or class can harm a terminal, a table or a reader of JSON."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.cli.output import json_line, printable, results_only
from tellapart.cli.table import csv_line

NAMES = st.text(st.characters(min_codepoint=0, max_codepoint=0x10FFFF, categories=None), max_size=40)


@given(NAMES)
def test_what_is_printed_is_one_harmless_line(name: str) -> None:
    text = printable(name)
    assert text.isprintable()
    text.encode("utf-8")


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=40))
def test_ordinary_names_are_printed_as_they_are(name: str) -> None:
    assert printable(name) == name


@given(NAMES)
def test_json_keeps_every_name_exactly(name: str) -> None:
    line = json_line({"path": name, "prob": float("nan")})
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line) == {"path": name, "prob": None}


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_a_record_is_one_line_that_a_csv_reader_splits_as_meant(cells: list[str]) -> None:
    line = csv_line(cells)
    assert line.count("\n") == 1
    [read] = csv.reader(io.StringIO(line))
    assert [cell.removeprefix("'") for cell in read] == [printable(cell).removeprefix("'") for cell in cells] or all(
        cell == "" for cell in cells
    )


@pytest.mark.parametrize("cell", ["=cmd()", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=1,2", '="x"'])
def test_no_cell_is_a_formula(cell: str) -> None:
    [[read]] = csv.reader(io.StringIO(csv_line([cell])))
    assert read.startswith("'")


def test_numbers_stay_numbers() -> None:
    assert csv_line([-0.5, 1, None, "a"]) == "-0.5,1,,a\n"


def test_what_libraries_print_does_not_mix_with_results(capsys: pytest.CaptureFixture[str]) -> None:
    with results_only() as out:
        print("noise")
        out.write("result\n")
    captured = capsys.readouterr()
    assert captured.out == "result\n"
    assert captured.err == "noise\n"
    assert sys.stdout is not sys.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("arguments", [["--version"], ["check", "nowhere", "--json"]])
def test_a_standard_output_that_takes_nothing_is_one_sentence(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "tellapart", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ran.returncode == 2
    assert ran.stderr.startswith("tellapart: ")
    assert len(ran.stderr.splitlines()) == 1
