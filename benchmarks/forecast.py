"""Whether the learning curve can be trusted: python -m benchmarks.forecast [--repeat 3]

From half of a set's training pictures, what the whole would give is forecast, and compared with what it gives: the
accuracy of the probe's head, out of fold, on embeddings of a frozen backbone. Halves are drawn --repeat times.
To reach: within 3 points on 2 of 3 sets, and inside the forecast's own 95 % interval.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from tellapart.events import Steps
from tellapart.images import at_least_for
from tellapart.judge import forecast
from tellapart.learn.backbones import find_weights
from tellapart.learn.backbones_export import start_export
from tellapart.learn.curve import LearningCurve, learning_curve
from tellapart.learn.embed import embed
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import FloatArray, IntArray

SETS = {"hymenoptera": 1_000, "clothing_small": 1_000, "cifar10": 200}
"""Each set's most pictures of a class."""


def ended(steps: Steps[Any]) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def embedded(name: str, wish: Any, most: int) -> tuple[FloatArray, IntArray, list[str]]:
    """Return embeddings, class indices and digests of a set's training pictures, at most so many of a class."""
    folder = measure.unpacked(name, wish.data, wish.work) / "train"
    files: list[Path] = []
    labels: list[int] = []
    for index, label in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        pictures = sorted(label.iterdir())[:most]
        files += pictures
        labels += [index] * len(pictures)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    cache = wish.work / "forecast_cache"
    cache.mkdir(parents=True, exist_ok=True)
    weights = find_weights(f"local-dir:{wish.weights.resolve() / wish.backbone}")
    assert weights is not None
    graph = ended(start_export(weights, None, cache).wait())
    preprocess = graph.preprocess("crop", None, at_least_for(graph.image_size))
    first = {digest: row for row, digest in reversed(list(enumerate(digests)))}  # copies would be in two folds
    rows = sorted(first.values())
    vectors = ended(embed(graph.model, preprocess, [files[row] for row in rows], [digests[row] for row in rows], cache))
    return vectors, np.array(labels, dtype=np.int64)[rows], [digests[row] for row in rows]


def curve_of(X: FloatArray, targets: IntArray, digests: list[str]) -> LearningCurve:
    num_classes = int(targets.max()) + 1
    penalty = ended(fit_linear(X, targets, num_classes, make_folds(targets, digests))).penalty
    curve: LearningCurve = ended(learning_curve(X, targets, num_classes, digests, digests, penalty))
    return curve


def reached_by(X: FloatArray, targets: IntArray, digests: list[str]) -> tuple[float, float]:
    """Return the accuracy out of fold of the head of the whole set, and how many pictures it learned from."""
    folds = make_folds(targets, digests)
    found = ended(fit_linear(X, targets, int(targets.max()) + 1, folds))
    right = found.out_of_fold.argmax(axis=1) == targets[found.rows]
    return float(right.mean()), float(np.mean([(folds != fold).sum() for fold in np.unique(folds)]))


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    wish = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in SETS:
        X, targets, digests = embedded(name, wish, SETS[name])
        reached, learned = reached_by(X, targets, digests)
        for number in range(wish.repeat):
            half = np.sort(np.random.default_rng(number).permutation(len(X))[: len(X) // 2])
            curve = curve_of(X[half], targets[half], [digests[row] for row in half])
            found = forecast(curve.sizes, curve.right, learned, groups=curve.groups)
            rows.append(
                {
                    "set": name,
                    "half": number,
                    "pictures": len(X),
                    "with_half": float(curve.right[-1].mean()),
                    "forecast": found.value,
                    "low": found.low,
                    "high": found.high,
                    "reached": reached,
                    "error": found.value - reached,
                    "inside": found.low <= reached <= found.high,
                }
            )
    measure.told("forecast", rows, repeat=wish.repeat, to_reach="3 points on 2 of 3 sets, inside the interval")


if __name__ == "__main__":
    main()
