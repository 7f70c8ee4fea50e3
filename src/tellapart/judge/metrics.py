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
from tellapart.judge.intervals import clopper_pearson, effective_interval, mean_interval

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
    Pearson), approximate for the others. The fields after `ece` are not part of the JSON contract.
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
    `_low` and `_high` are exact 95 % intervals given the counts.
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


def metrics(targets: Ints, probs: Floats) -> Metrics:
    """Return the metrics of probabilities [N, K] against true classes int [N].

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
    hits, true, predicted = _counts(targets, probs)
    recalls = hits[true > 0] / true[true > 0]
    balanced = float(recalls.mean())
    f1, f1_variance = _macro_f1(targets, probs.argmax(axis=1), hits, true + predicted)
    # If every class is found equally often, the mean over classes is worth so many pictures.
    worth = min(float(n), len(recalls) ** 2 / float((1.0 / true[true > 0]).sum()))
    losses = row_losses(targets, probs)
    low, high = _pair(clopper_pearson(int(hits.sum()), n))
    balanced_low, balanced_high = effective_interval(balanced, _balanced_variance(hits, true, balanced), worth)
    f1_low, f1_high = effective_interval(f1, f1_variance, worth)
    loss_low, loss_high = _pair(mean_interval(losses))
    return Metrics(
        n=n,
        accuracy=float(hits.sum()) / n,
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=balanced,
        macro_f1=f1,
        log_loss=float(losses.mean()),
        ece=expected_error(targets, probs),
        balanced_accuracy_low=balanced_low,
        balanced_accuracy_high=balanced_high,
        macro_f1_low=f1_low,
        macro_f1_high=f1_high,
        log_loss_low=None if loss_low is None else max(0.0, loss_low),
        log_loss_high=loss_high,
    )


def per_class(targets: Ints, probs: Floats, classes: Sequence[str]) -> tuple[ClassMetrics, ...]:
    """Return the metrics of each class, in the order of `classes` [K], also of those without any picture."""
    targets, probs = checked_rows(targets, probs)
    if len(classes) != probs.shape[1]:
        raise ValueError(f"classes must name the {probs.shape[1]} columns of probs, got {len(classes)}")
    rows = []
    for label, *counted in zip(classes, *_counts(targets, probs), strict=True):
        hits, n, predicted = map(int, counted)
        precision_low, precision_high = _pair(clopper_pearson(hits, predicted))
        recall_low, recall_high = _pair(clopper_pearson(hits, n))
        rows.append(
            ClassMetrics(
                label=label,
                n=n,
                predicted=predicted,
                precision=hits / predicted if predicted else None,
                precision_low=precision_low,
                precision_high=precision_high,
                recall=hits / n if n else None,
                recall_low=recall_low,
                recall_high=recall_high,
                f1=2 * hits / (n + predicted) if n + predicted else None,
            )
        )
    return tuple(rows)


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


def _macro_f1(targets: Ints, called: Ints, hits: Ints, said: Ints) -> tuple[float, float]:
    """Return the mean F1 of the classes that are there or were predicted, and its variance by the delta method."""
    weight = 1.0 / np.maximum(said, 1)
    f1 = 2.0 * hits * weight
    # What one more picture of a class, called another or the same, would add to the sum of F1.
    moved = np.where(called == targets, 2.0 * weight[targets], 0.0) - (f1 * weight)[targets] - (f1 * weight)[called]
    count = int((said > 0).sum())
    return float(f1.sum()) / count, float(moved @ moved) / count**2


def _pair(bounds: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if bounds is None else bounds
