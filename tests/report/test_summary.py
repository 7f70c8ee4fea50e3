from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tellapart import files
from tellapart.report import LadderRow, SplitReport, Summary
from tellapart.report.found import Found, FoundPicture

SummaryMaker = Callable[..., Summary]

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(Path("x")) | st.just(np.float32(1.5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def strict(value: Any) -> Any:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    return json.loads(json.dumps(value, allow_nan=False), parse_constant=refuse)


def test_report_json_holds_the_object_of_the_contract(make_summary: SummaryMaker) -> None:
    said = strict(make_summary().as_json())
    assert said["version"] == 1
    assert (said["run"], said["bundle"], said["report"]) == (
        "photos-runs/1",
        "photos-runs/1/bundle",
        "photos-runs/1/report.html",
    )
    assert (said["method"], said["backbone"], said["classes"]) == ("probe", "mobilenetv2_100", ["ants", "bees"])
    assert said["counts"] == {"found": 400, "used": 398, "excluded": 2, "train": 201, "val": 44, "test": 153}
    majority, probe, scratch = said["ladder"]
    assert "backbone" not in majority
    assert probe["backbone"] == "mobilenetv2_100"
    assert probe["val"] == {"n": 44, "accuracy": 0.977, "log_loss": 0.083}
    assert scratch["val"] is None
    for split in ("val", "test"):
        assert list(said[split])[:4] == ["n", "accuracy", "accuracy_low", "accuracy_high"]
    assert said["created"] == "2026-03-04T05:06:00+00:00"


def test_a_split_that_is_missing_is_null(make_summary: SummaryMaker) -> None:
    summary = make_summary()
    said = make_summary(splits={"val": summary.splits["val"]}).as_json()
    assert said["test"] is None
    assert said["headline_split"] == "val"


def test_report_json_has_everything_but_the_pictures(make_summary: SummaryMaker) -> None:
    summary = make_summary()
    said = strict(summary.as_json())
    text = json.dumps(said)
    assert len(said["mistakes"]) == len(summary.mistakes) > 0
    assert set(said["mistakes"][0]) == {"path", "label", "predicted", "prob", "top", "novelty", "answer"}
    assert "jpeg" not in text
    confusion = summary.splits["test"].confusion
    assert confusion is not None
    assert said["details"]["test"]["confusion"] == confusion.tolist()
    assert said["excluded"][0] == {"path": "bees/empty.jpg", "code": "empty", "note": "The file has no bytes."}
    assert said["decisions"][0]["name"] == "resize"
    assert len(said["epochs"]) == 20


def test_report_json_is_the_same_where_it_is_written_piece_by_piece(make_summary: SummaryMaker, tmp_path: Path) -> None:
    rows = (FoundPicture("bees/a.png", "bees", 1.0, "ants"), FoundPicture("bees/b.png", "bees", 0.5))
    summary = make_summary(findings=(Found("label_suspect", 0.5, "Two are wrong.", "Look.", rows),))
    assert summary.excluded
    files.write_json(tmp_path / "report.json", summary.as_json(streamed=True))
    assert json.loads((tmp_path / "report.json").read_text()) == strict(summary.as_json())


@given(ANYTHING)
def test_report_json_is_strict_whatever_recipe_decisions_and_machine_hold(value: Any) -> None:
    summary = Summary(
        title="t",
        data="d",
        classes=("a",),
        counts={},
        method="probe",
        run="r",
        bundle="b",
        ladder=(LadderRow("probe", accuracy=float("nan"), n=3, log_loss=float("inf")),),
        splits={"test": SplitReport({"n": 3, "accuracy": float("nan")}, confusion=np.array([[3]]))},
        decisions=(("name", value, "why"),),
        recipe={"x": value},
        machine={"y": value},
    )
    said = strict(summary.as_json())
    assert said["test"] == {"n": 3, "accuracy": None}
    assert said["ladder"][0]["val"] == {"n": 3, "accuracy": None, "log_loss": None}
