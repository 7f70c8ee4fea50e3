"""Ctrl-C, and the system asking to end, in the first second of a command, while it imports: at once, in words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.promise,
    pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX"),
]

INSTANTS = [round(0.03 * (step + 1), 2) for step in range(30)]
COMMANDS = {
    "train": ["train", "{photos}", "--method", "majority", "--out", "{out}", "--json"],
    "predict": ["predict", "{bundle}", "{photos}", "--json"],
    "evaluate": ["evaluate", "{bundle}", "{photos}", "--json"],
}


def ready(process: subprocess.Popen[bytes]) -> float:
    """Return when Python itself is up (its own handler of Ctrl-C stands), from which on the promise holds."""
    status = Path(f"/proc/{process.pid}/status")
    while status.exists():
        caught = next((line for line in status.read_text().splitlines() if line.startswith("SigCgt")), "SigCgt: 0")
        if int(caught.split()[1], 16) & (1 << (signal.SIGTERM - 1)):
            break
    return time.monotonic()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", COMMANDS)
def test_a_command_that_is_interrupted_while_it_starts_says_so(
    verb: str, kind: signal.Signals, photos: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    ended = {"at once": 0, "whole": 0}
    for instant in INSTANTS:
        out = tmp_path / f"run-{instant}"
        arguments = [part.format(photos=photos, bundle=tiny_bundle, out=out) for part in COMMANDS[verb]]
        process = subprocess.Popen(
            [sys.executable, "-m", "tellapart", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        began = ready(process)
        time.sleep(max(0.0, instant + began - time.monotonic()))  # the instant is what is tested, not waited for
        process.send_signal(kind)
        stdout, stderr = process.communicate(timeout=30)
        told = f"{instant}: {process.returncode} {stdout!r} {stderr!r}"
        assert b"Traceback" not in stderr, told
        lines = [json.loads(line) for line in stdout.splitlines()]
        if process.returncode == 128 + kind and "error" in lines[-1]:
            assert lines[-1]["error"]["code"] == "interrupted", told
            assert verb == "predict" or len(lines) == 1, told
            assert not out.exists(), told
            ended["at once"] += 1
        else:  # it had its result, or kept what it had
            assert process.returncode in (0, 128 + kind), told
            assert lines, told
            assert all("error" not in line for line in lines), told
            ended["whole"] += 1
    assert ended["at once"] >= 5, ended
