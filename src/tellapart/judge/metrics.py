"""How good predictions are: the numbers of the JSON contract, with their intervals, for a split and for each class.

The predicted class is the likeliest one; of several equally likely ones, the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints, checked_rows, row_losses
from tellapart.judge.calibration_error import bin_places, expected_error
from tellapart.judge.intervals import effective_interval, mean_interval
from tellapart.judge.shares import Codes, Share, cluster_codes, cluster_sums, design_effect, share_of

__all__ = [
    "MOST_CONFUSED",
    "ClassMetrics",
    "Metrics",
    "ReliabilityBin",
    "confusion",
    "metrics",
    "per_class",
    "reliability",
]

MOST_CONFUSED = 1000  # classes: a confusion table of more has too many cells for memory, files and readers


@dataclasses.dataclass(frozen=True, slots=True)
class Metrics:
    """Numbers of one split, over `n` pictures; all None when `n` is 0.

    Shares are in [0, 1], `log_loss` is in nats. `_low` and `_high` are 95 % intervals: exact for accuracy (Clopper and
    Pearson), approximate for the others. The fields after `ece` are not part of the JSON contract;
    `groups` says how many independent chances the pictures are.
    """

    n: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    balanced_accuracy: float | None
    macro_f1: float | None
    log_loss: float | None
    ece: float | None
    balanced_accuracy_low: float | None = None
    balanced_accuracy_high: float | None = None
    macro_f1_low: float | None = None
    macro_f1_high: float | None = None
    log_loss_low: float | None = None
    log_loss_high: float | None = None
    groups: int = 0

    def as_json(self) -> dict[str, int | float | None]:
        """Return the metrics object of the JSON contract, its keys in the contract's order."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_low": self.accuracy_low,
            "accuracy_high": self.accuracy_high,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "ece": self.ece,
        }

    def intervals(self) -> dict[str, float | None]:
        """Return the ends of the intervals that the contract has no keys for, as `<metric>_low` and `<metric>_high`."""
        names = ("balanced_accuracy", "macro_f1", "log_loss")
        return {f"{name}_{end}": getattr(self, f"{name}_{end}") for name in names for end in ("low", "high")}


@dataclasses.dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Numbers of one class: `n` pictures are of it, `predicted` were said to be.

    `recall` is None without pictures of the class, `precision` where it was never predicted, `f1` where both hold.
    `_low` and `_high` are exact 95 % intervals given the counts; that of F1 given how many pictures are of the class or
    were said to be.
    """

    label: str
    n: int
    predicted: int
    precision: float | None
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    f1: float | None
    f1_low: float | None = None
    f1_high: float | None = None

    def as_json(self) -> dict[str, str | int | float | None]:
        """Return the fields as one JSON object."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pictures whose top probability is in (`low`, `high`]: how many, how sure (mean), how often right (mean)."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


def metrics(targets: Ints, probs: Floats, groups: Sequence[str] | Ints | None = None) -> Metrics:
    """Return the metrics of probabilities [N, K] against true classes int [N].

    `groups` [N] are equal for pictures that are not independent (a film, copies): intervals are as wide as groups are
    few, by the design effect of each number (`shares.design_effect`).

    - `balanced_accuracy`: mean recall over the classes present in `targets`.
    - `macro_f1`: mean F1 over the classes present in `targets` or predicted; F1 without a hit is 0.
    - `log_loss`: mean of -ln(probability of the true class), clipped at `PROB_FLOOR` (1e-7).
    - `ece`: see `calibration_error`, which also gives its interval.

    The intervals of balanced accuracy and macro F1 are `effective_interval`s. With classes of a few pictures each they
    hold the truth somewhat less often than they say: the F1 of few pictures is too low on average. Raises ValueError
    for arrays that are not what `checked_rows` asks for.
    """
    targets, probs = checked_rows(targets, probs)
    n = len(targets)
    if n == 0:
        return Metrics(0, None, None, None, None, None, None, None)
    codes = cluster_codes(groups)
    called = probs.argmax(axis=1)
    right = called == targets
    hits, true, predicted = _counts(targets, probs)
    present = true > 0
    recalls = hits / np.maximum(true, 1)
    balanced = float(recalls[present].mean())
    f1, moved = _macro_f1(targets, called, hits, true + predicted)
    # If every class is found equally often, the mean over classes is worth so many pictures.
    worth = min(float(n), int(present.sum()) ** 2 / float((1.0 / true[present]).sum()))
    of_recall, of_f1 = (design_effect(part, codes) for part in ((right - recalls[targets]) / true[targets], moved))
    losses = row_losses(targets, probs)
    low, high = share_of(right, codes).exact()
    variance = _balanced_variance(hits, true, balanced) * of_recall
    balanced_low, balanced_high = effective_interval(balanced, variance, worth / of_recall)
    f1_low, f1_high = effective_interval(f1, float(moved @ moved) * of_f1, worth / of_f1)
    mean = float(losses.mean())
    sums = cluster_sums(losses - mean, codes)
    loss_low, loss_high = _pair(mean_interval(mean + sums * (len(sums) / n)))
    return Metrics(
        n=n,
        accuracy=float(right.mean()),
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=balanced,
        macro_f1=f1,
        log_loss=mean,
        ece=expected_error(targets, probs),
        balanced_accuracy_low=balanced_low,
        balanced_accuracy_high=balanced_high,
        macro_f1_low=f1_low,
        macro_f1_high=f1_high,
        log_loss_low=None if loss_low is None else max(0.0, loss_low),
        log_loss_high=loss_high,
        groups=len(sums),
    )


def per_class(
    targets: Ints, probs: Floats, classes: Sequence[str], groups: Sequence[str] | Ints | None = None
) -> tuple[ClassMetrics, ...]:
    """Return the metrics of each class, in the order of `classes` [K], also of those without any picture.

    `groups` are as in `metrics`.
    """
    targets, probs = checked_rows(targets, probs)
    num_classes = len(classes)
    if num_classes != probs.shape[1]:
        raise ValueError(f"classes must name the {probs.shape[1]} columns of probs, got {num_classes}")
    codes, called = cluster_codes(groups), probs.argmax(axis=1)
    right = called == targets
    # Every picture under its class and, if another, under what it was called.
    wrong = np.flatnonzero(~right)
    rows = np.concatenate([np.arange(len(targets)), wrong])
    shares = zip(
        classes,
        _shares(targets, right, codes, num_classes),
        _shares(called, right, codes, num_classes),
        _shares(
            np.concatenate([targets, called[wrong]]), right[rows], None if codes is None else codes[rows], num_classes
        ),
        strict=True,
    )
    found = []
    for label, recall, precision, overlap in shares:
        recall_low, recall_high = _pair(recall.exact() if recall else None)
        precision_low, precision_high = _pair(precision.exact() if precision else None)
        overlap_low, overlap_high = _pair(overlap.exact() if overlap else None)
        found.append(
            ClassMetrics(
                label=label,
                n=recall.n if recall else 0,
                predicted=precision.n if precision else 0,
                precision=precision.value if precision else None,
                precision_low=precision_low,
                precision_high=precision_high,
                recall=recall.value if recall else None,
                recall_low=recall_low,
                recall_high=recall_high,
                f1=_f1_of_jaccard(overlap.value) if overlap else None,
                f1_low=None if overlap_low is None else _f1_of_jaccard(overlap_low),
                f1_high=None if overlap_high is None else _f1_of_jaccard(overlap_high),
            )
        )
    return tuple(found)


def _shares(classes: NDArray[np.int64], right: NDArray[np.bool_], codes: Codes, num_classes: int) -> list[Share | None]:
    """Return for each class the share of `right` [M] among the rows with it; None for a class that no row has."""
    counts = np.bincount(classes, minlength=num_classes)
    if codes is None:
        hits = np.bincount(classes, weights=right, minlength=num_classes).astype(np.int64)
        pairs = zip(hits.tolist(), counts.tolist(), strict=True)
        return [Share(hit, count, float(count)) if count else None for hit, count in pairs]
    order = np.argsort(classes, kind="stable")
    parts = np.split(order, np.cumsum(counts)[:-1])
    return [share_of(right[part], codes[part]) if len(part) else None for part in parts]


def _f1_of_jaccard(share: float) -> float:
    """Return F1 = 2 J / (1 + J), J being the hits among the pictures that are or were said to be of the class."""
    return 2.0 * share / (1.0 + share)


def _counts(targets: Ints, probs: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each class, how many pictures were rightly called it, are of it, were called it: int64 [K] each."""
    called, num_classes = probs.argmax(axis=1), probs.shape[1]
    parts = (targets[called == targets], targets, called)
    hits, true, predicted = (np.bincount(part, minlength=num_classes).astype(np.int64) for part in parts)
    return hits, true, predicted


def confusion(targets: Ints, predicted: Ints, num_classes: int) -> NDArray[np.int64]:
    """Return counts int64 [K, K]: row is the true class, column the predicted one. Raises ValueError outside [0, K)."""
    targets, predicted = np.asarray(targets, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if targets.shape != predicted.shape or targets.ndim != 1:
        raise ValueError(f"targets and predicted must both be [N], got {targets.shape} and {predicted.shape}")
    for name, values in (("targets", targets), ("predicted", predicted)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            raise ValueError(f"{name} must be in [0, {num_classes}), got {values.min()} to {values.max()}")
    counts = np.bincount(targets * num_classes + predicted, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def reliability(targets: Ints, probs: Floats, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """Return `bins` bins of equal width of the top probability, empty ones included (with None)."""
    targets, probs = checked_rows(targets, probs)
    confidence = probs.max(axis=1) if len(probs) else np.zeros(0)
    right = probs.argmax(axis=1) == targets
    places = bin_places(confidence, bins)
    counts = np.bincount(places, minlength=bins)
    sure = np.bincount(places, weights=confidence, minlength=bins)
    hits = np.bincount(places, weights=right, minlength=bins)
    return tuple(
        ReliabilityBin(
            low=place / bins,
            high=(place + 1) / bins,
            n=int(counts[place]),
            confidence=float(sure[place] / counts[place]) if counts[place] else None,
            accuracy=float(hits[place] / counts[place]) if counts[place] else None,
        )
        for place in range(bins)
    )


def _balanced_variance(hits: Ints, true: Ints, balanced: float) -> float:
    """Return the variance of the mean recall, each class's own drawn towards the mean by one picture."""
    hits, true = hits[true > 0], true[true > 0]
    drawn = (hits + balanced) / (true + 1.0)
    return float((drawn * (1.0 - drawn) / true).sum()) / len(true) ** 2


def _macro_f1(targets: Ints, called: Ints, hits: Ints, said: Ints) -> tuple[float, NDArray[np.float64]]:
    """Return the mean F1 of the classes that are there or were predicted, and how far each picture moves it."""
    weight = 1.0 / np.maximum(said, 1)
    f1 = 2.0 * hits * weight
    moved = np.where(called == targets, 2.0 * weight[targets], 0.0) - (f1 * weight)[targets] - (f1 * weight)[called]
    count = int((said > 0).sum())
    return float(f1.sum()) / count, moved / count


def _pair(bounds: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if bounds is None else bounds
