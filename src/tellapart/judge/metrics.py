"""How good predictions are: the numbers of the JSON contract, with their intervals, for a split and for each class.

The predicted class is the likeliest one; of several equally likely ones, the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints, checked_rows, row_losses
from tellapart.judge.intervals import clopper_pearson, mean_interval, mean_of_proportions

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

ECE_BINS = 15

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
    - `ece`: expected calibration error over 15 bins of equal width of the top probability. Source: Guo et al., "On
      calibration of modern neural networks" (2017).

    The interval of macro F1 is doubled in variance, since a mistake lowers two classes at once. Raises ValueError for
    arrays that are not what `checked_rows` asks for.
    """
    targets, probs = checked_rows(targets, probs)
    n = len(targets)
    if n == 0:
        return Metrics(0, None, None, None, None, None, None, None)
    hits, true, predicted = _counts(targets, probs)
    recalls = [(int(hit), int(count)) for hit, count in zip(hits, true, strict=True) if count]
    # F1 = 2 J / (1 + J) with J the Jaccard index: hits among the pictures that are or were said to be of the class.
    overlaps = [(int(hit), int(union)) for hit, union in zip(hits, true + predicted - hits, strict=True) if union]
    f1s = [_f1_of_jaccard(hit / union) for hit, union in overlaps]
    f1_bounds = [(_f1_of_jaccard(low), _f1_of_jaccard(high)) for low, high in _bounds(overlaps)]
    losses = row_losses(targets, probs)
    low, high = _pair(clopper_pearson(int(hits.sum()), n))
    balanced_low, balanced_high = _pair(mean_of_proportions([hit / count for hit, count in recalls], _bounds(recalls)))
    f1_low, f1_high = _pair(mean_of_proportions(f1s, f1_bounds, dependence=2.0))
    loss_low, loss_high = _pair(mean_interval(losses))
    return Metrics(
        n=n,
        accuracy=float(hits.sum()) / n,
        accuracy_low=low,
        accuracy_high=high,
        balanced_accuracy=sum(hit / count for hit, count in recalls) / len(recalls),
        macro_f1=sum(f1s) / len(f1s),
        log_loss=float(losses.mean()),
        ece=_ece(targets, probs),
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
    # Bins are open below and closed above, as Guo et al. have them; rounding may leave a top probability above 1.
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
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


def _ece(targets: NDArray[np.int64], probs: NDArray[np.float64]) -> float:
    gaps = [
        row.n * abs(row.confidence - row.accuracy)
        for row in reliability(targets, probs, ECE_BINS)
        if row.confidence is not None and row.accuracy is not None
    ]
    return sum(gaps) / len(targets)


def _f1_of_jaccard(share: float) -> float:
    return 2.0 * share / (1.0 + share)


def _bounds(counts: Sequence[tuple[int, int]]) -> list[tuple[float, float]]:
    """Return the exact interval of each (hits, trials), trials > 0."""
    return [bounds for hits, trials in counts if (bounds := clopper_pearson(hits, trials)) is not None]


def _pair(bounds: tuple[float, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if bounds is None else bounds
