"""How near `predict` comes to what decode and model allow: python -m benchmarks.predict_speed

500x375 JPEG files to labels, in one process, in turns: decoding alone and the model alone, each at its best number of
threads; the whole path; and a plain torch loop (PIL, torchvision's transforms, timm, batches of 32, no gradients), at
its best number of threads too.
To reach: 90 % of 1/(1/decode + 1/model); 3 times the plain loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import measure
from tellapart.images import map_ordered, prepare
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.predictor import Predictor

SIZE = (500, 375)


def pictures(wish: Any) -> list[Path]:
    """Return JPEG files of 500x375 px, made from photographs."""
    source = measure.unpacked("hymenoptera", wish.data, wish.work)
    folder = wish.work / "photos_500x375"
    if not folder.is_dir():
        folder.mkdir()
        for number, path in enumerate(sorted(source.rglob("*.jpg"))):
            with Image.open(path) as image:
                image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(
                    folder / f"{number:03d}.jpg", quality=90
                )
    return sorted(folder.iterdir())


def rate(work: Callable[[Sequence[Path]], object], files: Sequence[Path]) -> float:
    """Return pictures a second."""
    began = time.perf_counter()
    work(files)
    return len(files) / (time.perf_counter() - began)


def plain_loop(weights: Path, num_classes: int, threads: int) -> Callable[[Sequence[Path]], object]:
    """Return what most people would write: pictures one after the other, batches of 32, `threads` of torch's own."""
    import timm
    import torch
    from torchvision import transforms

    model = timm.create_model(f"local-dir:{weights}", pretrained=True, num_classes=num_classes).eval()
    steps = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ]
    )

    def run(files: Sequence[Path]) -> list[int]:
        labels: list[int] = []
        torch.set_num_threads(threads)
        with torch.no_grad():
            for start in range(0, len(files), 32):
                batch = torch.stack([steps(Image.open(path).convert("RGB")) for path in files[start : start + 32]])
                labels += model(batch).argmax(1).tolist()
        return labels

    return run


def main() -> None:
    parser = measure.options(__doc__)
    parser.set_defaults(repeat=5)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--pictures", type=int, default=192, help="how many; the plain loop gets half of them")
    wish = parser.parse_args()
    files = pictures(wish)[: wish.pictures]
    n, cores = len(files), int(measure.machine()["cores"])
    folder = measure.fresh(wish.work / "runs" / "predict_speed")
    env = {"TELLAPART_CACHE": folder / "cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
    data = measure.unpacked("hymenoptera", wish.data, wish.work)
    train: list[str | Path] = [
        measure.tellapart(),
        "train",
        data,
        "--out",
        folder / "run",
        "--effort",
        "quick",
        "--json",
    ]
    bundle = Bundle(measure.ran([*train, "--backbone", wish.backbone], env).json["bundle"])
    predictor = Predictor(bundle)
    prepared = [prepare(path, bundle.preprocess) for path in files[:64]]

    def decode(threads: int) -> Callable[[Sequence[Path]], object]:
        return lambda files: sum(1 for _ in map_ordered(lambda path: prepare(path, bundle.preprocess), files, threads))

    def model(threads: int) -> Callable[[Sequence[Path]], object]:
        def one(number: int) -> object:
            return bundle.session.run(np.asarray(prepared[number % len(prepared)])[None], ("logits", "embedding"))

        return lambda files: sum(1 for _ in map_ordered(one, range(len(files)), threads))

    counts = sorted({1, cores, 2 * cores})
    weights = wish.weights.resolve() / wish.backbone
    jobs: dict[str, Callable[[Sequence[Path]], object]] = {
        **{f"decode {threads}": decode(threads) for threads in counts},
        **{f"model {threads}": model(threads) for threads in counts},
        "whole": lambda files: sum(1 for _ in predictor.predict(files)),
        **{f"plain {threads}": plain_loop(weights, len(bundle.classes), threads) for threads in counts},
    }
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job(files[:32])  # once unmeasured: libraries set themselves up
    for _ in range(wish.repeat):
        for name, job in jobs.items():
            rates[name].append(rate(job, files[: n // 2] if name.startswith("plain") else files))
    # The best number of threads is that of the run; a share is taken within each round, so that a slow spell of the
    # machine meets all its parts.
    best = {
        part: max(counts, key=lambda threads: measure.median(rates[f"{part} {threads}"]))
        for part in ("decode", "model", "plain")
    }
    rows = []
    for number in range(wish.repeat):
        alone = {part: rates[f"{part} {threads}"][number] for part, threads in best.items()}
        ideal = 1 / (1 / alone["decode"] + 1 / alone["model"])
        whole = rates["whole"][number]
        rows.append({**alone, "ideal": ideal, "whole": whole, "share": whole / ideal, "times": whole / alone["plain"]})
    medians = {name: measure.median([row[name] for row in rows]) for name in rows[0]}
    measure.told(
        "predict_speed",
        [*rows, medians],
        n=n,
        repeat=wish.repeat,
        threads=best,
        last_row="medians",
        to_reach=[0.9, 3.0],
    )


if __name__ == "__main__":
    main()
