"""The command in two processes under torchrun: the result of one, told once, and nobody is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ..conftest import SHARED, write_photos

pytestmark = [pytest.mark.promise, pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")]

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
METHODS = {
    "scratch": ["--method", "scratch", "--epochs", "6"],
    "finetune": ["--method", "finetune", "--backbone", "mobilenetv2_035", "--image-size", "64", "--epochs", "3"],
}


def start(launcher: list[str], data: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", *launcher, "tellapart", "train", str(data), "--out", str(out), "--json"]
    environment = {
        **os.environ,
        "TELLAPART_CACHE": str(out.parent / f"{out.name}-cache"),
        "TELLAPART_WEIGHTS": os.fspath(SHARED / "weights"),
        "HF_HUB_OFFLINE": "1",
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*command, "--threads", "1", *options], stdout=pipe, stderr=pipe, text=True, env=environment
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


def children_of(parent: int) -> set[int]:
    found = set()
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(place.read_text().rpartition(")")[2].split()[1]) == parent:
                found.add(int(place.parent.name))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_give_what_one_gives_and_one_of_them_tells_it(method: str, tmp_path: Path) -> None:
    if method == "finetune" and not (SHARED / "weights/mobilenetv2_035").is_dir():
        pytest.skip("the weights of mobilenetv2_035 are not at hand")
    write_photos(photos := tmp_path / "photos")
    told = []
    for name, launcher in (("one", ["-m"]), ("two", TORCHRUN)):
        run = start(launcher, photos, tmp_path / name, *METHODS[method], "--budget", "9h")
        out, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
        [line] = out.splitlines()
        epochs = [event for event in lines(tmp_path / name) if event["event"] == "Epoch"]
        told.append((json.loads(line), epochs))
        assert [event["seq"] for event in lines(tmp_path / name)] == list(range(1, len(lines(tmp_path / name)) + 1))
    (one, alone), (two, together) = told
    assert [rung["method"] for rung in one["ladder"]] == [rung["method"] for rung in two["ladder"]]
    assert one["method"] == two["method"]
    assert len(alone) == len(together) > 1
    for a, b in zip(alone, together, strict=True):
        assert a["step"] == b["step"]
        assert a["train_loss"] == pytest.approx(b["train_loss"], rel=0.02)
    assert two["val"]["accuracy"] == pytest.approx(one["val"]["accuracy"], abs=1 / one["val"]["n"])


def test_what_is_wrong_is_said_once_and_ends_all(tmp_path: Path) -> None:
    run = start(TORCHRUN, tmp_path / "nowhere", tmp_path / "run")
    out, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    [line] = out.splitlines()
    assert json.loads(line)["error"]["code"] == "no_data"


def test_a_terminated_run_keeps_the_best_so_far_and_leaves_no_process(tmp_path: Path) -> None:
    write_photos(photos := tmp_path / "photos")
    run = start(TORCHRUN, photos, tmp_path / "run", "--method", "scratch", "--epochs", "100000", "--budget", "9h")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and run.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            if any(event["event"] == "Epoch" for event in lines(tmp_path / "run")):
                break
        time.sleep(0.2)
    ranks = children_of(run.pid)
    assert len(ranks) == 2
    run.send_signal(signal.SIGTERM)
    out, errors = run.communicate(timeout=60)
    assert run.returncode != 0
    [line] = out.splitlines()
    assert json.loads(line)["bundle"], errors
    assert (tmp_path / "run/bundle/card.json").is_file()
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
