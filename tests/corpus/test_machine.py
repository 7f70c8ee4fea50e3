"""What machines do: full disks, losses that are no numbers, signals, a run folder wanted twice (cases 91 to 105)."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tellapart
from tellapart import cache, events, files
from tellapart.cli import main
from tellapart.errors import InputError, TellapartError
from tellapart.events import Event, Note, Progress, RungEnded, StageBegan, StageEnded, Steps
from tellapart.ladder import space
from tellapart.ladder.rungs import Made, Rungs
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.predictor import Prediction

from .conftest import Mount, state
from .trees import pets

MB = 1 << 20


def litter(*folders: Path) -> list[str]:
    """Return what a run may never leave behind."""
    names = [name for folder in folders for name in state(folder)]
    return [name for name in names if name.endswith((".tmp", ".old", ".part", "/lock", ".lock"))]


def test_case_91_a_rung_that_diverges_leaves_the_run_its_others(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(rungs: Rungs) -> Steps[Made]:
        yield Progress("scratch", 1, 9, "steps")
        raise TellapartError("diverged", "The loss was not finite 3 times over.", "Report this as a bug.")

    monkeypatch.setattr(Rungs, "_scratch", diverging)
    seen: list[Event] = []
    run = tellapart.train(photos, out=tmp_path / "run", method="scratch", budget="60s", watch=seen.append)
    assert run.result["method"] == "majority"
    [row] = [event for event in seen if isinstance(event, RungEnded) and event.method == "scratch"]
    assert row.skipped == "The loss was not finite 3 times over."
    assert any(isinstance(event, Note) and "scratch gave no model" in event.text for event in seen)
    assert "scratch gave no model" in run.report.read_text()
    Bundle(run.bundle)


def test_case_92_a_rung_that_calls_all_pictures_one_class_is_told(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dull(rungs: Rungs) -> Steps[Made]:
        made = yield from rungs._majority(look=True)
        return dataclasses.replace(made, fitted=dataclasses.replace(made.fitted, method="scratch"))

    monkeypatch.setattr(Rungs, "_scratch", dull)
    run = tellapart.train(photos, out=tmp_path / "run", method="scratch", budget="60s")
    assert "scratch calls every validation picture" in run.report.read_text()
    assert run.result["method"] == "majority"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_case_96_a_rung_that_needs_too_much_memory_leaves_the_run_its_others(
    error: Exception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(rungs: Rungs) -> Steps[Made]:
        yield Progress("scratch", 1, 9, "steps")
        raise error

    monkeypatch.setattr(Rungs, "_scratch", greedy)
    run = tellapart.train(photos, out=tmp_path / "run", method="scratch", budget="60s")
    assert run.result["method"] == "majority"
    [row] = [row for row in run.result["ladder"] if row["method"] == "scratch"] or [None]
    assert "scratch needed more memory than this machine" in run.report.read_text()
    assert row is None or "val" not in row or row["val"] is None
    Bundle(run.bundle)


def test_case_96_a_command_that_needs_too_much_memory_says_so(tiny_bundle: Path, photos: Path) -> None:
    """The limit is on address space, as `ulimit -v` sets it; what the interpreter holds by then counts."""
    code = (
        "import resource, sys; from tellapart.cli import main; import tellapart.runtime.predictor as predictor\n"
        "def greedy(self, sources):\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31)); yield bytearray(1 << 32)\n"
        "predictor.Predictor.predict = greedy; sys.exit(main(sys.argv[1:]))"
    )
    words = ["predict", str(tiny_bundle), str(photos), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, timeout=60)
    assert done.returncode == 2, done.stderr
    told = json.loads(done.stdout)["error"]
    assert told["code"] == "out_of_memory"
    assert "bytes are free" in told["message"]
    assert b"Traceback" not in done.stderr


def test_case_97_workers_that_die_are_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    """The first processes that decode for the scan are killed, once each; a picture that kills its own twice is out."""
    folder = pets(tmp_path / "set", each=60)
    killed: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "scan" and len(killed) < 2:
            for child in children(os.getpid()):
                if b"guard_child" in Path(f"/proc/{child}/cmdline").read_bytes() and len(killed) < 2:
                    os.kill(child, signal.SIGKILL)
                    killed.append(child)

    run = tellapart.train(folder, out=tmp_path / "run", method="majority", budget="60s", watch=kill)
    counts = run.result["counts"]
    assert killed
    assert counts["found"] == counts["used"] + counts["excluded"] == 120
    assert counts["excluded"] == 0


def children(parent: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(place.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(place.parent.name))
    return found


def test_case_102_a_small_dev_shm_is_no_hindrance(photos: Path, tmp_path: Path, mounted: Mount) -> None:
    mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs", "/dev/shm")
    run = tellapart.train(photos, out=tmp_path / "run", method="classical", budget="60s")
    assert run.result["method"] == "classical"


def test_case_103_the_number_of_threads_changes_no_choice(photos: Path, tmp_path: Path) -> None:
    """Sums run in another order, so that the last bits may differ: probabilities agree within 1e-4."""
    told, manifests = [], []
    for threads in (1, 3):
        out = tmp_path / f"run{threads}"
        run = tellapart.train(photos, out=out, method="classical", budget="60s", threads=threads)
        answers = list(tellapart.predict(run.bundle, photos, threads=threads))
        told.append([answer for answer in answers if isinstance(answer, Prediction)])
        manifests.append((out / "manifest.jsonl").read_bytes())
    assert manifests[0] == manifests[1]
    assert len(told[0]) == len(told[1]) == 48
    for one, other in zip(*told, strict=True):
        assert (one.path, one.label, one.answer) == (other.path, other.label, other.answer)
        assert one.prob == pytest.approx(other.prob, abs=1e-4)


def test_case_101_a_clock_that_is_put_back_changes_neither_order_nor_durations(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = itertools.count(1_700_000_000, -3600)  # each look at the clock is an hour before the last

    class Skewed(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Skewed:
            return cls.fromtimestamp(next(late), tz)

    monkeypatch.setattr(events, "datetime", Skewed)
    monkeypatch.setattr(time, "time", lambda: float(next(late)))
    run = tellapart.train(photos, out=tmp_path / "run", method="majority", budget="60s")
    lines = [json.loads(line) for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(line["time"].endswith("+00:00") for line in lines)
    assert lines[0]["time"] > lines[-1]["time"], "the clock was put back"
    assert all(0 <= line["seconds"] < 60 for line in lines if "seconds" in line)
    assert run.exit_code == 0


@pytest.mark.parametrize("room", [2 * MB, 30 * MB])
def test_case_93_a_disk_that_is_too_full_is_told_before_anything_is_trained(
    room: int, photos: Path, tmp_path: Path, mounted: Mount
) -> None:
    (tmp_path / "disk").mkdir()
    mounted("-t", "tmpfs", "-o", f"size={room}", "tmpfs", tmp_path / "disk")
    with pytest.raises(InputError) as caught:
        tellapart.train(photos, out=tmp_path / "disk/run", method="majority")
    assert caught.value.code == "no_space"
    assert f"{space.needed_bytes(48):,} needed" in caught.value.message
    assert "bytes free" in caught.value.message
    assert list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("stage", ["scan", "majority", "ship", "evaluate", "report"])
def test_case_93_a_disk_that_fills_during_a_run_leaves_the_earlier_bundle_whole(
    stage: str, photos: Path, tmp_path: Path, mounted: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    mounted("-t", "tmpfs", "-o", f"size={70 * MB}", "tmpfs", tmp_path / "disk")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "disk/cache"))
    out = tmp_path / "disk/run"
    first = tellapart.train(photos, out=out, method="majority", budget="60s")
    before = {path.name: path.read_bytes() for path in first.bundle.iterdir()}
    report = first.report.read_bytes()
    shutil.rmtree(tmp_path / "disk/cache")
    (out / "result.json").unlink()  # else the earlier bundle, as good, would stay without a try to write another

    def fill(event: Event) -> None:
        if event == (StageEnded(stage, getattr(event, "seconds", 0.0)) if stage == "scan" else StageBegan(stage)):
            monkeypatch.setattr(space, "_RUN_BYTES", 0)  # what is asked here comes after the question for room
            with (tmp_path / "disk/filler").open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass

    with pytest.raises(InputError) as caught:
        tellapart.train(photos, out=out, method="majority", budget="2m", resume=True, watch=fill)
    assert caught.value.code == "no_space"
    assert Bundle(first.bundle).classes == ("ants", "bees")
    if stage in ("scan", "majority", "ship"):
        assert {path.name: path.read_bytes() for path in first.bundle.iterdir()} == before
    assert first.report.read_bytes() == report
    assert litter(tmp_path / "disk") == []
    (tmp_path / "disk/filler").unlink()
    again = tellapart.train(photos, out=out, method="majority", budget="2m", resume=True)
    assert again.exit_code == 0


def test_case_93_a_limit_for_files_is_a_full_disk(photos: Path, tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    done = subprocess.run(
        [
            *(sys.executable, "-c", f"{limit}import sys; from tellapart.cli import main; sys.exit(main(sys.argv[1:]))"),
            *("train", str(photos), "--out", str(tmp_path / "run"), "--method", "majority", "--json"),
        ],
        capture_output=True,
        env={**os.environ, "TELLAPART_CACHE": str(tmp_path / "cache")},
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "no_space"
    assert not (tmp_path / "run").exists()
    assert litter(tmp_path) == []


def test_case_93_a_full_disk_never_makes_a_cache_forget(tmp_path: Path, mounted: Mount) -> None:
    (tmp_path / "disk").mkdir()
    mounted("-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path / "disk")
    with cache.Space(tmp_path / "disk", "things", "a" * 64) as kept:
        kept.put([("before", b"x")])
        with pytest.raises(OSError) as caught:
            kept.put((f"{number}", bytes(100_000)) for number in range(100))
        assert files.is_full(caught.value)
    (tmp_path / "disk/things").joinpath(f"{'a' * 40}.sqlite").exists()
    with cache.Space(tmp_path / "disk", "things", "a" * 64) as kept:
        assert list(kept.get(["before", "0"])) == [(0, b"x")]


@pytest.fixture
def training(photos: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command that trains a network for a minute, and has begun to."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tellapart", "train", str(photos), "--method", "scratch", "--budget", "60s"),
            *("--epochs", "100000", "--out", str(tmp_path / "run"), "--json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until_told(process: subprocess.Popen[bytes], word: bytes) -> None:
    """Read what a process tells on standard error until a line holds a word."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    raise AssertionError(f"it ended without {word!r}")


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_case_95_and_100_a_second_process_is_refused_and_a_second_signal_ends_the_first_at_once(
    number: signal.Signals, training: subprocess.Popen[bytes], photos: Path, tmp_path: Path
) -> None:
    until_told(training, b"majority")
    second = ["train", str(photos), "--method", "scratch", "--out", str(tmp_path / "run"), "--resume", "--json"]
    done = subprocess.run([sys.executable, "-m", "tellapart", *second], capture_output=True, timeout=60)
    told: dict[str, Any] = json.loads(done.stdout)["error"]
    assert (done.returncode, told["code"]) == (2, "run_in_use")
    assert f"process {training.pid} on" in told["message"]
    training.send_signal(number)
    training.send_signal(number)
    out, err = training.communicate(timeout=10)
    assert training.returncode == 128 + number, err
    assert b"Traceback" not in err
    result = json.loads(out)
    assert "error" not in result or result["error"]["code"] == "interrupted"
    with pytest.raises(ProcessLookupError):
        os.killpg(training.pid, 0)
    assert litter(tmp_path / "run") == []


def test_case_99_a_run_is_not_gone_on_with_on_pictures_that_have_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pets(tmp_path / "set", each=8)
    command = ["train", str(root), "--out", str(tmp_path / "run"), "--method", "majority", "--json", "--budget"]
    assert main([*command, "60s"]) == 0
    first = json.loads(capsys.readouterr().out)
    (root / "cat/000.png").rename(root / "dog/cat.png")
    told = "1 file was added (dog/cat.png), 1 file was removed (cat/000.png)"
    assert main([*command, "60s", "--resume"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    [warning] = result.pop("warnings")
    assert result == first
    assert told in warning
    assert f"warning: {warning}" in captured.err
    before = state(tmp_path / "run")
    assert main([*command, "90s", "--resume"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "other_data"
    assert told in error["message"]
    assert state(tmp_path / "run") == before


def test_a_finished_run_that_was_moved_or_lost_its_bundle_names_what_is_there(tmp_path: Path) -> None:
    root = pets(tmp_path / "set", each=8)
    options: dict[str, Any] = {"method": "majority", "budget": "60s"}
    tellapart.train(root, out=tmp_path / "run", **options)
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    told = tellapart.train(root, out=moved, resume=True, **options).result
    assert [told[name] for name in ("run", "bundle", "report")] == [
        str(place) for place in (moved, moved / "bundle", moved / "report.html")
    ]
    assert "warnings" not in told
    shutil.rmtree(moved / "bundle")
    said: list[Event] = []
    told = tellapart.train(root, out=moved, resume=True, watch=said.append, **options).result
    assert told["bundle"] is None
    assert told["warnings"] == [note.text for note in said if isinstance(note, Note)]
    assert f"The bundle of this run is gone from {moved}" in told["warnings"][0]


def test_case_104_nothing_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    run = tellapart.train(pets(tmp_path / "set", each=8), out=tmp_path / "run", method="majority", budget="60s")
    assert run.exit_code == 0
