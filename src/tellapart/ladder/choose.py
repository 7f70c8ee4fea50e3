"""Which rung wins: a paired comparison of log loss, on pictures that neither rung learned from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.data.manifest import Split
from tellapart.learn.balancing import class_weights_of
from tellapart.learn.rungs import Fitted, FloatArray, IntArray

__all__ = ["ENOUGH_TO_COMPARE", "Candidate", "Crossed", "Ground", "always_one_class", "beats", "candidate"]

ENOUGH_TO_COMPARE = 500
_AS_DEAR = 0.9  # level of the interval for what costs no more to run
_FEW_TO_COMPARE = 20  # pictures: with fewer no comparison of log loss can tell, whatever its interval


@dataclasses.dataclass(frozen=True)
class Ground:
    """Where rungs meet: the targets (class indices) of train and val, and whether classes count equally.

    `train_groups` and `val_groups` name what is not independent; without them every picture is.
    """

    train_targets: IntArray
    val_targets: IntArray
    balanced: bool
    train_groups: tuple[str, ...] | None = None
    val_groups: tuple[str, ...] | None = None

    @property
    def weights(self) -> NDArray[np.float64] | None:
        """A weight for each training picture, float64 [N], by which classes count alike; None where they do not."""
        if not self.balanced:
            return None
        return np.asarray(1.0 / np.bincount(self.train_targets)[self.train_targets], dtype=np.float64)

    def groups_of(self, split: Split, rows: IntArray) -> list[str] | None:
        """Return the group of each of some rows of train or val, or None."""
        groups = self.train_groups if split == "train" else self.val_groups
        return None if groups is None else [groups[row] for row in rows.tolist()]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A rung with its calibration: `temperature` comes from out-of-fold logits, `val_probs` are float64 [n, K].

    `rows` are those of each split's pictures that the rung had the time to look at.
    """

    fitted: Fitted
    temperature: float
    rows: Mapping[Split, IntArray]
    val_probs: NDArray[np.float64]
    seconds: float
    seconds_per_picture: float = 0.0

    @property
    def name(self) -> str:
        """The method, with its backbone where it has one."""
        return self.fitted.method + (f" ({self.fitted.backbone})" if self.fitted.backbone else "")

    @property
    def out_of_fold_rows(self) -> IntArray:
        """The training rows, of all the run's, that were predicted out of fold."""
        return np.asarray(self.rows["train"][self.fitted.out_of_fold.rows])

    def out_of_fold_logits(self) -> FloatArray:
        """Return calibrated logits float32 [n, K] for `out_of_fold_rows`."""
        return np.asarray(self.fitted.out_of_fold.logits / np.float32(self.temperature), dtype=np.float32)

    def out_of_fold_probs(self) -> NDArray[np.float64]:
        """Return calibrated float64 [n, K] for `out_of_fold_rows`."""
        return judge.softmax(self.out_of_fold_logits())

    def left_out_probs(self) -> NDArray[np.float64]:
        """Return what is told of `out_of_fold_rows`, float64 [n, K]: their calibrated predictions.

        `majority` names each the most common class of all: leaving one out would tip that over where classes are of one
        size, and every picture would be named wrong.
        """
        if self.fitted.method != "majority":
            return self.out_of_fold_probs()
        seen = self.fitted.embeddings["train"][self.fitted.out_of_fold.rows]
        return judge.softmax(self.fitted.head.logits(seen) / np.float32(self.temperature))


@dataclasses.dataclass(frozen=True)
class Crossed:
    """Training pictures left out in turn: `rows` int64 [n] of the run's, calibrated `probs` float64 [n, K].

    `count` is the number of folds; `words` say what was done.
    """

    count: int
    rows: IntArray
    probs: NDArray[np.float64]
    words: str


def candidate(
    fitted: Fitted,
    ground: Ground,
    rows: Mapping[Split, IntArray],
    seconds: float,
    seconds_per_picture: float = 0.0,
) -> Candidate:
    """Calibrate a rung on its out-of-fold logits, each class counting equally where they are to."""
    held = fitted.out_of_fold
    temperature = _temperature(held.logits, ground.train_targets[rows["train"][held.rows]], ground)
    val_probs = judge.softmax(fitted.head.logits(fitted.embeddings["val"]) / np.float32(temperature))
    return Candidate(fitted, temperature, rows, val_probs, seconds, seconds_per_picture)


def _temperature(logits: FloatArray, truth: IntArray, ground: Ground) -> float:
    weights = class_weights_of(truth, logits.shape[1])[truth] if ground.balanced and len(truth) else None
    return judge.fit_temperature(logits, truth, weights)


def _before(challenger: Candidate, champion: Candidate, ground: Ground) -> NDArray[np.float64] | None:
    """Return what a probe, fitted on no more than models of folds had that go on from it, says of what these left out.

    Calibrated, float64 [n, K], for the challenger's `out_of_fold_rows`; None where the champion is not that probe.
    """
    before, theirs = challenger.fitted.out_of_fold.before, champion.fitted
    if before is None or theirs.method != "probe" or theirs.backbone != challenger.fitted.backbone:
        return None
    truth = ground.train_targets[challenger.out_of_fold_rows]
    return judge.softmax(before / np.float32(_temperature(before, truth, ground)))


def beats(challenger: Candidate, champion: Candidate, ground: Ground) -> judge.Comparison:
    """Compare a dearer rung with the best so far: on validation when 500 pictures or more are there, else out-of-fold.

    Models of two thirds of the pictures that go on from a probe meet it as it is when fitted on the same two thirds.
    What they give costs no more to run than the probe, so that a one-sided test at 5 % is enough: the 90 % interval.

    Anything better than `majority` is usable, so against it a lower mean is enough; on fewer than 20 pictures, where no
    log loss can tell, it is also enough not to be clearly worse at naming them. Any other champion falls only when the
    whole 95 % interval of the difference is below zero.
    """
    names, level = (challenger.name, champion.name), 0.95
    on_val = np.intersect1d(challenger.rows["val"], champion.rows["val"], return_indices=True)
    on_folds = np.intersect1d(challenger.out_of_fold_rows, champion.out_of_fold_rows, return_indices=True)
    if len(on_val[0]) >= ENOUGH_TO_COMPARE or not len(on_folds[0]):
        rows, ours, theirs = on_val
        targets, groups = ground.val_targets[rows], ground.groups_of("val", rows)
        probs = challenger.val_probs[ours], champion.val_probs[theirs]
    elif (before := _before(challenger, champion, ground)) is not None:
        rows, level = challenger.out_of_fold_rows, _AS_DEAR
        names = names[0], f"{names[1]}, fitted on the same pictures,"
        targets, groups = ground.train_targets[rows], ground.groups_of("train", rows)
        probs = challenger.out_of_fold_probs(), before
    else:
        rows, ours, theirs = on_folds
        targets, groups = ground.train_targets[rows], ground.groups_of("train", rows)
        probs = challenger.out_of_fold_probs()[ours], champion.out_of_fold_probs()[theirs]
    against_majority = champion.fitted.method == "majority"
    found = judge.compare(targets, *probs, ground.balanced, against_majority, names, groups, level)
    if found.better or not against_majority or not 0 < found.n < _FEW_TO_COMPARE:
        return found
    right = probs[0].argmax(axis=1) == targets, (targets == np.bincount(ground.train_targets).argmax())
    worse = (told := judge.paired_accuracy(*right, groups)).clear and told.difference < 0
    words = (
        f"{found.n} pictures are too few to compare the log loss of {names[0]} and {names[1]} on. Of them "
        f"{int(right[0].sum())} are named right, and {int(right[1].sum())} by always naming the most common class: "
        + ("clearly worse." if worse else "not clearly worse, so that what looks at the pictures is kept.")
    )
    return dataclasses.replace(found, better=not worse, words=words)


def always_one_class(found: Candidate, ground: Ground) -> int | None:
    """Return the class that a rung calls every validation picture, where these are of several; None for `majority`."""
    said = np.unique(found.val_probs.argmax(axis=1)) if len(found.val_probs) else np.empty(0, np.int64)
    several = len(np.unique(ground.val_targets[found.rows["val"]])) > 1
    return int(said[0]) if len(said) == 1 and several and found.fitted.method != "majority" else None
