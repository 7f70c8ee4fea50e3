"""Ctrl-C at any instant: soon over, nothing half there, no trace; with a model in hand, that model is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tellapart.runtime.bundle import Bundle

pytestmark = [
    pytest.mark.promise,
    pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX"),
]

# From the first imports (before them Python itself starts) to the end; early ones lie closer: more happens there.
COUNT = int(os.environ.get("TELLAPART_TEST_INSTANTS", "14"))
INSTANTS = [round(0.5 * 1.3 ** (13 * step / (COUNT - 1)), 3) for step in range(COUNT)]
OVER_WITHIN_SECONDS = 10.0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("instant", INSTANTS)
def test_an_interrupted_run_ends_soon_and_cleanly(instant: float, kind: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tellapart", "demo", "--budget", "25s", "--out", str(tmp_path / "demo"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        time.sleep(instant)  # the instant is what is tested, not waited for
        process.send_signal(kind)
        sent = time.monotonic()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert time.monotonic() - sent < OVER_WITHIN_SECONDS
    assert b"Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no orphan is left in its session
    if not out:  # so early that no handler was there: the system ended it
        assert process.returncode in (-kind, 128 + kind)
        return
    result = json.loads(out)
    if "error" in result:
        assert process.returncode == 128 + kind
        assert not list((tmp_path / "demo").rglob("bundle/card.json"))
    else:
        # The last: the system ends a process that has printed its result and is about to leave.
        assert process.returncode in (0, 128 + kind, -kind)
        assert Bundle(Path(result["bundle"])).classes == tuple("0123456789")
        assert Path(result["report"]).is_file()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".old"))]
