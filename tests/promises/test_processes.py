"""Two processes under torchrun, the launcher itself: the result of one, told once, and nobody is left behind."""

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

import numpy as np
import pytest
from PIL import Image

from ..conftest import SHARED, write_photos
from ..learn.test_world import CHILD, WITH_NORM, WITHOUT_NORM, expect_one, expect_the_whole_batch

pytestmark = [pytest.mark.promise, pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")]

LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TORCHRUN = [*LAUNCHER, "-m"]
# A signal goes to the launcher, which passes it on, and the run has ten seconds from the step that tells of it.
OVER_WITHIN_SECONDS = 20.0
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


def processes() -> dict[int, tuple[int, int]]:
    """Return the parent and the session of each process."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                found[int(place.parent.name)] = (int(fields[1]), int(fields[3]))
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


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What two processes give, and one, in a fit by the library: after each step how far weights and loss are apart."""
    logs = tmp_path_factory.mktemp("launched")
    command = [sys.executable, "-W", "ignore", *LAUNCHER, "--log-dir", str(logs), "--redirects", "3", str(CHILD)]
    ran = subprocess.run([*command, "measured"], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    lead, other = (next(logs.glob(f"**/{rank}/stdout.log")).read_text().splitlines()[-1] for rank in (0, 1))
    assert json.loads(other) == {"word": "the end"}
    found: dict[str, Any] = json.loads(lead)
    return found


@pytest.mark.parametrize("scenario", WITHOUT_NORM)
def test_what_torchrun_starts_gives_the_weights_and_losses_of_one_after_each_step(
    measured: dict[str, Any], scenario: str
) -> None:
    """Without batch norm, to 1e-6 a step."""
    expect_one(measured[scenario])


@pytest.mark.parametrize("scenario", WITH_NORM)
def test_what_torchrun_starts_has_the_batch_norm_of_the_whole_batch(measured: dict[str, Any], scenario: str) -> None:
    expect_the_whole_batch(measured[scenario])


def write_vit(folder: Path) -> None:
    """Write the weights, random ones, of a transformer of 370,000 parameters: a backbone that has no batch norm."""
    import torch
    from safetensors.torch import save_file

    from tellapart.learn.torch_export import import_timm

    with torch.random.fork_rng():
        torch.manual_seed(3)
        tensors = import_timm().create_model("test_vit", img_size=64).state_dict()
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    about = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear"}
    more = {"classifier": "head", "first_conv": "patch_embed.proj", "num_classes": 1000, "license": "mit"}
    told = {"architecture": "test_vit", "num_classes": 1000, "model_args": {"img_size": 64}}
    (folder / "config.json").write_text(json.dumps({**told, "pretrained_cfg": {**about, **more}}))


def write_close_photos(folder: Path) -> None:
    """Write two classes that lie so close to each other that losses are not zero at once, 60 pictures of each."""
    for label, level in (("ants", 108), ("bees", 128)):
        (folder / label).mkdir(parents=True)
        for number in range(60):
            noise = np.random.default_rng([level, number]).integers(-90, 90, (32, 32, 3))
            Image.fromarray((level + noise).clip(0, 255).astype(np.uint8)).save(folder / label / f"{number:02d}.png")


def test_the_command_tunes_a_network_without_batch_norm_in_two_processes_as_in_one(tmp_path: Path) -> None:
    write_vit(tmp_path / "vit")
    write_close_photos(photos := tmp_path / "photos")
    how = ["--method", "finetune", "--backbone", f"local-dir:{tmp_path / 'vit'}", "--tune", "all", "--lr", "3e-5"]
    told = []
    for name, launcher in (("one", ["-m"]), ("two", TORCHRUN)):
        run = start(launcher, photos, tmp_path / name, *how, "--epochs", "4", "--budget", "9h")
        out, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
        told.append((json.loads(out), [event for event in lines(tmp_path / name) if event["event"] == "Epoch"]))
    (one, alone), (two, together) = told
    assert len(alone) == len(together) > 2
    assert alone[0]["train_loss"] - alone[-1]["train_loss"] > 0.1
    for a, b in zip(alone, together, strict=True):
        assert a["step"] == b["step"]
        for loss in ("train_loss", "val_loss"):
            assert abs(a[loss] - b[loss]) <= 1e-6 * a["step"]
    assert one["method"] == two["method"] == "finetune"
    assert two["val"]["log_loss"] == pytest.approx(one["val"]["log_loss"], abs=1e-4)


def test_what_is_wrong_is_said_once_and_ends_all(tmp_path: Path) -> None:
    run = start(TORCHRUN, tmp_path / "nowhere", tmp_path / "run")
    out, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    [line] = out.splitlines()
    assert json.loads(line)["error"]["code"] == "no_data"


def test_a_terminated_run_keeps_the_best_so_far_and_leaves_no_process(tmp_path: Path) -> None:
    write_close_photos(photos := tmp_path / "photos")
    run = start(TORCHRUN, photos, tmp_path / "run", "--method", "scratch", "--epochs", "100000", "--budget", "9h")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and run.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            if any(event["event"] == "Epoch" for event in lines(tmp_path / "run")):
                break
        time.sleep(0.2)
    ranks = {process for process, (parent, _) in processes().items() if parent == run.pid}
    assert len(ranks) == 2
    run.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    out, errors = run.communicate(timeout=60)
    assert time.monotonic() - sent < OVER_WITHIN_SECONDS, errors
    assert run.returncode != 0
    assert "/src/tellapart/" not in errors.partition("Traceback")[2]  # the launcher itself ends by an exception
    [line] = out.splitlines()
    assert json.loads(line)["bundle"], errors
    assert (tmp_path / "run/bundle/card.json").is_file()
    left = {process: session for process, (_, session) in processes().items() if session in ranks or process in ranks}
    assert not left  # the launcher gives each a session of its own
