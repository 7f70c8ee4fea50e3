"""Two processes give what one gives, and none of them goes on without the other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tellapart.errors import RecipeError
from tellapart.learn.torch_world import detect

CHILD = Path(__file__).parent / "world_child.py"
WITHOUT_NORM, WITH_NORM = ("muon", "adam", "micro", "mix", "after"), ("norm", "norm_micro")


def start(*words: str, size: int = 2) -> list[subprocess.Popen[bytes]]:
    """Start the processes as a launcher does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    command = [sys.executable, "-W", "ignore", str(CHILD), *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, **pipes)
        for rank in range(size)
    ]


def ended(processes: list[subprocess.Popen[bytes]]) -> list[Any]:
    """Return what each process printed; none may be left."""
    told = []
    try:
        for process in processes:
            out, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors.decode()
            told.append(json.loads(out.splitlines()[-1]))
    finally:
        end(processes)
    return told


def end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    found, other = ended(start("measured"))
    assert other == {"word": "the end"}
    result: dict[str, Any] = found
    return result


def expect_one(found: dict[str, Any]) -> None:
    """Each step ends with the weights and the loss of one process, to 1e-6 a step."""
    assert len(found["apart"]) > 15
    for step, apart in enumerate(found["apart"], 1):
        assert apart <= 1e-6 * step
    assert found["moved"] > 5e-3
    assert found["same_choices"]


def expect_the_whole_batch(found: dict[str, Any]) -> None:
    """Batch norm saw the batch of one process."""
    assert max(found["apart"]) < 1e-4
    assert found["moved"] > 1e-2


@pytest.mark.parametrize("scenario", WITHOUT_NORM)
def test_two_processes_give_the_weights_of_one_after_each_step(measured: dict[str, Any], scenario: str) -> None:
    """Dropout, stochastic depth, class weights, mixed pictures, clipping, parts of a batch included; no batch norm."""
    expect_one(measured[scenario])


@pytest.mark.parametrize("scenario", WITH_NORM)
def test_batch_norm_sees_the_whole_batch(measured: dict[str, Any], scenario: str) -> None:
    expect_the_whole_batch(measured[scenario])


def test_a_loss_that_is_no_number_in_one_process_takes_all_back(measured: dict[str, Any]) -> None:
    found = measured["nan"]
    [decision] = [told for told in found["told"] if told["name"] == "fit.lr_factor"]
    assert "the loss at step 11 (batch 4 of pass 3) was not a number" in decision["evidence"]
    assert found["finite"]
    assert found["ended"] == "done"


def test_too_little_memory_in_one_process_halves_what_goes_through_in_all(measured: dict[str, Any]) -> None:
    found = measured["memory"]
    [decision] = [told for told in found["told"] if told["name"] == "fit.micro_batch"]
    assert decision["value"]["at"] == 11
    assert found["ended"] == "done"


def test_an_interruption_ends_the_fit_in_all(measured: dict[str, Any]) -> None:
    assert measured["interrupted"] == {"ended": "interrupted", "best_step": 8}


@pytest.mark.parametrize("bad", ["error", "memory"])
def test_a_process_that_fails_ends_all_in_the_same_step(bad: str) -> None:
    """With batch norm, where the others wait for its numbers in the middle of the step."""
    found, other = ended(start("broken", bad))
    assert found["code"] == "rank_lost"
    assert found["steps"] == 11
    assert "process 1 of 2 failed" in found["message"]
    assert "error" in other


def test_a_signal_to_one_process_reaches_rank_0_in_the_same_step() -> None:
    found, _ = ended(start("signalled"))
    assert found == {"ended": "interrupted", "steps": 12}


def test_a_process_that_is_killed_leaves_no_other_waiting() -> None:
    processes = start("measured")
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == b"met\n"
        processes[1].kill()
        out, _ = processes[0].communicate(timeout=300)
        assert processes[0].returncode != 0
        assert b"apart" not in out
    finally:
        end(processes)


def test_processes_that_cannot_find_each_other_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(RecipeError, match="RANK") as caught:
        detect("cpu")
    assert caught.value.code == "world_incomplete"
