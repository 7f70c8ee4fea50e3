"""The probe: a frozen backbone's embeddings and a linear head, its penalty swept by cross-validation."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Decision, Progress, Steps
from tellapart.images import Preprocess, default_threads
from tellapart.learn.backbones_export import Graph
from tellapart.learn.embed import embed, missing
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import Fitted, FloatArray, IntArray, OutOfFold, Pictures
from tellapart.recipe import Recipe

__all__ = ["probe"]

_UNBALANCED = 2.0
_FLIP_SAMPLE = 500


def probe(
    graph: Graph,
    preprocess: Preprocess,
    train: Pictures,
    val: Pictures,
    num_classes: int,
    recipe: Recipe,
    cache: Path,
    seconds_left: Callable[[], float] | None = None,
    threads: int | None = None,
) -> Steps[Fitted]:
    """Return the rung fitted on `train`; `val` is embedded and not looked at.

    `seconds_left` tells the time that is left for all of it: mirrored views are given up where they would not fit.
    The out-of-fold logits are of the pictures as they are, by heads that saw neither view of them nor of their group.
    """
    threads = threads or recipe.fit.threads or default_threads()

    def embedded(pictures: Pictures, flip: bool = False, into: FloatArray | None = None) -> Steps[FloatArray]:
        return embed(
            graph.model, preprocess, pictures.files, pictures.digests, cache, flip=flip, threads=threads, into=into
        )

    views = yield from embedded(train)
    of_val = yield from embedded(val)
    of_val = of_val.reshape(len(val), graph.width)
    folds = make_folds(train.targets, train.groups, seed=recipe.seed)
    weights = yield from _class_weights(train.targets, num_classes)
    balanced = weights is not None

    flip = recipe.augment.flip == "on"
    if recipe.augment.flip == "auto":
        sample = _sample(train, _FLIP_SAMPLE)
        part = train.take(sample)
        began = time.monotonic()
        absent = len(missing(graph.model, preprocess, part.digests, cache, flip=True))
        mirrored = yield from embedded(part, flip=True)
        cost = (time.monotonic() - began) / max(1, absent) if absent else 0.0
        flip = yield from _flip_helps(
            views[sample],
            mirrored,
            part.targets,
            folds[sample],
            None if weights is None else weights[sample],
            num_classes,
            recipe.seed,
        )
        still = len(missing(graph.model, preprocess, train.digests, cache, flip=True)) if flip else 0
        if flip and seconds_left is not None and still * cost > 0.7 * seconds_left():
            flip = False
            yield Decision("flip", False, f"mirrored views of {still:,} more pictures would take {still * cost:.0f} s")
    else:
        yield Decision("flip", flip, "asked for by --flip")
    if flip:
        views = np.concatenate([views, np.empty_like(views)])
        yield from embedded(train, flip=True, into=views[len(train) :])

    fitted = yield from fit_linear(
        views, train.targets, num_classes, folds, weights, views=2 if flip else 1, seed=recipe.seed
    )
    best = min((point.log_loss for point in fitted.sweep), default=float("nan"))
    yield Decision(
        "penalty",
        fitted.penalty,
        f"lowest out-of-fold log loss, {best:.4f}, of {len(fitted.sweep)} penalties"
        if fitted.sweep
        else "too few pictures for folds: the middle of the range",
    )
    yield Progress("fit", len(train), len(train))
    return Fitted(
        method="probe",
        trunk=graph.model,
        head=fitted.head,
        preprocess=preprocess,
        out_of_fold=OutOfFold(fitted.rows, fitted.out_of_fold),
        embeddings={"train": views[: len(train)], "val": of_val},
        held_out=np.arange(len(train), dtype=np.int64),
        backbone=graph.name,
        licence=graph.licence,
        details={
            "penalty": fitted.penalty,
            "sweep": [[point.penalty, point.log_loss] for point in fitted.sweep],
            "flip": flip,
            "class_weights": balanced,
            "exporter": graph.exporter,
        },
    )


def _class_weights(targets: IntArray, num_classes: int) -> Steps[NDArray[np.float64] | None]:
    """Return a weight for each picture, float64 [N], so that classes count alike; None where they nearly do already."""
    counts = np.bincount(targets, minlength=num_classes)
    present = counts[counts > 0]
    ratio = present.max() / present.min()
    words = f"the largest class has {ratio:.1f} times the pictures of the smallest"
    if ratio < _UNBALANCED:
        yield Decision("class_weights", "none", words)
        return None
    yield Decision("class_weights", "inverse_frequency", words)
    each = len(targets) / (len(present) * np.maximum(counts, 1))
    weights: NDArray[np.float64] = each[targets].astype(np.float64)
    return weights


def _sample(pictures: Pictures, size: int) -> IntArray:
    """Return at most about `size` rows, sorted, each class in its share; which ones hangs on their content alone."""
    n = len(pictures)
    if n <= size:
        return np.arange(n, dtype=np.int64)
    by_class: dict[int, list[int]] = {}
    for row in sorted(range(n), key=lambda row: pictures.digests[row]):
        by_class.setdefault(int(pictures.targets[row]), []).append(row)
    kept = [row for rows in by_class.values() for row in rows[: max(2, round(len(rows) * size / n))]]
    return np.array(sorted(kept), dtype=np.int64)


def _flip_helps(
    plain: FloatArray,
    mirrored: FloatArray,
    targets: IntArray,
    folds: IntArray,
    weights: NDArray[np.float64] | None,
    num_classes: int,
    seed: int,
) -> Steps[bool]:
    """Cross-validate with and without mirrored views on the same pictures and folds; decide by their log losses."""
    without = yield from fit_linear(plain, targets, num_classes, folds, weights, seed=seed)
    both = np.concatenate([plain, mirrored])
    with_them = yield from fit_linear(both, targets, num_classes, folds, weights, views=2, seed=seed)
    if not len(without.rows):
        yield Decision("flip", False, "too few pictures for folds")
        return False
    comparison = judge.compare(
        targets[without.rows],
        judge.softmax(with_them.out_of_fold),
        judge.softmax(without.out_of_fold),
        balanced=weights is not None,
        names=("with mirrored views", "without"),
    )
    standard_error = (comparison.high - comparison.low) / 4
    helps = comparison.difference < -standard_error
    yield Decision("flip", helps, comparison.words)
    return helps
