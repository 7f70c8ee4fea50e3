"""What would make the model better: the learning curve carried on, and advice with its evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tellapart import judge
from tellapart.events import Steps
from tellapart.ladder.choose import Candidate
from tellapart.learn.curve import LearningCurve, learning_curve
from tellapart.learn.rungs import IntArray, Pictures
from tellapart.report import advice
from tellapart.report.advice import Advice, Curve, CurvePoint

__all__ = ["Coached", "coach"]

_FEWEST_OF_A_CLASS = 15  # held-out predictions, for a curve of its own
_DEFAULT_PENALTY = 0.03


@dataclasses.dataclass(frozen=True)
class Coached:
    """The learning curve where there is one, and at most five pieces of advice, the most promising first."""

    curve: Curve | None
    advice: tuple[Advice, ...]


def coach(
    winner: Candidate,
    train: Pictures,
    total: int,
    classes: Sequence[str],
    balanced: bool,
    suspects: int = 0,
    seed: int = 0,
) -> Steps[Coached]:
    """Return advice for a winner trained on `train`, of `total` training pictures there are.

    Embeddings that the trunk did not learn from give a learning curve by refitting the head; where the trunk itself was
    trained on them there is none. `suspects` says how many labels look wrong.
    """
    fitted = winner.fitted
    labels = advice.look_at_labels(suspects, len(train))
    curve: LearningCurve | None = None
    if len(fitted.held_out) == len(train) and fitted.backbone is not None:
        penalty = fitted.details.get("penalty", _DEFAULT_PENALTY)
        curve = yield from learning_curve(
            fitted.embeddings["train"],
            train.targets,
            len(classes),
            train.groups,
            train.digests,
            float(penalty) if isinstance(penalty, int | float) else _DEFAULT_PENALTY,
            balanced,
            seed,
        )
    if curve is None:
        rows = fitted.out_of_fold.rows
        guesses = winner.out_of_fold_probs().argmax(axis=1) if len(rows) else rows
        mixed = _merge(classes, train.targets[rows], guesses, balanced)
        return Coached(None, advice.best_advice([labels, mixed, advice.more_time(len(train), total, None)]))
    return _from_curve(curve, train, total, classes, balanced, labels, fitted.backbone)


def _merge(classes: Sequence[str], targets: IntArray, guesses: IntArray, balanced: bool) -> Advice | None:
    if len(classes) > judge.MOST_CONFUSED:
        return None
    return advice.merge(classes, judge.confusion(targets, guesses, len(classes)), balanced)


def _from_curve(
    curve: LearningCurve,
    train: Pictures,
    total: int,
    classes: Sequence[str],
    balanced: bool,
    labels: Advice | None,
    backbone: str | None,
) -> Coached:
    counts = np.bincount(curve.targets, minlength=len(classes))
    weights = 1.0 / counts[curve.targets] if balanced else np.ones(len(curve.targets))
    have = float(curve.full)

    def ahead(wanted: float) -> judge.Forecast:
        return judge.forecast(curve.sizes, curve.right, wanted, have, curve.groups, weights)

    twice = ahead(2 * have)
    of_class = []
    trained = np.bincount(train.targets, minlength=len(classes))
    for label in np.flatnonzero(counts >= _FEWEST_OF_A_CLASS).tolist():
        at = curve.targets == label
        found = judge.forecast(curve.sizes, curve.right[:, at], 2 * have, have, curve.groups[at])
        share = 1 / len(classes) if balanced else counts[label] / counts.sum()
        of_class.append(advice.more_of_a_class(classes[label], found, int(trained[label]), float(share)))
    first = advice.best_advice(of_class)[:1] if len(classes) > 2 or balanced else ()
    candidates = [
        advice.more_pictures(twice, len(train), balanced),
        *first,
        _merge(classes, curve.targets, curve.predicted, balanced),
        labels,
        advice.more_time(len(train), total, ahead(float(total)) if total > len(train) else None),
        advice.other_features(twice, backbone),
    ]
    return Coached(_drawn(curve, weights, balanced, [ahead(have), twice]), advice.best_advice(candidates))


def _drawn(curve: LearningCurve, weights: np.ndarray, balanced: bool, beyond: Sequence[judge.Forecast]) -> Curve:
    shares = weights / weights.sum()
    points = []
    for size, right in zip(curve.sizes.tolist(), curve.right, strict=True):
        value = float(right @ shares)
        half = 1.96 * float(np.sqrt(np.square(shares) @ np.square(right - value)))
        points.append(CurvePoint(size, value, max(0.0, value - half), min(1.0, value + half)))
    points += [CurvePoint(found.size, found.value, found.low, found.high, forecast=True) for found in beyond]
    return Curve(tuple(points), len(curve.targets), balanced)
