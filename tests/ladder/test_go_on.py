"""Ctrl-C in the middle of training: what the run then says to type leads to the end that it would have had."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tellapart
from tellapart.cli import main
from tellapart.errors import OutOfTimeError
from tellapart.events import Decision, Epoch, Event, Progress, RangeTest, Recall, RungEnded
from tellapart.ladder import rungs as ladder_rungs
from tellapart.ladder.clock import Clock
from tellapart.ladder.run import Heard
from tellapart.learn.rungs import Pictures
from tellapart.recipe import Recipe
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


@pytest.mark.parametrize("had_begun", [False, True])
def test_a_tuning_that_had_begun_goes_on_however_busy_the_machine_is_by_now(
    had_begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there is time to begin is asked once, and recorded."""
    none = Pictures((), (), (), np.empty(0, np.int64))
    pictures = {"train": none, "val": none, "test": none}
    run = SimpleNamespace(recipe=Recipe.of(None, budget="5m"), clock=Clock(300.0), cache=Path(), world=None)
    seen = SimpleNamespace(graph=SimpleNamespace(folder=Path()), rows=dict.fromkeys(pictures, none.targets))
    rungs = ladder_rungs.Rungs(
        run,  # type: ignore[arg-type]
        SimpleNamespace(classes=("ants", "bees")),  # type: ignore[arg-type]
        pictures,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        None,
        1,
        probes={None: (seen, None)},  # type: ignore[dict-item]
    )

    def tuned(*_: object, **__: object) -> None:
        raise ZeroDivisionError("it tunes")

    monkeypatch.setattr(ladder_rungs, "finetune_and_timm", lambda: tuned)
    monkeypatch.setattr(ladder_rungs.Rungs, "_checkpoints", lambda _: None)
    monkeypatch.setattr(ladder_rungs, "processor_share", lambda: 1e-6)

    def answered(event: Event) -> None:
        if had_begun and isinstance(event, Recall) and event.name == "finetune.in_time":
            event.decided.append(Decision("finetune.in_time", True, "there was time"))

    with pytest.raises(ZeroDivisionError if had_begun else OutOfTimeError):
        deque(map(answered, rungs.climb("finetune")))


def test_each_rung_has_its_own_range_test() -> None:
    heard = Heard()
    first, second = RangeTest((1e-4, 1e-3), (1.0, 0.9), 3e-4), RangeTest((1e-2, 1.0), (2.0, 1.5), 0.12)
    for event in (first, second):
        heard.see(event)
    assert heard.range_test(3e-4) == first
    assert heard.range_test(0.12) == second
    assert heard.range_test(0.1) is heard.range_test(None) is None, "a rate that was given, or is usual, has none"


def test_a_run_that_was_killed_when_only_its_checkpoints_were_left_to_remove_leaves_none(
    photos: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"method": "majority", "budget": "5m", "robustness": "off"}
    first = tellapart.train(photos, out=tmp_path / "run", **options)
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "scratch.checkpoint").write_bytes(b"all of it")
    again = tellapart.train(photos, out=tmp_path / "run", resume=True, **options)
    assert again.result == first.result
    assert not (tmp_path / "run" / "checkpoints").exists()
