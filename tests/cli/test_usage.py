"""A mistyped command is answered with one sentence that helps, and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from tellapart import api
from tellapart.cli import failures
from tellapart.cli.failures import failed
from tellapart.errors import DataError, GateError, InterruptedRunError


@pytest.mark.parametrize(
    ("arguments", "helps"),
    [
        (["trian", "photos"], "Did you mean 'train'?"),
        (["train", "photos", "--bugdet", "5m"], "Did you mean '--budget'?"),
        (["train", "photos", "--no-refrence"], "Did you mean '--no-reference'?"),
        (["train", "photos", "--method", "prob"], "Did you mean 'probe'?"),
        (["train", "photos", "--budget", "soon"], "90s, 5m or 1.5h"),
        (["train", "photos", "--budget", "1s"], "greater than or equal to 5"),
        (["train", "photos", "--background", "1,2"], "--background"),
        (["train", "photos", "--background", "red"], "--background got 'red'; expected three numbers from 0 to 255"),
        (["train", "photos", "--recipe", "absent.json"], "recipe.json of a run folder"),
        (["train"], "DATA"),
        (["predict", "bundle"], "PICTURES"),
        (["predict", "bundle", "a.jpg", "--threads", "0"], "--threads"),
        (["evaluate", "bundle", "photos", "--label-colum", "x"], "Did you mean '--label-column'?"),
        (["--budget=5m", "train", "photos"], "options come after it. Write: tellapart train ... --budget"),
        (["--bugdet", "5m", "train", "photos"], "options come after it. Did you mean '--budget'?"),
        (["train", ""], "empty (after train)"),
        (["predict", "bundle", ""], "empty (after bundle)"),
        (["train", "photos", "--out="], "empty (--out=)"),
        (["--verson"], "Did you mean '--version'?"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence_that_helps(
    tellapart, arguments: list[str], helps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = tellapart(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert helps in ran.err
    assert ran.err.count("\n") == 1
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []

    told = tellapart(*arguments, "--json")
    assert (told.code, told.err) == (2, "")
    assert set(told.json) == {"error"}
    assert set(told.json["error"]) == {"code", "message", "next"}
    assert helps in f"{told.json['error']['message']} {told.json['error']['next']}"


def test_json_before_the_verb_is_answered_in_its_form(tellapart) -> None:
    ran = tellapart("--json", "train", "photos")
    assert ran.code == 2
    assert ran.json["error"] == {
        "code": "option_before_verb",
        "message": "--json stands before the verb train; options come after it.",
        "next": "Write: tellapart train ... --json",
    }


def test_a_json_flag_after_two_dashes_is_a_picture(tellapart, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    ran = tellapart("predict", "absent", "--", "--json")
    assert ran.code == 2
    assert ran.out == ""


def test_no_arguments_show_the_help(tellapart) -> None:
    ran = tellapart()
    assert ran.code == 0
    assert "train" in ran.out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("no_pictures", "photos holds no picture.", "Name another folder."), 2),
        (GateError("worse", "The challenger is worse.", "Keep the champion."), 3),
        (InterruptedRunError(2), 130),
        (InterruptedRunError(15), 143),
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
        (MemoryError(), 2),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error: BaseException, code: int, capsys) -> None:
    assert failed(error, ["train", "photos", "--json"]) == code
    assert set(json.loads(capsys.readouterr().out)) == {"error"}


@pytest.mark.parametrize("verb", ["train", "predict", "evaluate"])
def test_an_interrupt_is_one_error_object(tellapart, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    def interrupted(*arguments: object, **options: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, verb, interrupted)
    ran = tellapart(verb, "photos", *([] if verb == "train" else ["photos"]), "--json")
    assert ran.code == 130
    assert ran.json["error"]["code"] == "interrupted"


@pytest.mark.parametrize("place", ["importlib.import_module", "typer.core.TyperGroup.parse_args"])
def test_an_early_interrupt_is_one_error_object(tellapart, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def interrupted(*arguments: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(place, interrupted)
    ran = tellapart("train", "photos", "--json")
    assert ran.code == 130
    assert ran.json["error"]["code"] == "interrupted"


def test_our_own_fault_leaves_its_trace_in_the_run_folder(tmp_path: Path, capsys) -> None:
    error = ValueError("a \x1b[31mbug\udcff")
    error.add_note(f"{failures.RUN_NOTE}{tmp_path}")
    assert failed(error, ["train", "photos"]) == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "trace.txt") in err
    assert "Traceback" not in err
    assert "\x1b" not in err
    assert "ValueError" in (tmp_path / "trace.txt").read_text()


def test_the_trace_is_shown_with_debug(capsys) -> None:
    try:
        raise DataError("no_pictures", "photos holds no picture.")
    except DataError as error:
        failed(error, ["train", "photos", "--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_without_a_run_folder_the_trace_is_kept_elsewhere(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert failed(RuntimeError("bug"), ["predict"]) == 1
    [trace] = tmp_path.iterdir()
    assert str(trace) in capsys.readouterr().err
