"""Peak memory of train and predict as pictures grow in number: python -m benchmarks.memory [--sizes 1000 10000 50000]

Pictures are CIFAR-10's. To reach: from size to size it grows by no more than the manifest and the embeddings, which
stand beside (a row of the manifest is counted as 1,000 bytes, an embedding as D numbers of 4 bytes, twice for mirrored
views).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import measure

ROW_BYTES = 1000
VIEWS = 2


def embedding_size(bundle: Path) -> int:
    """Return D as the bundle's card has it, else of its reference embeddings."""
    from safetensors import safe_open

    with safe_open(bundle / "reference.safetensors", framework="numpy") as file:
        return max(int(file.get_slice(name).get_shape()[0]) for name in file.keys() if "weight" in name)  # noqa: SIM118


def measured(size: int, wish: Any) -> dict[str, Any]:
    source = measure.unpacked("cifar10", wish.data, wish.work)
    data = measure.subset(source, wish.work / f"cifar_{size}", {"train": size // 10})
    folder = measure.fresh(wish.work / "runs" / "memory")
    env = {"TELLAPART_CACHE": wish.work / "memory_cache", "TELLAPART_WEIGHTS": wish.weights.resolve()}
    train: list[str | Path] = [
        measure.tellapart(),
        "train",
        data / "train",
        "--out",
        folder / "run",
        *wish.options.split(),
        "--json",
    ]
    trained = measure.ran(train, env)
    bundle = Path(trained.json["bundle"])
    predicted = measure.ran([measure.tellapart(), "predict", bundle, data / "train", "--json"], env)
    answered = sum("answer" in json.loads(line) for line in predicted.out.splitlines())
    return {
        "pictures": size,
        "answered": answered,
        "train_MB": trained.peak_bytes / 1e6,
        "predict_MB": predicted.peak_bytes / 1e6,
        "manifest_and_embeddings_MB": size * (ROW_BYTES + 4 * VIEWS * embedding_size(bundle)) / 1e6,
        "train_s": trained.seconds,
        "predict_s": predicted.seconds,
    }


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000, 50000])
    parser.add_argument(
        "--options",
        default="--method probe --backbone mobilenetv2_035 --image-size 32 --budget 30m",
        help="options of train; small pictures, because memory is what is asked about",
    )
    wish = parser.parse_args()
    # Once unmeasured: exporting the backbone takes torch's memory, which would hide that of the pictures.
    measure.fresh(wish.work / "memory_cache")
    measured(100, wish)
    rows: list[dict[str, Any]] = []
    for size in wish.sizes:
        row = measured(size, wish)
        before = rows[-1] if rows else row
        for name in ("train_MB", "predict_MB"):
            row[f"{name}_grew"] = row[name] - before[name]
        row["allowed_MB"] = row["manifest_and_embeddings_MB"] - before["manifest_and_embeddings_MB"]
        rows.append(row)
    measure.told("memory", rows, options=wish.options)


if __name__ == "__main__":
    main()
