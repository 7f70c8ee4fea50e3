"""`--method scratch` against what fastai and Keras document for small pictures: python -m benchmarks.small_pictures

All 50,000 training pictures of CIFAR-10, the same minutes for each from the shell, one after the other, the test split
as judge. Each peer lives in an environment of its own; its recipe is in peer_small_pictures.py. `--minutes` for fewer.
To reach in 10 minutes on two cores: 0.87, aim 0.90, and 10 points above the better of the peers; in 3 minutes 0.83.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks import measure
from benchmarks.against_fastai import peer as fastai_python

_KERAS = ("keras==3.*", "torch", "torchvision", "pillow")


def keras_python(work: Path) -> Path:
    """Return the Python of an environment with Keras on torch, made on the first call."""
    folder = work / "keras"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--no-config", str(folder)], check=True)
        install = ["uv", "pip", "install", "--quiet", "--no-config", "--python", str(python), *_KERAS]
        subprocess.run(install, check=True)
        measure.ran([python, "-c", "import keras"], {"KERAS_BACKEND": "torch"})
        (folder / "ready").touch()
    return python


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--who", nargs="*", default=["tellapart", "fastai", "keras"])
    wish = parser.parse_args()
    data = measure.unpacked("cifar10", wish.data, wish.work)
    seconds = round(60 * wish.minutes)
    theirs = measure.ROOT / "benchmarks" / "peer_small_pictures.py"
    rows = []
    for seed in range(wish.repeat):
        for who in wish.who:
            folder = measure.fresh(wish.work / "runs" / "small_pictures")
            env: dict[str, str | Path] = {"TELLAPART_CACHE": folder / "cache", "KERAS_BACKEND": "torch"}
            if who == "tellapart":
                command: list[str | Path] = [measure.tellapart(), "train", data, "--method", "scratch", "--seed"]
                command += [str(seed), "--budget", str(seconds), "--out", folder / "run", "--json"]
            else:
                python = (fastai_python if who == "fastai" else keras_python)(wish.work)
                command = [python, theirs, who, data, str(seconds), str(seed)]
            done = measure.ran(command, env)
            test = done.json["test"]
            rows.append(
                {"who": who, "seed": seed, "took_s": done.seconds, "n": test["n"], "accuracy": test["accuracy"]}
            )
    measure.told("small_pictures", rows, minutes=wish.minutes, to_reach={"10": 0.87, "3": 0.83, "above_peers": 0.10})


if __name__ == "__main__":
    main()
