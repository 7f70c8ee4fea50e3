"""Ctrl-C while a network is trained, wherever the run is: soon over, the best so far kept, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.events import ASKED_TO_END
from tellapart.runtime.bundle import Bundle

from ..conftest import SHARED

pytestmark = [
    pytest.mark.promise,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc"),
]

OVER_WITHIN_SECONDS = 10.0
BACKBONE = "mobilenetv2_035"


@dataclasses.dataclass(frozen=True)
class Instant:
    """So many seconds after the run has `told` a decision, an epoch, or that a stage began."""

    during: str
    told: str
    after: float = 0.0


INSTANTS = {
    "finetune": [
        Instant("loading the backbone", "penalty", 0.3),
        Instant("caching activations", "finetune.augment", 0.2),
        Instant("the range test", "finetune.threads"),
        Instant("the fit", "Epoch", 0.1),
        Instant("blending", "finetune.ended"),
        Instant("models of folds", "finetune.fold1.steps"),
        Instant("the export", "finetune.fold3.ended"),
    ],
    "scratch": [
        Instant("measuring steps", "scratch.balance", 0.1),
        Instant("the fit", "Epoch", 0.1),
        Instant("models of folds", "scratch.fold1.steps", 0.1),
        Instant("the export", "scratch.fold3.ended"),
    ],
}
# By hand (`scripts/promises interrupts`) at these, too, and at random ones.
FURTHER = {
    "finetune": [
        Instant("measuring steps", "finetune.balance", 0.1),
        Instant("shipping", "StageBegan ship"),
        Instant("the report", "StageBegan report", 0.1),
    ],
    "scratch": [Instant("choosing statistics", "scratch.ended"), Instant("shipping", "StageBegan ship")],
}
OPTIONS = {
    "finetune": ["--backbone", BACKBONE, "--image-size", "96", "--tune", "last", "--epochs", "8"],
    "scratch": ["--image-size", "48", "--epochs", "8"],
}
CASES = [(method, instant) for method, instants in INSTANTS.items() for instant in instants]
if (more := int(os.environ.get("TELLAPART_TEST_INSTANTS", "0"))) > 0:
    CASES += [(method, instant) for method, instants in FURTHER.items() for instant in instants]
    shares = np.random.default_rng(20).uniform(0.0, 1.0, max(0, more - len(CASES)))
    names = [("finetune", "scratch")[number % 2] for number in range(len(shares))]
    drawn = [Instant("its rung", f"StageBegan {name}", 20.0 * share) for name, share in zip(names, shares, strict=True)]
    CASES += list(zip(names, drawn, strict=True))


@pytest.fixture(scope="module")
def insects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of every third photo of ants and bees."""
    archive, photos = SHARED / "data/hymenoptera.tar", tmp_path_factory.mktemp("insects") / "photos"
    if not archive.is_file():
        pytest.skip(f"{archive} is not here")
    with tarfile.open(archive) as tar:
        for member in sorted((found for found in tar if found.isfile()), key=lambda found: found.name)[::3]:
            place = photos / Path(member.name).parent.name / Path(member.name).name
            place.parent.mkdir(parents=True, exist_ok=True)
            opened = tar.extractfile(member)
            assert opened is not None
            place.write_bytes(opened.read())
    return photos


@pytest.fixture(scope="module")
def warm(insects: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the pictures' facts and the backbone in it, and no activations."""
    cache = tmp_path_factory.mktemp("warm")
    with start("probe", insects, cache / "run", cache / "cache", "--backbone", BACKBONE, "--image-size", "96") as run:
        _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    return cache / "cache"


def start(method: str, data: Path, out: Path, cache: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tellapart", "train", str(data), "--method", method, "--budget", "5m", "--json"]
    weights = os.fspath(SHARED / "weights")
    return subprocess.Popen(
        [*command, "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TELLAPART_CACHE": str(cache), "TELLAPART_WEIGHTS": weights, "HF_HUB_OFFLINE": "1"},
    )


def processor_seconds(process: subprocess.Popen[bytes] | None) -> float:
    """Return what a process, or all that have ended, took of a processor: wall time alone tells of the machine, too."""
    if process is None:
        return os.times().children_user + os.times().children_system
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def events_of(run: Path) -> list[dict[str, Any]]:
    """Return what is told in whole lines by now."""
    try:
        lines = (run / "events.jsonl").read_bytes().split(b"\n")[:-1]
    except OSError:
        return []
    return [json.loads(line) for line in lines]


def name_of(event: dict[str, Any]) -> str:
    if event["event"].startswith("Stage"):
        return f"{event['event']} {event['stage']}"
    return str(event.get("name", event["event"]))


def wait_for(told: str, run: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240.0
    while all(name_of(event) != told for event in events_of(run)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{told} was not told"
        time.sleep(0.003)


@pytest.mark.parametrize(("method", "instant"), CASES, ids=lambda part: getattr(part, "during", part).replace(" ", "_"))
def test_training_that_is_interrupted_ends_soon_and_keeps_the_best_so_far(
    method: str, instant: Instant, insects: Path, warm: Path, tmp_path: Path
) -> None:
    if not (SHARED / "weights" / BACKBONE).is_dir():
        pytest.skip(f"the weights of {BACKBONE} are not at hand")
    kind = (signal.SIGINT, signal.SIGTERM)[CASES.index((method, instant)) % 2]
    out, cache = tmp_path / "run", tmp_path / "cache"
    shutil.copytree(warm, cache)
    already = processor_seconds(None)
    process = start(method, insects, out, cache, *OPTIONS[method])
    try:
        wait_for(instant.told, out, process)
        time.sleep(instant.after)  # the instant is what is tested, not waited for
        worked = processor_seconds(process)
        process.send_signal(kind)
        sent = time.monotonic()
        told, errors = process.communicate(timeout=60)
        took, worked = time.monotonic() - sent, processor_seconds(None) - already - worked
    finally:
        process.kill()
    names = [name_of(event) for event in events_of(out)]
    place = names[: names.index(ASKED_TO_END)][-1] if ASKED_TO_END in names else "the end"
    where = f"{took:.1f} s ({worked:.1f} s of a processor) after {place}: {errors.decode()[-2000:]}"
    print(f"{method}, {instant.during}: {kind.name} {where.split(':')[0]}")
    assert took < OVER_WITHIN_SECONDS, where
    assert b"Traceback" not in errors, where
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no orphan is left in its session
    result = json.loads(told)
    assert process.returncode in ((128 + kind,) if ASKED_TO_END in names else (0, 128 + kind, -kind)), where
    assert Bundle(Path(result["bundle"])).classes == ("ants", "bees")
    assert Path(result["report"]).is_file()
    if ASKED_TO_END in names:
        assert b"a longer --budget" not in errors  # that was not it
    if method == "finetune":
        assert result["method"] in ("finetune", "probe"), where  # the head was there before it was tuned
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".tmp", ".old"))]
