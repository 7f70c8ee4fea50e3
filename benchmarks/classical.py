"""Features made by hand: python -m benchmarks.classical [--repeat 5]

CIFAR-10 with 5,000 training pictures within three minutes; the demo's digits; and hymenoptera with 30 pictures of a
class and no pretrained weights, against `scratch`, --repeat seeds each. To reach: 0.55; 0.97; better than `scratch`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import measure


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
    wish = parser.parse_args()
    folder = measure.fresh(wish.work / "runs" / "classical")
    cifar = measure.unpacked("cifar10", wish.data, wish.work)
    cifar = measure.subset(cifar, wish.work / "cifar_5000", {"train": 500, "test": 1000})
    rows = [row("cifar10, 5,000", "classical", 0, ran(cifar, folder, "classical", 0, "--budget", "3m"))]
    demo: list[str | Path] = [measure.tellapart(), "demo", "--out", folder / "demo", "--budget", "3m", "--json"]
    measure.ran(demo, {"TELLAPART_CACHE": folder / "cache"})
    digits = ran(folder / "demo" / "digits", folder, "classical", 0, "--budget", "3m")
    rows.append(row("digits", "classical", 0, digits))
    photos = measure.unpacked("hymenoptera", wish.data, wish.work)
    few = measure.subset(photos, wish.work / "hymenoptera_30", {"train": 30, "test": 1000})
    for seed in range(wish.repeat):
        for method in ("classical", "scratch"):
            rows.append(row("hymenoptera, 30 a class", method, seed, ran(few, folder, method, seed, "--budget", "1m")))
    measure.told("classical", rows, repeat=wish.repeat, to_reach=[0.55, 0.97, "better than scratch"])


if __name__ == "__main__":
    main()
