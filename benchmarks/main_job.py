"""The main job from the shell, on real pictures: python -m benchmarks.main_job [--only NAME ...]

Each task is run with empty caches (cold) and, where there is a mark for it, once more (warm). What is to be reached
stands beside.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import measure
from tellapart.data.digits import write_digits


@dataclass(frozen=True)
class Task:
    """One line of the table: pictures, options, and what is to be reached."""

    name: str
    pictures: Callable[[Any], Path]
    options: tuple[str, ...]
    accuracy: float
    cold_seconds: float | None = None
    warm_seconds: float | None = None


def _set(name: str) -> Callable[[Any], Path]:
    return lambda wish: measure.unpacked(name, wish.data, wish.work)


def _cifar(wish: Any) -> Path:
    return measure.subset(
        measure.unpacked("cifar10", wish.data, wish.work), wish.work / "cifar_5000", {"train": 500, "test": 1000}
    )


def _digits(wish: Any) -> Path:
    folder: Path = wish.work / "digits"
    write_digits(folder)
    return folder


def _probe(backbone: str) -> tuple[str, ...]:
    return ("--backbone", backbone, "--effort", "quick")


TASKS = (
    Task("hymenoptera", _set("hymenoptera"), _probe("mobilenetv2_100"), 0.96, 25.0, 8.0),
    Task("clothing", _set("clothing_small"), _probe("mobilenetv2_100"), 0.865, 100.0),
    Task("clothing lite0", _set("clothing_small"), _probe("tf_efficientnet_lite0"), 0.88),
    Task("cifar 5,000", _cifar, ("--method", "scratch", "--budget", "5m"), 0.70, 300.0),
    Task("digits", _digits, ("--effort", "quick"), 0.97),
)


def measured(task: Task, wish: Any, round_number: int) -> dict[str, Any]:
    data = task.pictures(wish)
    folder = measure.fresh(wish.work / "runs" / task.name.replace(" ", "_"))
    env = {"TELLAPART_CACHE": folder / "cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
    seconds = {}
    for state in ("cold",) if task.warm_seconds is None else ("cold", "warm"):
        command: list[str | Path] = [
            measure.tellapart(),
            "train",
            data,
            "--out",
            folder / state,
            "--seed",
            str(wish.seed + round_number),
        ]
        done = measure.ran([*command, *task.options, "--json"], env)
        seconds[state] = done.seconds
    result = done.json
    test = result["test"]
    shutil.rmtree(folder)
    return {
        "task": task.name,
        "method": result["method"],
        "n": test["n"],
        "accuracy": test["accuracy"],
        "to_reach": task.accuracy,
        "cold_s": seconds["cold"],
        "cold_to_reach": task.cold_seconds,
        "warm_s": seconds.get("warm"),
        "warm_to_reach": task.warm_seconds,
        "peak_MB": done.peak_bytes / 1e6,
    }


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=1)
    parser.add_argument("--only", nargs="+", choices=[task.name for task in TASKS], default=None)
    parser.add_argument("--seed", type=int, default=0)
    wish = parser.parse_args()
    tasks = [task for task in TASKS if wish.only is None or task.name in wish.only]
    # What is compared with the floors is a second start: the first one compiles modules, which is Python's own cache.
    measure.ran([sys.executable, "-c", "import tellapart.learn.torch_scratch, timm, onnx"])
    rows = [measured(task, wish, number) for number in range(wish.repeat) for task in tasks]
    measure.told("main_job", rows, repeat=wish.repeat)


if __name__ == "__main__":
    main()
