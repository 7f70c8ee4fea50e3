"""A run that was killed, however often and wherever, and resumed ends as one that was not: weights, numbers, report."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..conftest import SHARED, write_photos

pytestmark = [pytest.mark.promise, pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")]

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
# What may differ: how long things took, when, and where.
_TIMES = frozenset(
    {"seconds", "created", "stages", "run", "bundle", "report", "evidence", "data", "title", "machine", "augment_share"}
)


def attempt(plan: dict[str, Any], data: Path, out: Path, options: dict[str, Any], cache: Path) -> int:
    """Run once; return how many events were told, or -1 where it was killed."""
    weights = os.fspath(SHARED / "weights")
    command = [sys.executable, "-m", "tests.promises.kill_child", json.dumps(plan), str(data), str(out)]
    done = subprocess.run(
        [*command, json.dumps({**options, "threads": 1})],
        capture_output=True,
        env={**os.environ, "TELLAPART_CACHE": str(cache), "TELLAPART_WEIGHTS": weights, "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[2],
        timeout=300,
    )
    if done.returncode == -9:
        return -1
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return int(done.stdout)


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
    files = ("model.onnx", "reference.safetensors", "selftest.safetensors")
    digests = {name: hashlib.sha256((out / "bundle" / name).read_bytes()).hexdigest() for name in files}
    return {"result": without_times(result), "report": without_times(report), **digests}


@pytest.mark.parametrize("method", METHODS)
def test_case_94_a_run_that_was_killed_ends_as_one_that_was_not(method: str, tmp_path: Path) -> None:
    options = METHODS[method]
    if "backbone" in options and not (SHARED / "weights" / options["backbone"]).is_dir():
        pytest.skip(f"shared/weights/{options['backbone']} is missing")
    write_photos(tmp_path / "data" / "photos")
    data = tmp_path / "data" / "photos"
    events = attempt({}, data, tmp_path / "whole" / "run", options, tmp_path / "cache")
    expected = left_by(tmp_path / "whole" / "run")
    draw = np.random.default_rng(list(method.encode()))
    kills = 0
    for number in range(10 * KILLS):
        if kills >= KILLS:
            break
        out, cache = tmp_path / f"killed{number}" / "run", tmp_path / f"cache{number}"
        for _ in range(KILLS - kills):  # one after the other, in the same run
            if draw.random() < 0.6:
                plan: dict[str, Any] = {"event": int(draw.integers(1, events + 1))}
            else:
                call = str(draw.choice(["fsync", "replace"]))
                plan = {"call": call, "number": int(draw.integers(1, 25)), "late": bool(draw.random() < 0.5)}
            if attempt(plan, data, out, options, cache) >= 0:
                break
            kills += 1
        attempt({}, data, out, options, cache)
        assert left_by(out) == expected
        assert not (out / "checkpoints").exists()
        assert not [path for path in out.rglob("*") if path.name.endswith((".tmp", ".old"))], "litter"
    assert kills == KILLS
