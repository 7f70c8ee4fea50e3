"""Files to labels, against what others offer: python -m benchmarks.predict_peers

500x375 JPEG files, the same pictures and, but for Ultralytics, the same backbone, in turns, each peer in an
environment of its own and as it recommends for this job: a plain torch loop (timm and torchvision, batches of 32);
fastai's `test_dl` and `get_preds`; Ultralytics' classification `predict` with its smallest network (its own weights
are not needed for a time); OpenVINO's Model API `ClassificationModel`, and its throughput mode with a queue of
requests. Each process loads first, answers once unmeasured, then is told when to answer, several times; the best of
its settings counts. To reach: ahead of all.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.predict_speed import pictures
from tellapart.runtime.bundle import Bundle

PEERS = {
    "torch loop": ["fastai==2.8.*", "timm"],
    "fastai": ["fastai==2.8.*", "timm"],
    "ultralytics": ["ultralytics-opencv-headless==8.4.*"],
    "openvino model api": ["openvino==2026.4.*", "openvino-model-api==0.4.*"],
    "openvino queue": ["openvino==2026.4.*", "openvino-model-api==0.4.*"],
}
FOLDERS = {"torch loop": "fastai", "openvino model api": "openvino", "openvino queue": "openvino"}


def environment(name: str, work: Path) -> Path:
    """Return the Python of an environment for a peer, made on the first call."""
    folder = work / "peers" / FOLDERS.get(name, name)
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--no-config", str(folder)], check=True)
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--no-config", "--python", str(python), *PEERS[name]], check=True
        )
        (folder / "ready").touch()
    return python


class Runner:
    """A process that answers all pictures each time that it is told to, and says how many seconds that took."""

    def __init__(self, command: list[str | Path]) -> None:
        self._command = " ".join(map(str, command[1:3]))
        self._process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.loaded = self._told()

    def _told(self) -> Any:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self._command} ended with {self._process.wait()}")

    def go(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        return float(self._told()["seconds"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=5)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--bundle", type=Path, help="one that is there, of that backbone and two classes")
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    wish = parser.parse_args()
    files = pictures(wish)[: wish.pictures]
    folder = wish.work / "runs" / "predict_peers"
    place = wish.bundle or folder / "run" / "bundle"
    if not place.is_dir():
        data = measure.unpacked("hymenoptera", wish.data, wish.work)
        train: list[str | Path] = [measure.tellapart(), "train", data, "--out", measure.fresh(folder) / "run", "--json"]
        env = {"TELLAPART_WEIGHTS": wish.weights.resolve()}
        measure.ran([*train, "--backbone", wish.backbone, "--effort", "quick", "--method", "probe"], env)
    bundle = Bundle(place)
    side = bundle.preprocess.image_size
    exported = measure.fresh(folder.with_name("predict_peers_out"))
    commands: dict[str, tuple[Path, Path, Path]] = {}
    python = measure.tellapart().with_name("python")
    commands["tellapart"] = (python, place, place)
    for precision, to in (("fp32", "openvino"), ("int8", "onnx")):
        out = exported / precision
        try:
            measure.ran(
                [measure.tellapart(), "export", place, "--precision", precision, "--to", to, "--out", out, "--json"]
            )
            commands[f"tellapart {precision}"] = (python, out, out)
        except SystemExit as error:
            print(str(error)[-300:])
    measure.ran([measure.tellapart(), "bench", place, "--json"])
    commands["tellapart after bench"] = (python, place, place)
    for name in wish.peers:
        model = exported / "fp32" if name.startswith("openvino") else wish.weights.resolve() / wish.backbone
        commands[name] = (environment(name, wish.work), model, place)
    script = measure.ROOT / "benchmarks" / "peer_predict.py"
    listing = exported / "files.txt"
    listing.write_text("\n".join(map(str, files)))
    runners: dict[str, Runner] = {}
    for name, (python, model, _) in commands.items():
        try:
            runners[name] = Runner([python, script, name, model, listing, str(side), str(len(bundle.classes))])
        except SystemExit as error:
            print(error)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(wish.repeat):
        for name, runner in runners.items():
            seconds[name].append(runner.go())
    for runner in runners.values():
        runner.close()
    rows = []
    for name, taken in seconds.items():
        ratios = [theirs / ours for theirs, ours in zip(taken, seconds["tellapart"], strict=True)]
        rows.append(
            {
                "what": name,
                "setting": runners[name].loaded.get("setting"),
                "a second": len(files) / measure.median(taken),
                "best": len(files) / min(taken),
                "times slower than tellapart": measure.median(ratios),
                "least": min(ratios),
            }
        )
    measure.told("predict_peers", rows, n=len(files), repeat=wish.repeat, to_reach="ahead of all")


if __name__ == "__main__":
    main()
