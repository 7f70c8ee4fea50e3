"""A budget is wall time of the whole command, from the creation of its process: never later."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.promise


@pytest.mark.parametrize("seconds", [12, 20, 45])
def test_a_run_is_over_when_its_budget_is(seconds: int, tmp_path: Path) -> None:
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "tellapart", "demo", "--budget", str(seconds), "--out", str(tmp_path / "d"), "--json"],
        capture_output=True,
        timeout=300,
    )
    took = time.monotonic() - began
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["bundle"]
    assert took <= seconds
