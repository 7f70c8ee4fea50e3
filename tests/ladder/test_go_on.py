"""Ctrl-C in the middle of training: what the run then says to type leads to the end that it would have had."""

from __future__ import annotations

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

import tellapart
from tellapart.cli import main
from tellapart.events import Decision, Epoch, Event, Progress, RungEnded
from tellapart.report import verdict
from tellapart.report.commands import next_commands
from tellapart.runtime.bundle import read_card
from tellapart.ship import with_metrics
from tests.conftest import SHARED

OPTIONS: dict[str, Any] = {
    "method": "scratch",
    "epochs": 5,
    "image_size": 8,
    "budget": "90s",
    "checkpoint_every": 0,
    "device": "cpu",
    "robustness": "off",
    "threads": 1,
}


def result_of(run: Path) -> dict[str, Any]:
    """Return what a run gave, without times and places."""
    found = json.loads((run / "result.json").read_text())
    names = ("method", "counts", "val", "test")
    decided = json.loads((run / "report.json").read_text())["decisions"]
    why = [decision["value"] for decision in decided if decision["name"] == "ended_early"]
    return {
        **{name: found[name] for name in names},
        "ladder": [(rung["method"], rung["val"]) for rung in found["ladder"]],
        "why": why,
    }


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_the_command_of_an_interrupted_run_ends_it_as_if_nothing_had_been(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tellapart.train(photos, out=tmp_path / "whole", **OPTIONS)
    assert whole.summary is not None
    assert not whole.summary.interrupted

    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    cut = tellapart.train(photos, out=tmp_path / "my run", watch=stop, **OPTIONS)
    assert cut.exit_code == 130
    assert cut.summary is not None
    assert cut.summary.interrupted
    assert len(cut.summary.epochs) < len(whole.summary.epochs)
    [line] = [told.line for told in next_commands(cut.summary, verdict(cut.summary)) if "--resume" in told.line]
    assert shlex.quote(str(tmp_path / "my run")) in (tmp_path / "my run" / "report.html").read_text().replace(
        "&#39;", "'"
    )
    metrics = read_card(tmp_path / "my run" / "bundle").metrics
    assert metrics["val"] is not None
    flawless = {**metrics["val"], "log_loss": 0.0}  # what it had is but the best until then, however good it looks
    with_metrics(tmp_path / "my run" / "bundle", {**metrics, "val": flawless})
    assert main(shlex.split(line)[1:]) == 0
    assert "--resume" not in capsys.readouterr().out
    assert result_of(tmp_path / "my run") == result_of(tmp_path / "whole")


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_with_another_budget_what_an_interrupted_run_had_is_kept_where_it_is_better(
    photos: Path, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Epoch) and event.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)

    run = tmp_path / "run"
    tellapart.train(photos, out=run, watch=stop, **OPTIONS)
    metrics = read_card(run / "bundle").metrics
    assert metrics["val"] is not None
    card = with_metrics(run / "bundle", {**metrics, "val": {**metrics["val"], "log_loss": 0.0}})
    tellapart.train(photos, out=run, resume=True, **{**OPTIONS, "budget": "80s"})
    assert read_card(run / "bundle").digests == card.digests


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize("at", [pytest.param("finetune.measure", marks=pytest.mark.promise), "finetune"])
def test_the_probe_ships_where_tuning_is_interrupted_before_there_is_anything_better(
    at: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a step that is but timed, and at the second of the fit: no pass is over."""
    weights = SHARED / "weights"
    if not (weights / "mobilenetv2_035").is_dir():
        pytest.skip(f"{weights} holds no mobilenetv2_035")
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights))
    options: dict[str, Any] = {
        **OPTIONS,
        "method": "finetune",
        "backbone": "mobilenetv2_035",
        "image_size": 64,
        "tune": "last",
        "epochs": 1,
        "lr": 1e-4,
        "budget": "10m",
    }
    after: list[Event] = []

    def stop(event: Event) -> None:
        if after or (isinstance(event, Progress) and event.stage == at):
            if not after:
                os.kill(os.getpid(), signal.SIGINT)
            after.append(event)

    cut = tellapart.train(photos, out=tmp_path / "run", watch=stop, **options)
    assert cut.exit_code == 130
    assert cut.result["method"] == "probe"
    assert cut.summary is not None
    assert cut.summary.interrupted
    assert not [event for event in after if isinstance(event, Decision) and event.name.endswith("out_of_time")]
    assert not [event for event in after[1:] if isinstance(event, Progress) and event.stage == at]
    seen: list[Event] = []
    again = tellapart.train(photos, out=tmp_path / "run", resume=True, watch=seen.append, **options)
    assert again.exit_code == 0
    assert "finetune" in [event.method for event in seen if isinstance(event, RungEnded)], "it goes on, and tunes"
