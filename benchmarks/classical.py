"""Features made by hand: python -m benchmarks.classical [--repeat 5]

CIFAR-10 with 5,000 training pictures within three minutes; the demo's digits; and hymenoptera with 30 pictures of a
class, drawn anew by each of --repeat seeds, and no pretrained weights, against `scratch` on the same pictures. To
reach: 0.55; 0.97; better than `scratch`. The interval is Student's, over the seeds' differences. --part runs one.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks import measure
from tellapart.judge.intervals import student_t


def ran(data: Path, folder: Path, method: str, seed: int, *options: str) -> measure.Ran:
    env: dict[str, str | Path] = {
        "TELLAPART_CACHE": folder / "cache",
        "TELLAPART_WEIGHTS": folder / "none",
        "HF_HUB_OFFLINE": "1",
    }
    out = folder / f"{method}_{data.name}_{seed}"
    command: list[str | Path] = [measure.tellapart(), "train", data, "--out", out, "--method", method]
    return measure.ran([*command, "--seed", str(seed), *options, "--json"], env)


def row(name: str, method: str, seed: int, found: measure.Ran) -> dict[str, Any]:
    test = found.json["test"]
    return {
        "set": name,
        "method": method,
        "seed": seed,
        "n": test["n"],
        "accuracy": test["accuracy"],
        "low": test["accuracy_low"],
        "high": test["accuracy_high"],
        "log_loss": test["log_loss"],
        "seconds": found.seconds,
    }


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=5)
    parser.add_argument("--part", choices=["all", "large", "few"], default="all")
    wish = parser.parse_args()
    folder = measure.fresh(wish.work / "runs" / "classical")
    rows = []
    if wish.part != "few":
        rows += large(wish, folder)
    told: dict[str, Any] = {}
    if wish.part != "large":
        rows += few(wish, folder)
        told = {"classical_less_scratch": difference(rows)}
    measure.told("classical", rows, repeat=wish.repeat, to_reach=[0.55, 0.97, "better than scratch"], **told)


def large(wish: Any, folder: Path) -> list[dict[str, Any]]:
    """CIFAR-10 and the digits."""
    cifar = measure.unpacked("cifar10", wish.data, wish.work)
    cifar = measure.subset(cifar, wish.work / "cifar_5000", {"train": 500, "test": 1000})
    rows = [row("cifar10, 5,000", "classical", 0, ran(cifar, folder, "classical", 0, "--budget", "3m"))]
    demo: list[str | Path] = [measure.tellapart(), "demo", "--out", folder / "demo", "--budget", "3m", "--json"]
    measure.ran(demo, {"TELLAPART_CACHE": folder / "cache"})
    digits = ran(folder / "demo" / "digits", folder, "classical", 0, "--budget", "3m")
    rows.append(row("digits", "classical", 0, digits))
    return rows


def few(wish: Any, folder: Path) -> list[dict[str, Any]]:
    """Thirty pictures a class, other ones for each seed; both methods see the same and have the same minute."""
    photos = measure.unpacked("hymenoptera", wish.data, wish.work)
    rows = []
    for seed in range(wish.repeat):
        data = measure.drawn(photos, wish.work / f"hymenoptera_30_{seed}", 30, seed)
        for method in ("classical", "scratch"):
            rows.append(row("hymenoptera, 30 a class", method, seed, ran(data, folder, method, seed, "--budget", "1m")))
    return rows


def difference(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds of what `classical` is right on more than `scratch`, with its 95 % interval."""
    own = {(item["method"], item["seed"]): item["accuracy"] for item in rows if item["set"].startswith("hymenoptera")}
    seeds = sorted({seed for _, seed in own})
    gains = [own["classical", seed] - own["scratch", seed] for seed in seeds]
    mean = statistics.fmean(gains)
    half = student_t(len(gains) - 1) * statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else float("inf")
    return {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "seeds": len(gains),
        "won": sum(g > 0 for g in gains),
    }


if __name__ == "__main__":
    main()
