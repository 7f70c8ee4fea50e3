"""From a folder of pictures to a bundle, answers and numbers, as from a shell."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

METRICS = {"n", "accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "macro_f1", "log_loss", "ece"}
ENDS = {f"{name}_{end}" for name in ("balanced_accuracy", "macro_f1", "log_loss", "ece") for end in ("low", "high")}


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Return (digest, time of the last change) of every file below a folder."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def here(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with `photos/`."""
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_prints_the_one_object_of_the_contract(tellapart, here: Path) -> None:
    before = state_of(here / "photos")
    ran = tellapart("train", "photos", "--method", "majority", "--budget", "9h", "--json")
    assert ran.code == 0
    result = ran.json
    assert list(result) == [
        *("version", "run", "bundle", "report", "method", "backbone", "classes", "seconds", "counts", "ladder"),
        *("val", "test"),
    ]
    assert result["version"] == 1
    assert result["run"] == str(Path("photos-runs", "1"))
    assert result["classes"] == ["ants", "bees"]
    assert set(result["counts"]) == {"found", "used", "excluded", "train", "val", "test"}
    assert set(result["val"]) == set(result["test"]) == METRICS
    assert Path(result["report"]).is_file()
    assert {path.name for path in Path(result["bundle"]).iterdir()} >= {"card.json", "model.onnx"}
    assert "scan" in ran.err
    assert state_of(here / "photos") == before, "a user's pictures are never changed"


def test_train_tells_a_person_what_to_do_next(tellapart, here: Path) -> None:
    ran = tellapart("train", "photos/", "--method", "majority", "--budget", "9h")
    assert ran.code == 0
    assert "majority" in ran.out
    assert "tellapart check" in ran.out  # nothing was learned that could be used
    assert "report.html" in ran.out


def test_a_finished_run_prints_its_result_again(tellapart, here: Path) -> None:
    asked = ("train", "photos", "--method", "majority", "--out", "run", "--budget", "9h", "--json")
    first = tellapart(*asked)
    again = tellapart(*asked, "--resume")
    assert (first.code, again.code) == (0, 0)
    assert again.json == first.json


def test_answers_are_those_the_pictures_deserve(tellapart, here: Path, tiny_bundle: Path) -> None:
    before = state_of(here / "photos")
    lines = tellapart("predict", tiny_bundle, "photos", "--json").lines
    assert [line["path"] for line in lines] == [str(path) for path in sorted(Path("photos").rglob("*.png"))]
    assert all(line["label"] in line["path"] for line in lines)
    assert list(lines[0]) == ["path", "label", "prob", "top", "novelty", "answer"]
    assert state_of(here / "photos") == before


def test_a_bad_file_is_an_answer_of_its_own(tellapart, here: Path, tiny_bundle: Path) -> None:
    (here / "photos" / "ants" / "broken.png").write_bytes(b"no picture")
    ran = tellapart("predict", tiny_bundle, "photos/ants/0*.png", "photos/ants/broken.png", "--json")
    assert ran.code == 0
    assert set(ran.lines[-1]) == {"path", "error"}
    assert set(ran.lines[-1]["error"]) == {"code", "message"}
    assert tellapart("predict", tiny_bundle, "photos/ants/broken.png").code == 2


def test_a_missing_name_is_an_answer_in_its_place(tellapart, here: Path, tiny_bundle: Path) -> None:
    asked = ("photos/ants/00.pgn", "photos/ants/00.png", "*.gif", "photos/bees/00.png")
    ran = tellapart("predict", tiny_bundle, *asked, "--json")
    assert ran.code == 0
    assert [line["path"] for line in ran.lines] == list(asked)
    assert [line.get("error", {}).get("code") for line in ran.lines] == ["not_found", None, "not_found", None]
    assert "Did you mean '00.png'?" in ran.lines[0]["error"]["message"]
    (here / "broken.png").write_bytes(b"no picture")
    assert tellapart("predict", tiny_bundle, "broken.png", "absent.png").code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text are a matter of Linux")
@pytest.mark.parametrize("flags", [[], ["--json"], ["--csv", "-"]])
def test_a_name_that_is_no_text_is_printed_by_every_encoding(here: Path, tiny_bundle: Path, flags: list[str]) -> None:
    os.rename(here / "photos" / "ants" / "00.png", os.fsencode(here / "photos" / "ants") + b"/\xff\x1b[2J\xc3\xa9.png")
    ran = subprocess.run(
        [sys.executable, "-m", "tellapart", "predict", str(tiny_bundle), "photos/ants", *flags],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.isascii()
    assert b"\x1b" not in ran.stdout
    assert rb"\udcff" in ran.stdout


def test_evaluate_prints_the_metrics_object(tellapart, here: Path, tiny_bundle: Path) -> None:
    ran = tellapart("evaluate", tiny_bundle, "photos", "--json")
    assert ran.code == 0
    assert set(ran.json) == METRICS | ENDS | {"groups", "per_class", "confusion", "answers", "risk_coverage", "slices"}
    assert [(one["answer"], one["n"]) for one in ran.json["answers"]] == [("label", 48), ("unsure", 0), ("unknown", 0)]
    assert ran.json["risk_coverage"][-1]["share"] == 1.0
    assert ran.json["accuracy"] == 1.0
    assert ran.json["confusion"] == [[24, 0], [0, 24]]


def test_evaluate_shows_tables(tellapart, here: Path, tiny_bundle: Path) -> None:
    ran = tellapart("evaluate", tiny_bundle, "photos")
    assert ran.code == 0
    assert "100.0% of 48 pictures" in ran.out
    assert "true class, called:" in ran.out
    assert "unsure" in ran.out


@pytest.mark.parametrize(
    ("arguments", "helps"),
    [
        (["train", "photoz", "--json"], "photoz does not exist"),
        (["evaluate", "{bundle}", "photoz", "--json"], "photoz does not exist"),
        (["predict", "{bundle}", "photoz", "--json"], "photos"),
        (["predict", "photos", "photos", "--json"], "bundle"),
        (["train", "table.csv", "--label-column", "lable", "--json"], "Did you mean 'label'?"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(
    tellapart, here: Path, tiny_bundle: Path, arguments: list[str], helps: str
) -> None:
    (here / "table.csv").write_text("path,label\nphotos/ants/00.png,ants\nphotos/bees/00.png,bees\n")
    ran = tellapart(*(argument.format(bundle=tiny_bundle) for argument in arguments))
    assert ran.code == 2
    error = ran.json["error"]
    assert helps in f"{error['message']} {error['next']}"
    assert sorted(path.name for path in here.iterdir()) == ["photos", "table.csv"], "nothing is left half written"


def test_a_run_of_the_shell_prints_nothing_but_the_object(here: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tellapart", "train", "photos", "--method", "majority", "--budget", "9h", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\n") == 1
    assert json.loads(ran.stdout)["method"] == "majority"
