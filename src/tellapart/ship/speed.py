"""How fast graphs are on this machine, measured in turns so that what else runs here meets all of them alike."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Progress, Steps
from tellapart.ship import footprint

__all__ = ["BATCH", "Speed", "measure_speed", "peak_bytes"]

BATCH = 8
_ROUNDS = 9
_SECONDS_A_ROUND = 0.15
_FOOTPRINT_SECONDS = 120.0

Run = Callable[[NDArray[np.uint8]], object]


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """Of one graph: milliseconds for one picture on one thread, the best round and the middle one; milliseconds a
    picture in a batch of eight; pictures a second on all threads, one picture a run.
    """

    one_ms: float
    one_median_ms: float
    batch_ms: float
    per_second: float


def measure_speed(runs: Mapping[str, Run], pictures: NDArray[np.uint8], threads: int) -> Steps[dict[str, Speed]]:
    """Time `runs` on prepared pictures uint8 [n >= 1, S, S, 3], in turns, nine rounds of each."""
    batch = np.resize(pictures, (BATCH, *pictures.shape[1:]))
    ones: dict[str, list[float]] = {name: [] for name in runs}
    batches: dict[str, list[float]] = {name: [] for name in runs}
    together: dict[str, list[float]] = {name: [] for name in runs}
    with ThreadPoolExecutor(threads) as pool:
        for done in range(_ROUNDS):
            for name, run in runs.items():
                count = int(np.clip(_SECONDS_A_ROUND / max(_seconds(run, batch[:1]), 1e-6), 1, 200))
                work = [batch[number % BATCH][None] for number in range(max(2 * threads, count))]
                ones[name].append(_seconds(_each, run, work) / len(work))
                batches[name].append(_seconds(run, batch) / BATCH)
                together[name].append(_seconds(_on_threads, pool, run, work) / len(work))
            yield Progress("measure", done + 1, _ROUNDS, "rounds")
    return {
        name: Speed(
            1e3 * min(ones[name]), 1e3 * float(np.median(ones[name])), 1e3 * min(batches[name]), 1 / min(together[name])
        )
        for name in runs
    }


def peak_bytes(model: Sequence[bytes], image_size: int) -> int | None:
    """Return what loading a graph and running one picture adds to a process's memory at its peak, in bytes.

    `model` is an ONNX model, or the `.xml` and the `.bin` of one for OpenVINO.
    Measured in a process of its own; None where the system does not tell.
    """
    with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
        file = Path(folder) / ("model.onnx" if len(model) == 1 else "model.xml")
        for content, suffix in zip(model, (file.suffix, ".bin"), strict=False):
            file.with_suffix(suffix).write_bytes(content)
        command = [sys.executable, "-P", "-m", footprint.__name__, str(file), str(image_size)]
        try:
            told = subprocess.run(command, capture_output=True, timeout=_FOOTPRINT_SECONDS, check=True).stdout
            return int(told)
        except (OSError, ValueError, subprocess.SubprocessError):
            return None


def _seconds(function: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def _each(run: Run, work: Sequence[NDArray[np.uint8]]) -> None:
    for picture in work:
        run(picture)


def _on_threads(pool: ThreadPoolExecutor, run: Run, work: Sequence[NDArray[np.uint8]]) -> None:
    for _ in pool.map(run, work):
        pass
