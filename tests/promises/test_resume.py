"""A run that was killed, however often and wherever, and resumed ends as one that was not: weights, numbers, report."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..conftest import SHARED, write_photos
from .kill_child import CALLS

pytestmark = [
    pytest.mark.promise,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files are looked up in /proc"),
]

KILLS = int(os.environ.get("TELLAPART_TEST_KILLS", "10"))
METHODS: dict[str, dict[str, Any]] = {
    "classical": {"method": "classical", "budget": "9h"},
    "probe": {"method": "probe", "backbone": "mobilenetv2_035", "image_size": 64, "budget": "9h"},
    "scratch": {"method": "scratch", "epochs": 12, "budget": "9h", "checkpoint_every": 0.0},
    "soup": {"method": "scratch", "effort": "best", "epochs": 6, "budget": "9h", "checkpoint_every": 0.0},
    "finetune": {
        "method": "finetune",
        "backbone": "mobilenetv2_035",
        "image_size": 64,
        "epochs": 4,
        "budget": "9h",
        "checkpoint_every": 0.0,
    },
}
# What is hit besides, whatever is drawn: writes of the bundle, in its evaluation, of the report, and of checkpoints.
LAST: list[dict[str, Any]] = [
    {"call": "fsync", "number": 1, "stage": "ship", "file": "model.onnx"},
    {"call": "fsync", "number": 1, "stage": "evaluate"},
    {"call": "replace", "number": 1, "stage": "report", "file": "report."},
]
OF_CHECKPOINTS: list[dict[str, Any]] = [
    {"call": "fsync", "number": 3, "file": ".checkpoint"},
    {"call": "replace", "number": 3, "file": ".checkpoint", "late": True, "torn": True},  # the newest, of two
]
# What may differ: how long things took, when, and where.
_TIMES = frozenset(
    {"seconds", "created", "stages", "run", "bundle", "report", "evidence", "data", "title", "machine", "augment_share"}
)


def attempt(plan: dict[str, Any], data: Path, out: Path, options: dict[str, Any], cache: Path) -> dict[str, int] | None:
    """Run once; return how many events were told and calls were made, or None where it was killed."""
    weights = os.fspath(SHARED / "weights")
    command = [sys.executable, "-m", "tests.promises.kill_child", json.dumps(plan), str(data), str(out)]
    child = subprocess.Popen(
        [*command, json.dumps({"threads": 1, **options})],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TELLAPART_CACHE": str(cache), "TELLAPART_WEIGHTS": weights, "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[2],
    )
    try:
        told, errors = child.communicate(timeout=plan.get("after", 300))
    except subprocess.TimeoutExpired:
        child.kill()
        told, errors = child.communicate()
        assert "after" in plan, errors.decode()[-3000:]
    if child.returncode == -9:
        return None
    assert child.returncode == 0, errors.decode()[-3000:]
    counts: dict[str, int] = json.loads(told)
    return counts


def tear_the_newest(out: Path, draw: np.random.Generator) -> bool:
    """Cut the newest checkpoints short, as a loss of power may; return whether there were any."""
    newest = [path for path in out.glob("checkpoints/*.checkpoint") if not path.name.endswith(".before.checkpoint")]
    for path in newest:
        path.write_bytes(path.read_bytes()[: int(draw.integers(0, path.stat().st_size))])
    return bool(newest)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in _TIMES}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return value


def left_by(out: Path) -> dict[str, Any]:
    """Return what a run left, without times."""
    result = json.loads((out / "result.json").read_text())
    report = json.loads((out / "report.json").read_text())
    if report["variations"] is not None:
        del report["variations"]["share"]  # of the time of a step
    torn = re.compile(r"checkpoints? .* (is|are) damaged")  # which is told, of one, or of both where that was hit again
    report["notes"] = [note for note in report["notes"] if not torn.search(str(note))]
    files = ("model.onnx", "reference.safetensors", "selftest.safetensors")
    digests = {name: hashlib.sha256((out / "bundle" / name).read_bytes()).hexdigest() for name in files}
    return {"result": without_times(result), "report": without_times(report), **digests}


def drawn(draw: np.random.Generator, counts: dict[str, int], seconds: float) -> dict[str, Any]:
    """Return when to die: at an event, before or after a call of the system, or at any instant, be it in a write."""
    kind = str(draw.choice(["event", *CALLS, "after"], p=[0.4, 0.15, 0.15, 0.1, 0.2]))
    if kind == "after":
        return {"after": float(draw.uniform(0.0, seconds))}
    if kind != "event" and counts[kind]:
        return {"call": kind, "number": int(draw.integers(1, counts[kind] + 1)), "late": bool(draw.random() < 0.5)}
    return {"event": int(draw.integers(1, counts["event"] + 1))}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("method", METHODS)
def test_case_94_a_run_that_was_killed_ends_as_one_that_was_not(method: str, threads: int, tmp_path: Path) -> None:
    options = {**METHODS[method], "threads": threads}
    if "backbone" in options and not (SHARED / "weights" / options["backbone"]).is_dir():
        pytest.skip(f"shared/weights/{options['backbone']} is missing")
    write_photos(tmp_path / "data" / "photos")
    data = tmp_path / "data" / "photos"
    began = time.monotonic()
    counts = attempt({}, data, tmp_path / "whole" / "run", options, tmp_path / "cache")
    seconds = time.monotonic() - began
    assert counts is not None
    expected = left_by(tmp_path / "whole" / "run")
    draw = np.random.default_rng([threads, *method.encode()])
    sure = deque([*(OF_CHECKPOINTS if "checkpoint_every" in options else []), *LAST])
    kills, wanted = 0, -(-KILLS // 2) + len(sure)
    for number in range(10 * wanted):
        if kills >= wanted:
            break
        out, cache = tmp_path / f"killed{number}" / "run", tmp_path / f"cache{number}"
        for _ in range(wanted - kills):  # one after the other, in the same run
            certain = bool(sure)
            plan = dict(sure.popleft()) if certain else drawn(draw, counts, seconds)
            torn = plan.pop("torn", False) if certain else draw.random() < 0.2
            if attempt(plan, data, out, options, cache) is not None:
                assert not certain, f"{plan} hit nothing"
                break
            kills += 1
            if torn:
                assert tear_the_newest(out, draw) or not certain, "there was nothing to tear"
        assert attempt({}, data, out, options, cache) is not None
        assert left_by(out) == expected
        assert not (out / "checkpoints").exists()
        assert not [path for path in out.rglob("*") if path.name.endswith((".tmp", ".old"))], "litter"
    assert kills == wanted
