"""A run that ends well before its budget says why, in its events and in its report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import tellapart
from tellapart.events import Decision, Event
from tellapart.ladder import plan, rungs
from tellapart.ladder.clock import Clock
from tellapart.ladder.early import told_why_early
from tellapart.ladder.finish import Climbed, left_aside
from tellapart.ladder.plan import Plan, Rung
from tellapart.ladder.run import Run
from tellapart.recipe import Recipe
from tests.conftest import SHARED


def test_a_run_with_nothing_left_to_do_says_so(photos: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    tellapart.train(photos, out=tmp_path / "run", method="majority", budget="5m", watch=seen.append)
    [told] = [event for event in seen if isinstance(event, Decision) and event.name == "ended_early"]
    assert told.value == "nothing left"
    assert "nothing more to be tried" in told.evidence
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "ended_early" in [decision["name"] for decision in report["decisions"]]


@pytest.mark.parametrize(("budget", "left"), [(600.0, 29.0), (20.0, 2.9), (60.0, -1.0)])
def test_a_run_that_uses_its_budget_up_says_nothing(budget: float, left: float, tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path, tmp_path, Recipe(), Clock(budget, spent_already=budget - left))
    unused: Any = None  # not looked at
    assert list(told_why_early(run, unused, unused)) == []


def test_what_is_left_out_for_lack_of_time_is_told_as_the_reason(tmp_path: Path) -> None:
    run = Run(tmp_path, tmp_path, tmp_path, Recipe(), Clock(30.0))
    fitted = SimpleNamespace(method="probe", details={})
    climbed = cast(Climbed, SimpleNamespace(winner=SimpleNamespace(fitted=fitted), ladder=()))
    both = (Rung("probe", True, "at hand"), Rung("finetune", False, "it needs about 45 s", short_of_time=True))
    [told] = [event for event in told_why_early(run, climbed, Plan(both)) if isinstance(event, Decision)]
    assert told.value == "too short"
    assert "too little for finetune" in told.evidence


def test_a_network_that_has_nothing_more_to_learn_is_told_as_the_reason(photos: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    options: dict[str, Any] = {"method": "scratch", "epochs": 2, "budget": "10m", "watch": seen.append}
    tellapart.train(photos, out=tmp_path / "run", **options)
    [told] = [event for event in seen if isinstance(event, Decision) and event.name == "ended_early"]
    assert told.value in ("done", "early_stop")
    assert "scratch" in told.evidence


def test_numbers_of_a_part_of_the_pictures_are_said_to_be_of_a_part() -> None:
    def climbed(used: int) -> Climbed:
        rows = {"train": np.arange(used), "val": np.arange(4), "test": np.arange(0)}
        pictures = {"train": range(9), "val": range(4), "test": range(0)}
        winner = SimpleNamespace(rows=rows, fitted=SimpleNamespace(looked_at=None))
        return cast(Climbed, SimpleNamespace(winner=winner, pictures=pictures))

    assert left_aside(climbed(9)) == ""
    told = left_aside(climbed(6))
    assert told.startswith("Only 6 of 9 in train, 4 of 4 in val were used")
    assert "budget" in told
    assert left_aside(climbed(6), interrupted=True).endswith("the run was asked to end.")


def test_the_probe_stands_where_there_is_no_time_to_tune_and_stands_again_when_the_run_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = SHARED / "weights"
    if not (weights / "mobilenetv2_035").is_dir():
        pytest.skip(f"{weights} holds no mobilenetv2_035")
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
    monkeypatch.setattr(rungs, "_LEAST_TO_TUNE_SECONDS", 1e6)
    seen: list[Event] = []
    options: dict[str, Any] = {"method": "finetune", "backbone": "mobilenetv2_035", "image_size": 64, "budget": "5m"}
    first = tellapart.train(photos, out=tmp_path / "run", watch=seen.append, **options)
    assert first.result["method"] == "probe"
    decisions = {event.name: event for event in seen if isinstance(event, Decision)}
    assert decisions["ended_early"].value == "too short"
    assert "too little for finetune" in decisions["ended_early"].evidence
    monkeypatch.undo()
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
    state = tmp_path / "run" / "run.json"
    state.write_text(state.read_text().replace('"finished": true', '"finished": false'))
    (tmp_path / "run" / "result.json").unlink()
    again = tellapart.train(photos, out=tmp_path / "run", resume=True, **options)
    assert again.result["method"] == "probe"
    assert again.result["test"] == first.result["test"]


@pytest.mark.parametrize(("asked", "value"), [(False, "time"), (True, "interrupted")])
def test_a_fit_that_the_clock_cut_short_is_not_told_as_a_wish_to_end(asked: bool, value: str, tmp_path: Path) -> None:
    clock = Clock(30.0)
    if asked:
        clock.interrupt(8.0)
    run = Run(tmp_path, tmp_path, tmp_path, Recipe(), clock)
    fitted = SimpleNamespace(method="scratch", details={"interrupted": True, "ended": "interrupted"})
    climbed = cast(Climbed, SimpleNamespace(winner=SimpleNamespace(fitted=fitted), ladder=()))
    [told] = [event for event in told_why_early(run, climbed, Plan(())) if isinstance(event, Decision)]
    assert told.value == value
    assert ("asked to end" in told.evidence) is asked


def test_rungs_after_a_fit_that_the_clock_cut_short_are_told_to_have_had_no_time(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rungs.Rungs._classical

    def cut_short(self: rungs.Rungs) -> Any:
        made = yield from real(self)
        details = {**made.fitted.details, "interrupted": True}
        return dataclasses.replace(made, fitted=dataclasses.replace(made.fitted, details=details))

    monkeypatch.setattr(rungs.Rungs, "_classical", cut_short)
    monkeypatch.setattr(plan, "_FEW_FOR_A_NETWORK", 0)
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = tellapart.train(photos, out=tmp_path / "run", budget="5m", robustness="off")
    assert run.summary is not None
    [scratch] = [rung for rung in run.summary.ladder if rung.method == "scratch"]
    assert scratch.skipped == "the budget was used up"
