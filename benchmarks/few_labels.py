"""What a few labels are worth: python -m benchmarks.few_labels [--sets ...] [--parts probe,suggest]

Embeddings of one backbone, cached; everything else is the library's own functions on them. Nothing is chosen on test.
Of CIFAR-10 500 training pictures a class and all test pictures. Validation pictures, where a set has some apart, are
test pictures too: nothing here is chosen on them.
probe: five pictures a class, by seeds, against scikit-learn's LogisticRegression on the same embeddings, as they are
and standardised, C by cross-validation. To reach: no more than 0.5 points below the better of the two.
suggest: pictures are labelled in rounds, the first by `most_typical`, the others by `teach_most` with the head that
the labels so far give; how many labels are needed for 95% of what all labels give, against random picking, by the same
seeds. To reach: at least 20% fewer. Read off the mean of the seeds' curves, with the spread that drawing the seeds anew
has (bootstrap), and seed by seed as well. Where a curve has become flat a seed alone says little: what reaches the mark
in one round falls below it in the next, or never reaches it.
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
from tellapart.files import finite
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
MOST = {"hymenoptera": 80, "clothing_small": 800, "cifar10": 2_000}
_BOOTSTRAP = 200

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
            rows = [row for row in manifest.rows if (row.split == "train") == (split == "train")]
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


Curve = list[tuple[int, float]]


def labelled(found: Embedded, how: str, seed: int, batch: int, most: int) -> Curve:
    """Return (labels, accuracy on test) after each round, until there are `most` labels.

    Each seed has a pool of its own: nine in ten of the training pictures.
    """
    random = np.random.default_rng(seed)
    pool = np.sort(random.permutation(len(found.targets))[: round(0.9 * len(found.targets))])
    X, truth, vectors = found.train[pool], found.targets[pool], unit(found.train[pool])
    order = random.permutation(len(pool))
    have: IntArray = order[:batch] if how == "random" else most_typical(vectors, batch, seed)
    curve: Curve = []
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
        if len(have) >= most:
            return curve
        rest = np.setdiff1d(np.arange(len(pool)), have)
        if how == "random":
            have = order[: len(have) + batch]
        elif probs is None:
            have = np.concatenate([have, rest[most_typical(vectors[rest], batch, seed)]])
        else:
            have = np.concatenate([have, rest[teach_most(vectors[rest], probs[rest], batch, seed)]])


def needed(curve: Curve, wanted: float) -> float:
    """Return how many labels reach `wanted` for two rounds, between rounds interpolated; infinite where none do."""
    reached = [place for place in range(len(curve) - 1) if min(curve[place][1], curve[place + 1][1]) >= wanted]
    if not reached:
        return float("inf")
    place = reached[0]
    if place == 0:
        return float(curve[0][0])
    (fewer, below), (more, above) = curve[place - 1], curve[place]
    share = (wanted - below) / (above - below) if above > below else 1.0
    return fewer + min(1.0, max(0.0, share)) * (more - fewer)


def mean_of(curves: list[Curve]) -> Curve:
    """Return the mean of curves with the same numbers of labels."""
    means = np.mean([[accuracy for _, accuracy in curve] for curve in curves], axis=0)
    return [(number, float(mean)) for (number, _), mean in zip(curves[0], means, strict=True)]


def rounds(found: Embedded, batch: int, most: int, seeds: int) -> dict[str, Any]:
    """Return how many labels each way of picking needs: by the mean of the curves, and seed by seed."""
    head, _ = head_of(found.train, found.targets, found.num_classes)
    full = float((head.logits(found.test).argmax(axis=1) == found.test_targets).mean())
    wanted, ways = SHARE * full, ("random", "suggest")
    told: dict[str, Any] = {"full": full, "wanted": wanted, "batch": batch, "n_test": len(found.test_targets)}
    curves = {how: [labelled(found, how, seed, batch, most) for seed in range(seeds)] for how in ways}

    def fewer(chosen: IntArray) -> float:
        both = [needed(mean_of([curves[how][seed] for seed in chosen.tolist()]), wanted) for how in ways]
        return 1 - both[1] / both[0] if np.isfinite(both).all() else float("nan")

    draw = np.random.default_rng(0)
    again = [fewer(draw.integers(0, seeds, seeds)) for _ in range(_BOOTSTRAP)]
    for how in ways:
        told[how] = {
            "by_the_mean_curve": needed(mean_of(curves[how]), wanted),
            "seed_by_seed": [round(needed(curve, wanted), 1) for curve in curves[how]],
            "mean_curve": [(number, round(accuracy, 4)) for number, accuracy in mean_of(curves[how])],
        }
    share = fewer(np.arange(seeds))
    reached = [one for one in again if np.isfinite(one)]
    middle = [float(np.median(told[how]["seed_by_seed"])) for how in ways]
    told["fewer"] = share if np.isfinite(share) else None
    whole = len(reached) == len(again)  # of some draws alone the error would be too small
    told["fewer_se"] = float(np.std(reached)) if whole else None
    told["fewer_by_medians"] = 1 - middle[1] / middle[0] if np.isfinite(middle).all() else None
    return told


def main() -> None:
    """Print one JSON object a set and part."""
    parser = measure.options(__doc__)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--parts", default="probe,suggest")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--most", type=int, help="labels given at the most; by default about what random needs")
    parser.add_argument("--batch", type=int, help="labels a round; by default a twentieth of these")
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
            most = min(arguments.most or MOST[name], round(0.8 * len(found.targets)))
            batch = arguments.batch or max(2 * found.num_classes, most // 20)
            told = rounds(found, batch, most, arguments.seeds)
            told["seconds"] = time.monotonic() - began
            print(json.dumps(finite({"set": name, "part": "suggest", **told})), flush=True)


if __name__ == "__main__":
    main()
