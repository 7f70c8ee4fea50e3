"""A run whose budget ends its fit, killed and resumed: what the clock had decided is repeated, to the same bits.

Its folder is copied while the run is stopped, as SIGKILL would leave it. The last such spell in a fit lasts until its
time is up, so that the clock ends it whatever the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart.ship.graph import trunk_of

from ..conftest import SHARED
from .test_resume import KILLS, METHODS, attempt, left_by

pytestmark = [pytest.mark.promise, pytest.mark.skipif(os.name != "posix", reason="SIGSTOP is POSIX's")]

# A budget is so many times what a run of a single pass takes, as slow as the machine is now. The last spell in a fit
# takes a share of what is left of it, which is more than the fit may take.
LEAST_SECONDS, TIMES, SPELL = 40.0, 1.8, {"scratch": 0.44, "finetune": 0.5}
COPIES = max(1, KILLS // 10)
WEIGHTS = ("model.onnx", "reference.safetensors", "selftest.safetensors")
WHAT_A_RUN_TELLS = ("events.jsonl", "manifest.jsonl", "recipe.json", "resolved.json", "run.json")


def decisions_of(run: Path) -> list[dict[str, Any]]:
    """Return what the last attempt in a run folder has decided, in order."""
    with contextlib.suppress(OSError):
        events = [json.loads(line) for line in (run / "events.jsonl").read_bytes().split(b"\n")[:-1]]
        first = max((place for place, event in enumerate(events) if event["seq"] == 1), default=0)
        return [event for event in events[first:] if event["event"] in ("Decision", "Epoch")]
    return []


def by_name(run: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for event in decisions_of(run):
        if event["event"] == "Decision":
            found.setdefault(event["name"], []).append(event["value"])
    return found


class Whole:
    """A run that nobody kills, within a budget that ends its fit, and copies of its folder and cache on the way."""

    def __init__(self, method: str, place: Path) -> None:
        self.method, self.place = method, place
        self.data, self.run, self.cache = place / "photos", place / "whole/run", place / "whole/cache"
        self.options = {name: value for name, value in METHODS[method].items() if name != "epochs"}
        self.in_the_fit: list[Path] = []
        self.later: list[Path] = []
        self._write_photos()
        # A first run says what one takes, and leaves a cache: the backbone's export is no part of what is tested here.
        self.warm, began = place / "warm/cache", time.monotonic()
        assert attempt({}, self.data, place / "warm/run", {**METHODS[method], "epochs": 1}, self.warm) is not None
        self.seconds = max(LEAST_SECONDS, TIMES * (time.monotonic() - began))
        self.options["budget"] = f"{self.seconds:.0f}s"
        shutil.copytree(self.warm, self.cache)
        self._draw = np.random.default_rng(list(method.encode()))
        self._lead()

    def _write_photos(self) -> None:
        """Write two classes, every sixth picture with the label of the other: no fit ends since all are told right."""
        tints = ((120, 60, 40), (120, 160, 220))
        for place, label in enumerate(("ants", "bees")):
            (self.data / label).mkdir(parents=True)
            for number in range(100):
                noise = np.random.default_rng([place, number]).integers(-40, 40, (32, 32, 3))
                pixels = tints[place if number % 6 else 1 - place] + noise
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(self.data / label / f"{number}.png")

    def _lead(self) -> None:
        weights = os.fspath(SHARED / "weights")
        command = [sys.executable, "-m", "tests.promises.kill_child", '{"share": 1.0}', str(self.data), str(self.run)]
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, json.dumps({**self.options, "threads": 1})],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "TELLAPART_CACHE": str(self.cache), "TELLAPART_WEIGHTS": weights, "HF_HUB_OFFLINE": "1"},
            cwd=Path(__file__).parents[2],
        )
        try:
            self._wait_for({"Epoch"}, process)
            for _ in range(COPIES):
                self.in_the_fit.append(self._stopped(process, 0.0))
                time.sleep(self._draw.uniform(0.0, 0.2))  # the instant is what is tested
            self.in_the_fit.append(
                self._stopped(process, SPELL[self.method] * (self.seconds - (time.monotonic() - began)))
            )
            self._wait_for({f"{self.method}.time_up", f"{self.method}.ended"}, process)
            for _ in range(COPIES):
                time.sleep(self._draw.uniform(0.0, 0.5))
                if process.poll() is None:
                    self.later.append(self._stopped(process, 0.0))
            _, errors = process.communicate(timeout=self.seconds + 60.0)
        finally:
            process.kill()
        assert process.returncode == 0, errors.decode()[-3000:]

    def _told(self) -> set[str]:
        return {str(event.get("name", event["event"])) for event in decisions_of(self.run)}

    def _wait_for(self, names: set[str], process: subprocess.Popen[bytes]) -> None:
        while not names & self._told():
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)

    def _stopped(self, process: subprocess.Popen[bytes], seconds: float) -> Path:
        """Return the folder of a copy of the run and its cache, made while it stands still for so long."""
        process.send_signal(signal.SIGSTOP)
        try:
            ends, copy = time.monotonic() + seconds, self.place / f"copy{len(self.in_the_fit) + len(self.later)}"
            shutil.copytree(self.place / "whole", copy)
            time.sleep(max(0.0, ends - time.monotonic()))
        finally:
            process.send_signal(signal.SIGCONT)
        return copy

    def resumed(self, copy: Path, **plan: float) -> Path:
        assert attempt(plan, self.data, copy / "run", self.options, copy / "cache") is not None
        assert not (copy / "run/checkpoints").exists()
        return copy / "run"

    def expect_the_same(self, run: Path) -> None:
        """Weights, numbers and what the clock decided are those of the run that was not killed."""
        first, second = left_by(self.run), left_by(run)
        for name in WEIGHTS:
            assert first[name] == second[name], name
        for part in ("method", "ladder", "val", "test", "train", "robustness"):
            assert first["report"][part] == second["report"][part], part
        ours = (self.method, "majority", "novelty", "maps", "robustness")
        clocked = [one for one in first["report"]["decisions"] if str(one["name"]).startswith(ours)]
        assert {"novelty", "maps_in_time", "robustness"} <= {one["name"] for one in clocked}
        assert clocked == [one for one in second["report"]["decisions"] if str(one["name"]).startswith(ours)]


@pytest.fixture(scope="module", params=["scratch", "finetune"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    if "backbone" in METHODS[request.param] and not (SHARED / "weights/mobilenetv2_035").is_dir():
        pytest.skip("the weights of mobilenetv2_035 are not at hand")
    return Whole(request.param, tmp_path_factory.mktemp(request.param))


def test_the_budget_ended_the_fit(whole: Whole) -> None:
    told = by_name(whole.run)
    assert f"{whole.method}.horizon" in told
    assert f"{whole.method}.time_up" in told
    assert whole.in_the_fit
    assert whole.later
    assert json.loads((whole.run / "result.json").read_text())["method"] == whole.method


def test_from_what_it_told_alone_a_run_comes_to_the_same_bits(whole: Whole, tmp_path: Path) -> None:
    """Without its weights and its checkpoints, with another clock, and while others want the processor."""
    again = tmp_path / "copy"
    (again / "run").mkdir(parents=True)
    for name in WHAT_A_RUN_TELLS:
        shutil.copy(whole.run / name, again / "run" / name)
    shutil.copytree(whole.warm, again / "cache")
    told = json.loads((again / "run/run.json").read_text())
    (again / "run/run.json").write_text(json.dumps({**told, "finished": False}))
    whole.expect_the_same(whole.resumed(again, share=0.01))


def test_killed_in_the_fit_and_given_what_the_whole_run_decided_it_comes_to_the_same_bits(whole: Whole) -> None:
    """From its checkpoints, which lie before the kill: what was decided after them is decided again, at its step."""
    for copy in whole.in_the_fit[-COPIES:]:
        assert list((copy / "run/checkpoints").glob("*.checkpoint"))
        again = copy.with_name(f"{copy.name}-led")
        shutil.copytree(copy, again)
        shutil.copy(whole.run / "events.jsonl", again / "run/events.jsonl")
        whole.expect_the_same(whole.resumed(again))


def test_killed_after_the_fit_it_decides_again_as_it_had_and_ends_with_the_same_network(whole: Whole) -> None:
    """What was open when it was killed (how many folds, what the report has time for) may be decided otherwise."""
    for copy in whole.later:
        before = by_name(copy / "run")
        assert before
        run = whole.resumed(copy)
        after = by_name(run)
        for name, values in before.items():
            assert after[name][: len(values)] == values, name
        second_fits = [by_name(one).get(f"{whole.method}.mixed.steps", [0]) for one in (whole.run, run)]
        methods = [json.loads((one / "result.json").read_text())["method"] for one in (whole.run, run)]
        if second_fits == [[0], [0]] and methods == [whole.method, whole.method]:
            models = [(one / "bundle/model.onnx").read_bytes() for one in (whole.run, run)]
            assert trunk_of(models[0]) == trunk_of(models[1])
