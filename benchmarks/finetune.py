"""finetune against the probe, and the speed of its loop: python -m benchmarks.finetune [--only NAME ...]

Accuracies: both rungs on the same split, once with each seed. Speed: steps of one network on batches of one size, in
turns, --repeat times, by a plain torch loop and by fastai as documented (float32, all threads or one), by ours through
the whole network, and by ours above the cut; the fastest of several counts, for other programs only slow a step down.
fastai and Ultralytics, whose own network is logged beside, are installed in environments of their own.
To reach: finetune 3 points above the probe on 2,000 pictures of CIFAR-10, 0.90 on clothing; 1.5 times the better of the
plain loop and fastai, 8 times that above the cut.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import measure

BATCH, ROUNDS = 32, 6
VIEWS, PASSES = 2, 15


def pictures(name: str, wish: Any) -> Path:
    """Return a set: CIFAR-10 with 2,000 pictures to learn from and 2,000 to test on, or clothing."""
    if name == "clothing":
        return measure.unpacked("clothing_small", wish.data, wish.work)
    whole = measure.unpacked("cifar10", wish.data, wish.work)
    return measure.subset(whole, wish.work / "cifar_2000", {"train": 200, "test": 200})


def accuracies(name: str, seed: int, wish: Any) -> dict[str, Any]:
    """Return the test accuracy of the probe and of its backbone tuned, and what they took."""
    folder = measure.fresh(wish.work / "runs" / f"finetune_{name}_{seed}")
    env = {"TELLAPART_CACHE": folder / "cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
    row: dict[str, Any] = {"set": name, "seed": seed}
    for method in ("probe", "finetune"):
        command: list[str | Path] = [measure.tellapart(), "train", pictures(name, wish), "--method", method]
        command += ["--backbone", wish.backbone] if name == "cifar" else []  # for clothing, the one that `train` takes
        command += ["--budget", wish.budget, "--seed", str(seed)]
        done = measure.ran([*command, "--out", folder / method, "--json"], env)
        row |= {f"{method}_s": done.seconds, method: done.json["test"]["accuracy"], "n": done.json["test"]["n"]}
    return {**row, "points": 100 * (row["finetune"] - row["probe"])}


def plain(weights: Path) -> float:
    """Return the pictures a second of a plain torch loop as documented, float32; the better of one thread and all."""
    import torch

    from tellapart.learn.torch_export import import_timm

    model = import_timm().create_model(f"local-dir:{weights}", pretrained=True, num_classes=10).train()
    pixels, targets = torch.rand(BATCH, 3, 224, 224), torch.arange(BATCH) % 10
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(model(pixels), targets).backward()  # type: ignore[no-untyped-call]
        sgd.step()

    return max(_fastest(step, count) for count in {1, torch.get_num_threads()})


def ours(weights: Path, cut: str) -> dict[str, float]:
    """Return pictures a second: through the whole network, above the cut, and below it, which fills the cache."""
    import torch

    from tellapart.images import map_ordered
    from tellapart.learn.memory import keep_large_blocks
    from tellapart.learn.torch_export import load_trunk
    from tellapart.learn.torch_shards import Shards
    from tellapart.learn.torch_stages import Below, exported_below
    from tellapart.learn.torch_step import Choices, one_step
    from tellapart.learn.torch_tuned import Tuned, optimizer_for
    from tellapart.runtime.session import Session

    keep_large_blocks()
    threads = torch.get_num_threads()
    trunk, targets = load_trunk(weights, 224), torch.arange(BATCH) % 10
    image = torch.randint(0, 256, (BATCH, 224, 224, 3), dtype=torch.uint8)
    with torch.inference_mode():
        activations = Below(trunk, cut)(image)
        width = trunk(image[:1])[0].shape[1]
    activations = activations.clone().contiguous(memory_format=torch.channels_last)

    def step(at: str | None, inputs: Any, micro_batch: int, shards: int) -> Callable[[], object]:
        network = Tuned(trunk, at, torch.nn.Linear(width, 10), "train").to(memory_format=torch.channels_last)
        parts, optimizer = Shards(network, shards), optimizer_for(network, 1e-4)
        choices = Choices(seed=0, batch_size=BATCH, micro_batch=micro_batch, shards=shards)
        return lambda: one_step(parts, optimizer, inputs, targets, 1.0, 0, choices)

    session = Session(exported_below(trunk, cut, 224))

    def filled() -> None:
        for _ in map_ordered(lambda one: session.run(one[None], ["activations"]), image.numpy(), threads):
            pass

    shards = sorted({1, min(threads, BATCH // 16)})
    return {
        "ours": max(_fastest(step(None, image, 16, count)) for count in shards),
        "above_the_cut": max(_fastest(step(cut, activations, BATCH, count)) for count in shards),
        "below_the_cut": _fastest(filled),
    }


def _fastest(step: Callable[[], object], threads: int = 1) -> float:
    """Return the pictures a second of the fastest of several steps."""
    import torch

    torch.set_num_threads(threads)
    step()
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        step()
        took.append(time.perf_counter() - began)
    return BATCH / min(took)


def speeds(wish: Any) -> dict[str, float]:
    """Return the pictures a second of each, one after the other, each in a process of its own; and our ratios.

    `filling` counts what fills the cache too: two views of a picture, then fifteen passes above the cut, against as
    many passes through the whole network.
    """
    weights = wish.weights.resolve() / wish.backbone

    def alone(function: Callable[..., Any], *asked: object) -> Any:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            return pool.submit(function, *asked).result()

    found = {"plain": alone(plain, weights), **{name: peers(name, wish) for name in ("fastai", "ultralytics")}}
    found |= alone(ours, weights, wish.cut)
    whole, top, below = found["ours"], found["above_the_cut"], found["below_the_cut"]
    filling = (PASSES / whole) / (VIEWS / below + PASSES / top)
    return {**found, "ratio": whole / max(found["plain"], found["fastai"]), "cached": top / whole, "filling": filling}


def peers(name: str, wish: Any) -> float:
    """Return the pictures a second of a peer, measured in an environment of its own, made on the first call."""
    folder = wish.work / name
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        packages = ["fastai==2.8.*", "timm"] if name == "fastai" else ["ultralytics"]
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--no-config", str(folder)], check=True)
        install = ["uv", "pip", "install", "--quiet", "--no-config", "--python", str(python), *packages]
        subprocess.run(install, check=True)
        (folder / "ready").touch()
    script = measure.ROOT / "benchmarks" / "peer_finetune.py"
    done = measure.ran([python, script, name, wish.weights.resolve() / wish.backbone, str(BATCH), str(ROUNDS)])
    return float(done.json["pictures_a_second"])


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--cut", default="blocks.6", help="the unit above which is trained, for speed")
    parser.add_argument("--only", nargs="*", default=["cifar", "clothing", "speed"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    wish = parser.parse_args()
    rows = [accuracies(name, seed, wish) for name in ("cifar", "clothing") if name in wish.only for seed in wish.seeds]
    if "speed" in wish.only:
        rows += [speeds(wish) for _ in range(wish.repeat)]
    measure.told("finetune", rows, to_reach={"points": 3, "clothing": 0.90, "ratio": 1.5, "cached": 8})


if __name__ == "__main__":
    main()
