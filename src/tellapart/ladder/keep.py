"""What a bundle keeps of the training pictures: references for novelty, thumbnails, the pictures of its self-test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.judge import Novelty
from tellapart.ladder.run import Run
from tellapart.learn.learners import MACHINES
from tellapart.learn.rungs import Fitted, FloatArray, IntArray, Pictures
from tellapart.runtime.reference import MAX_OTHERS, MAX_REFERENCES, MAX_SELFTEST
from tellapart.ship.gallery import class_means, gallery, selftest_pictures, synthetic_pictures

__all__ = ["Kept", "keep", "learned_beside", "references_in_time"]

_SECONDS_FOR_THE_REST = 3.0
_THUMBNAIL_SECONDS = 0.005  # while the machine is slow
_FEWEST_REFERENCES = 200


@dataclasses.dataclass(frozen=True)
class Kept:
    """As `ship.write_bundle` takes them; `rows` int64 are the training rows of the references, where pictures are.

    `learned_beside` are arrays of `runtime.reference.LEARNED_BESIDE`; none where no picture is kept.
    """

    novelty: Novelty
    rows: IntArray | None
    reference_labels: IntArray
    brightness: tuple[float, float]
    selftest: NDArray[np.uint8]
    selftest_embeddings: FloatArray | None
    thumbnails: tuple[bytes, ...] | None
    learned_beside: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)

    def distances(self, embeddings: FloatArray, pictures: Pictures, train: Pictures) -> FloatArray:
        """Return the distances float32 [n] of training pictures to their nearest references, of other groups alone."""
        if self.rows is None:
            return self.novelty.distances(embeddings)
        numbers = {group: number for number, group in enumerate(dict.fromkeys(train.groups))}
        own = np.array([numbers[group] for group in pictures.groups], dtype=np.int64)
        of_references = np.array([numbers[train.groups[row]] for row in self.rows.tolist()], dtype=np.int64)
        return self.novelty.distances(embeddings, own, of_references)


def references_in_time(run: Run) -> int:
    """Return how many reference pictures there is time to make thumbnails of: 2,000 at most, and some at least."""
    affordable = int((run.clock.left() - _SECONDS_FOR_THE_REST) / _THUMBNAIL_SECONDS)
    return max(_FEWEST_REFERENCES, min(MAX_REFERENCES, affordable))


def keep(run: Run, fitted: Fitted, train: Pictures, num_classes: int, threads: int, most: int) -> Kept:
    """Choose at most `most` reference pictures, and make their thumbnails.

    With `--no-reference` class means and made-up pictures are kept instead.
    """
    embeddings = fitted.embeddings["train"]
    rows = judge.pick_reference(train.targets, train.digests, most)
    chosen = train.take(rows)
    seen = gallery(chosen.files, chosen.digests, fitted.preprocess, threads, run.cache)
    if not run.recipe.fit.reference:
        means, labels = class_means(embeddings, train.targets, num_classes)
        made_up = synthetic_pictures(fitted.preprocess.image_size)
        return Kept(Novelty.fit(means, _held_out(fitted)), None, labels, seen.brightness, made_up, None, None)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(train.groups))}
    groups = np.array([numbers[group] for group in train.groups], dtype=np.int64)
    held = judge.spaced(fitted.held_out)
    if len(held):
        novelty = Novelty.fit(embeddings[rows], embeddings[held], groups[rows], groups[held])
    else:
        novelty = Novelty.fit(embeddings[rows], _held_out(fitted))
    shown = np.unique(np.linspace(0, len(train) - 1, min(MAX_SELFTEST, len(train))).astype(np.int64))
    tested = train.take(shown)
    pictures = selftest_pictures(tested.files, tested.digests, fitted.preprocess)
    machine = fitted.details.get("learner") in MACHINES  # which is not learned anew on what was rounded
    beside = {} if machine else learned_beside(embeddings, train, rows, novelty)
    return Kept(
        novelty, rows, train.targets[rows], seen.brightness, pictures, embeddings[shown], seen.thumbnails, beside
    )


def learned_beside(
    embeddings: FloatArray, train: Pictures, rows: IntArray, novelty: Novelty
) -> dict[str, NDArray[Any]]:
    """Return how far off the references at `rows` lie, and some thousands of the other pictures in 8 bits.

    With them a class can be added to a bundle as if its training pictures were there, or most of them.
    """
    mean = np.asarray(novelty.arrays()["mean"], dtype=np.float32)
    found: dict[str, NDArray[Any]] = {
        "reference_lengths": np.linalg.norm(embeddings[rows] - mean, axis=1).astype(np.float32),
        "reference_digests": _digests(train, rows),
    }
    left = np.setdiff1d(np.arange(len(train), dtype=np.int64), rows)
    if not len(left):
        return found
    rest = train.take(left)
    others = left[judge.pick_reference(rest.targets, rest.digests, MAX_OTHERS)]
    seen = embeddings[others] - mean
    scales = (np.abs(seen).max(axis=1) / 127.0).astype(np.float32)
    whole = np.rint(seen / np.maximum(scales, np.finfo(np.float32).tiny)[:, None])
    return {
        **found,
        "other_embeddings": whole.clip(-127, 127).astype(np.int8),
        "other_scales": scales,
        "other_labels": train.targets[others].astype(np.int64),
        "other_digests": _digests(train, others),
    }


def _digests(pictures: Pictures, rows: IntArray) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each picture's sha256, of which at least 16 hex digits are known."""
    return np.array([int(pictures.digests[row][:16], 16) for row in rows.tolist()], dtype=np.uint64)


def _held_out(fitted: Fitted) -> FloatArray:
    """Return embeddings of pictures that the trunk did not learn from; of all where there are none such."""
    if len(fitted.held_out):
        return fitted.embeddings["train"][judge.spaced(fitted.held_out)]
    return fitted.embeddings["val"] if len(fitted.embeddings["val"]) else fitted.embeddings["train"]
