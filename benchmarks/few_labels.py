"""What a few labels are worth: python -m benchmarks.few_labels [--sets ...] [--parts probe,suggest]

Embeddings of one backbone, cached; everything else is the library's own functions on them. Nothing is chosen on test.
Of CIFAR-10 500 training pictures a class and all test pictures.
probe: five pictures a class, by seeds, against scikit-learn's LogisticRegression on the same embeddings, as they are
and standardised, C by cross-validation. To reach: no more than 0.5 points below the better of the two.
suggest: pictures are labelled in rounds, the first by `most_typical`, the others by `teach_most` with the head that
the labels so far give; how many labels are needed for 95% of what all labels give, against random picking, by the same
seeds, as the means and as the medians of them have it. To reach: at least 20% fewer. Ten seeds by default: a seed alone
says little, and of five the means and the medians may still be ten points apart.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks import measure
from tellapart import judge
from tellapart.data import resize_policy, scan
from tellapart.events import Steps
from tellapart.images import at_least_for
from tellapart.learn.backbones import find_weights
from tellapart.learn.backbones_export import start_export
from tellapart.learn.balanced_head import balanced_head
from tellapart.learn.embed import embed
from tellapart.learn.folds import make_folds
from tellapart.learn.labelling import most_typical, teach_most, unit
from tellapart.learn.rungs import FloatArray, Head, IntArray
from tellapart.recipe import Recipe

BACKBONE = "mobilenetv2_100"
SETS: dict[str, dict[str, int] | None] = {
    "hymenoptera": None,
    "clothing_small": None,
    "cifar10": {"train": 500, "test": 1_000},
}
SEEDS, EACH = 10, 5
SHARE = 0.95

T = TypeVar("T")


def ended(steps: Steps[T]) -> T:
    """Run steps to their end, unseen."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


@dataclasses.dataclass(frozen=True)
class Embedded:
    """A set as one backbone sees it: embeddings and classes of the training and of the test pictures."""

    train: FloatArray
    targets: IntArray
    test: FloatArray
    test_targets: IntArray
    num_classes: int

    @classmethod
    def of(cls, folder: Path, cache: Path) -> Embedded:
        """Embed the pictures of a folder with train and test splits."""
        manifest = ended(scan(folder, Recipe(), cache, purpose="evaluate"))
        weights = find_weights(BACKBONE)
        assert weights is not None, "name the folder of weights by --weights"
        with start_export(weights, None, cache) as export:
            graph = ended(export.wait())
        preprocess = graph.preprocess(resize_policy(manifest)[0], None, at_least_for(graph.image_size))
        index = {label: number for number, label in enumerate(manifest.classes)}
        parts: list[Any] = []
        for split in ("train", "test"):
            rows = [row for row in manifest.rows if (row.split == "test") == (split == "test")]
            files, digests = [manifest.file(row) for row in rows], [row.sha256 for row in rows]
            parts.append(ended(embed(graph.model, preprocess, files, digests, cache)))
            parts.append(np.array([index[row.label] for row in rows], dtype=np.int64))
        train, targets, test, test_targets = parts
        return cls(train, targets, test, test_targets, len(manifest.classes))


def head_of(X: FloatArray, targets: IntArray, num_classes: int) -> tuple[Head, float]:
    """Return the head that the probe rung fits, and its temperature."""
    folds = make_folds(targets, [str(row) for row in range(len(targets))])
    fitted, _ = ended(balanced_head(X, targets, num_classes, folds, "auto"))
    told = fitted.rows
    temperature = judge.fit_temperature(fitted.out_of_fold, targets[told]) if len(told) else 1.0
    return fitted.head, temperature


def tuned(X: FloatArray, targets: IntArray, standardised: bool) -> Any:
    """Return scikit-learn's logistic regression, C of nine by cross-validated log loss."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    grid = {"logisticregression__C": np.logspace(-5, 3, 9)}
    splits = StratifiedKFold(min(5, int(np.bincount(targets).min())), shuffle=True, random_state=0)
    model = make_pipeline(
        StandardScaler(with_mean=standardised, with_std=standardised), LogisticRegression(max_iter=500)
    )
    return GridSearchCV(model, grid, cv=splits, scoring="neg_log_loss").fit(X, targets)


def few(found: Embedded, each: int, seeds: int) -> dict[str, Any]:
    """Return accuracies on test by seed: `each` pictures of a class, ours and scikit-learn's on the same ones."""
    ours: list[float] = []
    theirs: dict[str, list[float]] = {"as_they_are": [], "standardised": []}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(found.targets))
        rows = np.concatenate([order[found.targets[order] == label][:each] for label in range(found.num_classes)])
        X, targets = found.train[rows], found.targets[rows]
        head, _ = head_of(X, targets, found.num_classes)
        ours.append(float((head.logits(found.test).argmax(axis=1) == found.test_targets).mean()))
        for how, right in theirs.items():
            said = tuned(X, targets, how == "standardised").predict(found.test)
            right.append(float((said == found.test_targets).mean()))
    best = max(theirs.values(), key=np.mean)
    gap, spread = 100 * (np.mean(ours) - np.mean(best)), 100 * np.std(np.subtract(ours, best), ddof=1)
    return {"each": each, "ours": ours, "sklearn": theirs, "gap_points": float(gap), "gap_sd": float(spread)}


def labelled(found: Embedded, how: str, seed: int, batch: int, most: int, wanted: float) -> list[tuple[int, float]]:
    """Return (labels, accuracy on test) after each round; it ends where two rounds in a row are at `wanted`.

    Each seed has a pool of its own: nine in ten of the training pictures.
    """
    random = np.random.default_rng(seed)
    pool = np.sort(random.permutation(len(found.targets))[: round(0.9 * len(found.targets))])
    X, truth, vectors = found.train[pool], found.targets[pool], unit(found.train[pool])
    order = random.permutation(len(pool))
    have: IntArray = order[:batch] if how == "random" else most_typical(vectors, batch, seed)
    curve: list[tuple[int, float]] = []
    while True:
        present, targets = np.unique(truth[have], return_inverse=True)
        probs: NDArray[np.float64] | None = None
        if len(present) < 2:
            said = np.full(len(found.test), present[0])
        else:
            head, temperature = head_of(X[have], targets.astype(np.int64), len(present))
            said = present[head.logits(found.test).argmax(axis=1)]
            probs = judge.softmax(head.logits(X) / np.float32(temperature))
        curve.append((len(have), float((said == found.test_targets).mean())))
        if len(have) >= most or (len(curve) > 1 and min(curve[-1][1], curve[-2][1]) >= wanted):
            return curve
        rest = np.setdiff1d(np.arange(len(pool)), have)
        if how == "random":
            have = order[: len(have) + batch]
        elif probs is None:
            have = np.concatenate([have, rest[most_typical(vectors[rest], batch, seed)]])
        else:
            have = np.concatenate([have, rest[teach_most(vectors[rest], probs[rest], batch, seed)]])


def needed(curve: list[tuple[int, float]], wanted: float) -> float:
    """Return how many labels reach `wanted` for good, between rounds interpolated; infinite where none do."""
    reached = [place for place in range(len(curve) - 1) if min(curve[place][1], curve[place + 1][1]) >= wanted]
    if not reached:
        return float("inf")
    place = reached[0]
    if place == 0:
        return float(curve[0][0])
    (fewer, below), (more, above) = curve[place - 1], curve[place]
    share = (wanted - below) / (above - below) if above > below else 1.0
    return fewer + min(1.0, max(0.0, share)) * (more - fewer)


def rounds(found: Embedded, batch: int, most: int, seeds: int) -> dict[str, Any]:
    """Return how many labels each way of picking needs, seed by seed."""
    head, _ = head_of(found.train, found.targets, found.num_classes)
    full = float((head.logits(found.test).argmax(axis=1) == found.test_targets).mean())
    told: dict[str, Any] = {"full": full, "wanted": SHARE * full, "batch": batch}
    for how in ("random", "suggest"):
        curves = [labelled(found, how, seed, batch, most, SHARE * full) for seed in range(seeds)]
        told[how] = [round(needed(curve, SHARE * full), 1) for curve in curves]
        told[f"{how}_curve"] = curves[0]
    middle = {how: float(np.median(told[how])) for how in ("random", "suggest")}
    told["fewer"] = None if not np.isfinite(middle["random"]) else 1 - middle["suggest"] / middle["random"]
    told["fewer_mean"] = _fewer_mean(told["random"], told["suggest"])
    return told


def _fewer_mean(random: list[float], suggest: list[float]) -> dict[str, float] | None:
    """Return how many fewer labels the means of the seeds are, and that share's standard error (delta method)."""
    if len(random) < 2 or not np.isfinite([*random, *suggest]).all():
        return None
    theirs, ours = np.array(random), np.array(suggest)
    ratio = ours.mean() / theirs.mean()
    error = np.std(ours - ratio * theirs, ddof=1) / np.sqrt(len(ours)) / theirs.mean()
    return {"share": float(1 - ratio), "standard_error": float(error)}


def main() -> None:
    """Print one JSON object a set and part."""
    parser = measure.options(__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--parts", default="probe,suggest")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--most", type=int, default=600, help="labels that are given at the most")
    parser.add_argument("--batch", type=int, help="labels a round; by default twice or four times the classes")
    arguments = parser.parse_args()
    os.environ["TELLAPART_WEIGHTS"] = str(arguments.weights)
    cache = arguments.work / "cache"
    for name in arguments.sets.split(","):
        folder = measure.unpacked(name, arguments.data, arguments.work)
        if (each := SETS[name]) is not None:
            counts = "-".join(map(str, each.values()))
            folder = measure.subset(folder, arguments.work / "data" / f"{name}-{counts}", each)
        found = Embedded.of(folder, cache)
        if "probe" in arguments.parts:
            print(json.dumps({"set": name, "part": "probe", **few(found, EACH, arguments.seeds)}), flush=True)
        if "suggest" in arguments.parts:
            began = time.monotonic()
            batch = arguments.batch or found.num_classes * (2 if found.num_classes < 5 else 4)
            most = min(arguments.most, round(0.8 * len(found.targets)))
            told = rounds(found, batch, most, arguments.seeds)
            print(json.dumps({"set": name, "part": "suggest", **told, "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
