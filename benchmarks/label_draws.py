"""How the ranking of label suspects differs from draw to draw: python -m benchmarks.label_draws [--repeat 5]

Pictures are drawn from the training pictures of a set, --each of a class, and 5 % of them given another label; then the
head, its folds, its temperature and the ranking are those of `check`. Of the wrong labels, the share in the top 7 %.
To reach: 0.70 on CIFAR-10 and on clothing_small. Embeddings are made once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import measure
from benchmarks.forecast import embedded, ended
from tellapart.data.audit.evidence import Evidence, Floats
from tellapart.data.audit.label_suspect import believed, with_neighbours
from tellapart.judge import fit_temperature, softmax
from tellapart.ladder.reduce import reduced
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import FloatArray, IntArray

NOISE, TOP = 0.05, 0.07


def evidence_of(X: FloatArray, targets: IntArray, probs: Floats) -> Evidence:
    """Return pictures of which no more is known than embeddings, labels and predictions out of fold."""
    n, rows = len(X), np.arange(len(X), dtype=np.int64)
    return Evidence(
        paths=[str(row) for row in range(n)],
        digests=[str(row) for row in range(n)],
        classes=[str(label) for label in range(probs.shape[1])],
        targets=targets,
        splits=["train"] * n,
        identities=rows,
        near=rows,
        series=rows,
        groups=rows,
        sizes=np.ones((n, 2), dtype=np.int64),
        grey=np.zeros(n, dtype=bool),
        measures=np.zeros(n, dtype=[("none", "u1")]),
        thumbnails=np.zeros((n, 8, 8, 3), dtype=np.uint8),
        embedded=rows,
        embeddings=reduced([X])[0],
        predicted=rows,
        probs=probs,
    )


def drawn(X: FloatArray, targets: IntArray, each: int, seed: int) -> dict[str, Any]:
    """Return what one draw shows."""
    random = np.random.default_rng(seed)
    num_classes = int(targets.max()) + 1
    own = [random.permutation(np.flatnonzero(targets == label))[:each] for label in range(num_classes)]
    picked = np.sort(np.concatenate(own))
    X, given = X[picked], targets[picked].copy()
    wrong = random.permutation(len(given))[: round(NOISE * len(given))]
    given[wrong] = (given[wrong] + random.integers(1, num_classes, len(wrong))) % num_classes
    folds = make_folds(given, [str(row) for row in range(len(given))])
    fitted = ended(fit_linear(X, given, num_classes, folds))
    scale = fit_temperature(fitted.out_of_fold, given[fitted.rows])
    probs = softmax(np.asarray(fitted.out_of_fold / scale, dtype=np.float32))
    evidence = evidence_of(X, given, probs)
    right = np.delete(np.arange(len(given)), wrong)

    def top(ranked: Any) -> float:
        first = np.argsort(-believed(ranked, given)[0], kind="stable")[: int(TOP * len(given))]
        return len(np.intersect1d(first, wrong)) / len(wrong)

    return {
        "draw": seed,
        "n": len(given),
        "right_out_of_fold": float((probs.argmax(axis=1) == given)[right].mean()),
        "head_alone": top(evidence.probs),
        "top7": top(with_neighbours(evidence)),
    }


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--set", default="cifar10")
    parser.add_argument("--each", type=int, default=500, help="pictures of each class that a draw takes")
    parser.add_argument("--most", type=int, default=1_000, help="pictures of each class to draw from")
    wish = parser.parse_args()
    X, targets, _ = embedded(wish.set, wish, wish.most)
    rows = [drawn(X, targets, wish.each, seed) for seed in range(wish.repeat)]
    found = np.array([row["top7"] for row in rows])
    deviation = float(found.std(ddof=1)) if len(found) > 1 else None
    measure.told("label_draws", rows, set=wish.set, mean=float(found.mean()), deviation=deviation, to_reach=0.70)


if __name__ == "__main__":
    main()
