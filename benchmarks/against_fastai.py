"""`tellapart train` against fastai's `fine_tune(3)`, same pictures and weights: python -m benchmarks.against_fastai

fastai is installed in an environment of its own. The two run in turns, so that a slow spell of the machine meets both;
seconds are those of the whole command, from the shell.
To reach: 15 times faster, accuracy not lower.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks import measure


def peer(work: Path) -> Path:
    """Return the Python of an environment with fastai, made on the first call."""
    folder = work / "fastai"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--no-config", str(folder)], check=True)
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--no-config", "--python", str(python), "fastai==2.8.*", "timm"],
            check=True,
        )
        measure.ran([python, "-c", "import fastai.vision.all"])  # compiles and loads it once, which is not its fault
        (folder / "ready").touch()
    return python


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    wish = parser.parse_args()
    data = measure.unpacked("hymenoptera", wish.data, wish.work)
    weights = wish.weights.resolve() / wish.backbone
    python = peer(wish.work)
    rows = []
    for number in range(wish.repeat):
        folder = measure.fresh(wish.work / "runs" / "against_fastai")
        env = {"TELLAPART_CACHE": folder / "cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
        seed = str(number)
        ours: list[str | Path] = [
            measure.tellapart(),
            "train",
            data,
            "--backbone",
            wish.backbone,
            "--effort",
            "quick",
            "--seed",
            seed,
        ]
        cold = measure.ran([*ours, "--out", folder / "cold", "--json"], env)
        theirs = measure.ran([python, measure.ROOT / "benchmarks" / "peer_fastai.py", data, weights, seed])
        warm = measure.ran([*ours, "--out", folder / "warm", "--json"], env)
        rows.append(
            {
                "seed": number,
                "n": theirs.json["n"],
                "cold_s": cold.seconds,
                "warm_s": warm.seconds,
                "fastai_s": theirs.seconds,
                "ratio_cold": theirs.seconds / cold.seconds,
                "ratio_warm": theirs.seconds / warm.seconds,
                "accuracy": warm.json["test"]["accuracy"],
                "fastai_accuracy": theirs.json["accuracy"],
            }
        )
    medians = {name: measure.median([row[name] for row in rows]) for name in rows[0] if name not in ("seed", "n")}
    measure.told("against_fastai", rows, medians=medians, repeat=wish.repeat, to_reach=15)


if __name__ == "__main__":
    main()
