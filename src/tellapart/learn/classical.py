"""The rung `classical`: features by hand, reduced to their main components, and a classical learner on them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.cache import Space, digest_of
from tellapart.errors import MissingExtraError, OutOfTimeError
from tellapart.events import Decision, Steps
from tellapart.images import Preprocess, at_least_for, default_threads
from tellapart.learn.balanced_head import balanced_head
from tellapart.learn.balancing import class_weights_of
from tellapart.learn.embed import embed
from tellapart.learn.features import MOST_COMPONENTS, Family, Projection, features, features_side, project
from tellapart.learn.folds import make_folds
from tellapart.learn.kernel_machine import KernelFit, fit_kernel_machine
from tellapart.learn.learners import best_learner
from tellapart.learn.linear import fit_linear
from tellapart.learn.linear_head import mirrored_views_help
from tellapart.learn.rungs import Fitted, FloatArray, GraphHead, Head, OutOfFold, Pictures
from tellapart.recipe import Recipe

__all__ = ["classical", "hand_trunk", "seen_by_hand"]

_PROJECTED_ON = 3_000  # pictures: so many are enough for the main components of some 3,000 features
_COMPARED_ON = 1_000  # pictures: on so many it is seen whether colours of the whole help
_WHOLE_WEIGHTS = (0.0, 1.0, 2.0)  # what they may count for
_MOST_MIRRORED = 1_500  # pictures: with more, mirrored ones take longer than they bring
_VERSION = 2  # part of the key of cached projections


def classical(
    train: Pictures,
    val: Pictures,
    num_classes: int,
    preprocess: Preprocess,
    recipe: Recipe,
    cache: Path,
    left: Callable[[], float],
    *,
    shorter_px: int,
    grey: bool = False,
    threads: int | None = None,
) -> Steps[Fitted]:
    """Return the rung fitted on `train`; `val` is embedded and not looked at.

    Edges, textures and colours (`learn.features`) of a square of up to 128 px become at most 256 components, which are
    the embedding. A linear head and, where there are 40 pictures or more and `left()` seconds allow, a support vector
    machine with a Gaussian kernel are fitted; the mean of both is kept, or the one that is better beyond doubt. Trees
    were measured and left out: on 300 and 1,000 pictures of CIFAR-10 200 extremely randomised trees were right on 0.28
    and 0.39 where the machine was right on 0.47 and 0.55. `shorter_px` and `grey` are as in
    `scratch`. Raises MissingExtraError without scikit-learn and onnx.
    """
    if find_spec("sklearn") is None:
        raise MissingExtraError("train", "Training")
    threads = threads or recipe.fit.threads or default_threads()
    preprocess = seen_by_hand(preprocess, shorter_px, recipe)
    side = preprocess.image_size
    alike = judge.counts_alike(np.bincount(train.targets), recipe.fit.balance)
    weights = class_weights_of(train.targets, num_classes)[train.targets] if alike else None
    whole = 0.0
    if not grey:
        whole = yield from _whole_weight(train, num_classes, weights, preprocess, recipe.seed, cache, threads)
    projection = yield from _projection(train, preprocess, grey, recipe.seed, cache, threads, whole)
    trunk, _ = features(side, grey, projection, whole)
    seen = {}
    for name, pictures in (("train", train), ("val", val)):
        found = yield from embed(trunk, preprocess, pictures.files, pictures.digests, cache, threads=threads)
        seen[name] = found.reshape(len(pictures), projection.weight.shape[1])
    rows = seen["train"]
    folds = make_folds(train.targets, train.groups, seed=recipe.seed)
    linear, way = yield from balanced_head(rows, train.targets, num_classes, folds, recipe.fit.balance, recipe.seed)
    machine: KernelFit | None = None
    mirrored: FloatArray | None = None
    try:
        if linear.penalty > 0 and recipe.augment.mirror != "off" and len(train) <= _MOST_MIRRORED:
            turned = yield from embed(trunk, preprocess, train.files, train.digests, cache, threads=threads, flip=True)
            helps, words = True, "asked for by --flip"
            if recipe.augment.mirror == "auto":
                helps, words = yield from mirrored_views_help(
                    rows, turned, train.targets, folds, way, num_classes, recipe.seed, worth=-1.0
                )
            yield Decision("flip", helps, words)
            if helps:
                mirrored, both = turned, np.concatenate([rows, turned])
                linear = yield from fit_linear(
                    both, train.targets, num_classes, folds, way.weights, views=2, seed=recipe.seed
                )
                linear = way.applied(linear)
        machine = yield from fit_kernel_machine(rows, train.targets, num_classes, folds, way, left, mirrored)
    except OutOfTimeError:
        yield Decision("classical.learner", "linear", "there was no time for a support vector machine after all")
    head: Head | GraphHead = linear.head
    learner = "linear"
    out_of_fold = OutOfFold(linear.rows, linear.out_of_fold)
    if machine is not None:
        best, words = best_learner(machine, linear, train.targets, way)
        yield Decision("classical.learner", best.name, words)
        head, learner, out_of_fold = best.head, best.name, OutOfFold(best.rows, best.out_of_fold)
    return Fitted(
        method="classical",
        trunk=trunk,
        head=head,
        preprocess=preprocess,
        out_of_fold=out_of_fold,
        embeddings=seen,
        held_out=np.arange(len(train), dtype=np.int64),
        details={
            "learner": learner,
            "flip": mirrored is not None,
            "balance": way.kind,
            "components": projection.weight.shape[1],
            "variance_kept": projection.kept,
            "colours_of_whole": whole,
            **({"penalty": linear.penalty} if linear.penalty > 0 else {"head": "class_means"}),
            **({} if machine is None or learner == "linear" else {"gamma": machine.gamma, "cost": machine.cost}),
        },
    )


def seen_by_hand(preprocess: Preprocess, shorter_px: int, recipe: Recipe) -> Preprocess:
    """Return how pictures are made ready for features by hand; their levels are left as they are."""
    side = features_side(shorter_px, recipe.model.image_size)
    plain: Any = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return dataclasses.replace(preprocess, image_size=side, at_least_px=at_least_for(side), **plain)


def hand_trunk(
    pictures: Pictures,
    preprocess: Preprocess,
    recipe: Recipe,
    cache: Path,
    *,
    shorter_px: int,
    grey: bool = False,
    threads: int | None = None,
) -> Steps[tuple[bytes, Preprocess]]:
    """Return the graph of this rung's embeddings, its components taken from `pictures`, and how it sees a picture."""
    preprocess = seen_by_hand(preprocess, shorter_px, recipe)
    projection = yield from _projection(pictures, preprocess, grey, recipe.seed, cache, threads or default_threads())
    trunk, _ = features(preprocess.image_size, grey, projection)
    return trunk, preprocess


def _whole_weight(
    train: Pictures,
    num_classes: int,
    weights: NDArray[np.float64] | None,
    preprocess: Preprocess,
    seed: int,
    cache: Path,
    threads: int,
) -> Steps[float]:
    """Return how much the colours of the whole picture are to count: what gives the lowest log loss out of fold."""
    order = sorted(range(len(train)), key=lambda row: train.digests[row])[:_COMPARED_ON]
    kept = np.array(sorted(order), dtype=np.int64)
    few, share = train.take(kept), None if weights is None else weights[kept]
    folds = make_folds(few.targets, few.groups, seed=seed)
    rows = np.flatnonzero(folds >= 0)
    if len(np.unique(few.targets[rows])) < 2:
        yield Decision("colours_of_whole", 0.0, "too few pictures to compare features on")
        return 0.0
    raw, families = features(preprocess.image_size, False, None, 1.0)
    seen = yield from embed(raw, preprocess, few.files, few.digests, cache, threads=threads)
    losses = {}
    for weight in _WHOLE_WEIGHTS:
        weighed = tuple(
            dataclasses.replace(family, weight=family.weight * weight) if family is families[-1] else family
            for family in families
        )
        made = project(seen, weighed, seed)
        fitted = yield from fit_linear(
            seen @ made.weight + made.bias, few.targets, num_classes, folds, share, seed=seed
        )
        truth = few.targets[fitted.rows]
        scaled = fitted.out_of_fold / np.float32(judge.fit_temperature(fitted.out_of_fold, truth))
        each = -judge.log_softmax(scaled)[np.arange(len(truth)), truth]
        losses[weight] = float(np.average(each, weights=None if share is None else share[fitted.rows]))
    best = min(_WHOLE_WEIGHTS, key=losses.__getitem__)
    told = ", ".join(f"{loss:.4f} at {weight:g}" for weight, loss in losses.items())
    yield Decision("colours_of_whole", best, f"log loss of {len(truth):,} predictions out of fold: {told}")
    return best


def _projection(
    train: Pictures, preprocess: Preprocess, grey: bool, seed: int, cache: Path, threads: int, whole: float = 0.0
) -> Steps[Projection]:
    """Return the components of the training pictures' features, from the cache or by looking at some thousands."""
    raw, families = features(preprocess.image_size, grey, None, whole)
    order = sorted(range(len(train)), key=lambda row: train.digests[row])[:_PROJECTED_ON]
    few = train.take(np.array(sorted(order), dtype=np.int64))
    shape = dataclasses.asdict(preprocess)
    key = digest_of([hashlib.sha256(raw).hexdigest(), shape, list(few.digests), seed, MOST_COMPONENTS, _VERSION])
    with Space(cache, "projections", key) as space:
        kept = dict(space.get([key]))
        if 0 in kept:
            return _unpacked(kept[0], families)
        rows = yield from embed(raw, preprocess, few.files, few.digests, None, threads=threads)
        made = project(rows, families, seed)
        space.put([(key, _packed(made))])
    return made


def _packed(made: Projection) -> bytes:
    return np.float64(made.kept).tobytes() + made.bias.tobytes() + made.weight.tobytes()


def _unpacked(content: bytes, families: tuple[Family, ...]) -> Projection:
    width = sum(family.width for family in families)
    kept, numbers = float(np.frombuffer(content[:8], np.float64)[0]), np.frombuffer(content[8:], np.float32)
    count = len(numbers) // (width + 1)
    return Projection(numbers[count:].reshape(width, count), numbers[:count], kept)
