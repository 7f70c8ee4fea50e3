"""The probe: a frozen backbone's embeddings and a linear head, its penalty swept by cross-validation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tellapart.errors import OutOfTimeError
from tellapart.events import Decision, Note, Steps, decide
from tellapart.images import Preprocess, default_threads
from tellapart.images.decode import Pixels
from tellapart.learn import embed
from tellapart.learn.backbones_export import Graph
from tellapart.learn.balanced_head import balanced_head
from tellapart.learn.balancing import Balancing
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.linear_head import mirrored_views_help
from tellapart.learn.propagate import MOST_TOGETHER, with_unlabelled
from tellapart.learn.rungs import Fitted, FloatArray, IntArray, OutOfFold, Pictures
from tellapart.memory import give_back
from tellapart.recipe import Recipe

__all__ = ["probe"]

_FLIP_SAMPLE = 500
_FLIP_LEAST_SECONDS = 10.0  # with less, and without the mirrored views in the cache, the question is not asked
_FLIP_TIME = 0.7  # of the time that is left: more than that is not spent on mirrored views
_FEW_OTHERS, _OTHERS_SHARE = 8, 0.5
_WORTH_A_CARD = 5_000  # pictures: for fewer, loading torch takes longer than embedding them here
_CARD_PARITY = 1e-3  # of the largest value: float32 sums in another order stay far below


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
    prepared: Mapping[str, Pixels] | None = None,
    unlabelled: Pictures | None = None,
) -> Steps[Fitted]:
    """Return the rung fitted on `train`; `val` is embedded and not looked at.

    Where the largest class has twice the pictures of the smallest, classes are made to count alike in the way that is
    best out of fold (`balanced_head`): by weights of the inverse of their frequency, or by adjusted logits. On 3,068
    photos, 112 to 795 a class, weights left the accuracy at 0.883 and raised the balanced one from 0.858 to 0.871.
    `seconds_left` tells the time that is left for all of it: the head is first fitted on the pictures as they are, and
    mirrored views are given up where they would not fit. `prepared` holds pictures that are ready, by digest.
    The out-of-fold logits are of the pictures as they are, by heads that saw neither view of them nor of their group.
    `unlabelled` pictures are learned from where that is shown to be better, as many as there is time for.
    """
    source = _Source(graph, preprocess, cache, threads or recipe.fit.threads or default_threads(), prepared)
    source = yield from _on_a_card(source, train, val, recipe)
    # Room for mirrored views is asked for at once, and costs nothing until they are written.
    both = np.empty((2 * len(train), graph.width), dtype=np.float32)
    views = yield from source.embed(train, into=both[: len(train)])
    of_val = yield from source.embed(val)
    give_back()
    folds = make_folds(train.targets, train.groups, seed=recipe.seed)
    began = time.monotonic()
    fitted, way = yield from balanced_head(views, train.targets, num_classes, folds, recipe.fit.balance, recipe.seed)
    flip, regression = False, fitted.penalty > 0
    try:
        if regression:
            flip = yield from _flip(
                source, train, views, folds, way, num_classes, recipe, seconds_left, time.monotonic() - began
            )
        if flip:
            yield from source.embed(train, flip=True, into=both[len(train) :])
            fitted = yield from fit_linear(
                both, train.targets, num_classes, folds, way.weights, views=2, seed=recipe.seed
            )
            fitted = way.applied(fitted)
    except OutOfTimeError:
        flip = False
        yield Decision("flip", False, "there was no time to train on mirrored views after all")
    del views
    try:  # the mirrored ones have served, and give their memory back: in place where nothing else refers to them
        both.resize((len(train), graph.width))
        views = both
    except ValueError:
        views = both[: len(train)].copy()
        del both
    if unlabelled is not None and regression and len(train) < MOST_TOGETHER:
        try:
            others = yield from _others(
                source, unlabelled, MOST_TOGETHER - len(train), seconds_left, time.monotonic() - began
            )
            if len(others):
                found = yield from with_unlabelled(fitted, views, train.targets, others, num_classes, folds, way)
                flip = flip and found is fitted  # a head that learned from them saw no mirrored views
                fitted = found
        except OutOfTimeError:
            yield Decision("unlabelled", False, "there was no time to learn from unlabelled pictures after all")
    words = "too few pictures for folds: the middle of the range"
    if fitted.sweep:
        best = min(point.log_loss for point in fitted.sweep)
        words = f"the lowest out-of-fold log loss, {best:.4f}, of {len(fitted.sweep)} penalties"
    if regression:
        yield Decision("penalty", fitted.penalty, words)
    return Fitted(
        method="probe",
        trunk=graph.model,
        head=fitted.head,
        preprocess=preprocess,
        out_of_fold=OutOfFold(fitted.rows, fitted.out_of_fold),
        embeddings={"train": views, "val": of_val.reshape(len(val), views.shape[1])},
        held_out=np.arange(len(train), dtype=np.int64),
        backbone=graph.name,
        licence=graph.licence,
        details={
            **({"penalty": fitted.penalty} if regression else {"head": "class_means"}),
            "sweep": [[point.penalty, point.log_loss] for point in fitted.sweep],
            "flip": flip,
            "class_weights": way.weights is not None,
            "balance": way.kind,
            "exporter": graph.exporter,
        },
    )


def _others(
    source: _Source,
    unlabelled: Pictures,
    room: int,
    seconds_left: Callable[[], float] | None,
    fit_seconds: float,
) -> Steps[FloatArray]:
    """Return embeddings float32 [m, D] of unlabelled pictures: at most `room`, as many as half of the time pays for."""
    unlabelled = unlabelled.take(np.arange(min(room, len(unlabelled)), dtype=np.int64))
    most = len(unlabelled)
    absent = embed.missing(source.graph.model, source.preprocess, unlabelled.digests, source.cache)
    if absent and seconds_left is not None:
        few = absent[:_FEW_OTHERS]
        cost = yield from embed.measure_rate(
            source.graph.model, source.preprocess, [unlabelled.files[row] for row in few], source.threads
        )
        left = _OTHERS_SHARE * (seconds_left() - 6 * fit_seconds)
        most = min(most, len(unlabelled) - len(absent) + max(0, int(left / cost)))
    words = f"{len(unlabelled):,} unlabelled pictures, as many of them as half of the time that is left pays for"
    most = yield from decide("pictures_without_label", most, words)
    return (yield from source.embed(unlabelled.take(np.arange(most, dtype=np.int64))))


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where embeddings come from: onnxruntime on the processor, or torch on a graphics card."""

    graph: Graph
    preprocess: Preprocess
    cache: Path
    threads: int
    prepared: Mapping[str, Pixels] | None = None
    card: str = ""  # cuda or mps

    def embed(self, pictures: Pictures, flip: bool = False, into: FloatArray | None = None) -> Steps[FloatArray]:
        """Return float32 [N, D]."""
        files, digests = pictures.files, pictures.digests
        if self.card:
            from tellapart.learn import torch_embed

            return torch_embed.embed(
                self.graph,
                self.preprocess,
                files,
                digests,
                self.cache,
                device=self.card,
                flip=flip,
                threads=self.threads,
                into=into,
            )
        return embed.embed(
            self.graph.model,
            self.preprocess,
            files,
            digests,
            self.cache,
            flip=flip,
            threads=self.threads,
            into=into,
            prepared=self.prepared,
        )

    def missing(self, pictures: Pictures, flip: bool = False) -> int:
        """Return how many pictures onnxruntime would have to embed."""
        return len(embed.missing(self.graph.model, self.preprocess, pictures.digests, self.cache, flip=flip))


def _on_a_card(source: _Source, train: Pictures, val: Pictures, recipe: Recipe) -> Steps[_Source]:
    """Return the source to use: a card where it was asked for, or is there and worth it, and gives the same numbers."""
    wish = recipe.fit.device
    if wish == "cpu" or (wish == "auto" and not _seems_to_have_a_card()):
        return source
    if wish == "auto" and source.missing(train) + source.missing(val) < _WORTH_A_CARD:
        return source
    from tellapart.learn import torch_embed

    if wish == "auto" and not torch_embed.has_card():
        return source
    device = "cuda" if wish == "auto" else wish
    card = dataclasses.replace(source, card=device)
    few = train.take(np.arange(min(8, len(train)), dtype=np.int64))
    here = yield from source.embed(few)
    there = yield from card.embed(few)
    error = float(np.abs(here - there).max() / max(float(np.abs(here).max()), 1e-6))
    if error > _CARD_PARITY:
        yield Note("warning", f"The graphics card gives other embeddings than the model that ships ({error:.1e}).")
        return source
    yield Decision("embed_device", device, f"the same embeddings as the model that ships, within {error:.1e}")
    return card


def _seems_to_have_a_card() -> bool:
    """Return whether there is an Nvidia driver, without the seconds that it takes to load torch."""
    return Path("/dev/nvidia0").exists() or Path("C:/Windows/System32/nvcuda.dll").exists()


def _flip(
    source: _Source,
    train: Pictures,
    views: FloatArray,
    folds: IntArray,
    way: Balancing,
    num_classes: int,
    recipe: Recipe,
    seconds_left: Callable[[], float] | None,
    fit_seconds: float,
) -> Steps[bool]:
    """Decide whether mirrored views are trained on: as asked, else by cross-validation on some pictures.

    `fit_seconds` is what the fit on the pictures as they are took: with mirrored views it takes twice that and more.
    """
    if recipe.augment.mirror != "auto":
        asked = "--flip" if recipe.augment.flip != "auto" else "--augment none"
        yield Decision("flip", recipe.augment.mirror == "on", f"asked for by {asked}")
        return recipe.augment.mirror == "on"
    sample = _sample(train, _FLIP_SAMPLE)
    part = train.take(sample)
    absent = source.missing(part, flip=True)
    if absent and seconds_left is not None and seconds_left() < _FLIP_LEAST_SECONDS + 4 * fit_seconds:
        words = f"{max(0.0, seconds_left()):.0f} s are left, too little to ask whether it helps"
        return bool((yield from decide("flip", False, words)))
    began = time.monotonic()
    mirrored = yield from source.embed(part, flip=True)
    cost = (time.monotonic() - began) / max(1, absent)
    helps, words = yield from mirrored_views_help(
        views[sample], mirrored, part.targets, folds[sample], way.of(sample), num_classes, recipe.seed
    )
    if helps and seconds_left is not None:
        still = source.missing(train, flip=True)
        left = seconds_left() - 3 * fit_seconds
        if still * cost > _FLIP_TIME * left:
            helps = False
            words += f" Yet {still:,} more would take about {still * cost:.0f} s, and {max(0.0, left):.0f} s are left."
    return bool((yield from decide("flip", helps, words)))


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
