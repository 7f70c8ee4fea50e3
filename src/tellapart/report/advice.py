"""What would make the model better, in at most five sentences, each with its evidence and what to expect of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge import Forecast, clopper_pearson
from tellapart.report.words import amount, interval, percent, quoted

__all__ = [
    "MOST_ADVICE",
    "Advice",
    "Curve",
    "CurvePoint",
    "best_advice",
    "look_at_labels",
    "merge",
    "more_of_a_class",
    "more_pictures",
    "more_time",
    "other_features",
]

MOST_ADVICE = 5
_LITTLE = 0.003  # of accuracy: what promises less is not worth a sentence
_FEW_MIXED = 8  # confusions of a pair before merging is spoken of
_MIXED = 0.15  # of the pair's pictures


@dataclasses.dataclass(frozen=True, slots=True)
class Advice:
    """What to do, why, and the accuracy (0..1) it is expected to add, with a 95 % interval; None: cannot be told."""

    kind: str
    sentence: str
    evidence: str
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class CurvePoint:
    """Accuracy (0..1) with `size` training pictures, and its 95 % interval; `forecast` where no head was fitted."""

    size: float
    accuracy: float
    low: float
    high: float
    forecast: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Curve:
    """The learning curve, on `n` held-out predictions, with what is forecast beyond its end."""

    points: tuple[CurvePoint, ...]
    n: int
    balanced: bool = False


def best_advice(candidates: Sequence[Advice | None]) -> tuple[Advice, ...]:
    """Return the five that promise most, the best first; those whose gain cannot be told come last."""
    found = [advice for advice in candidates if advice is not None]
    found.sort(key=lambda advice: (advice.gain is None, -(advice.gain or 0.0)))
    return tuple(found[:MOST_ADVICE])


def more_pictures(found: Forecast, have: int, balanced: bool) -> Advice | None:
    """Say what twice the pictures would bring, or that they would bring little."""
    name = "balanced accuracy" if balanced else "accuracy"
    evidence = (
        f"Heads refitted on growing shares of the {amount(have)} training pictures, on {amount(found.n)} "
        "predictions out of fold."
    )
    now = percent(found.now, found.n)
    if found.gain_high < 2 * _LITTLE or found.gain < _LITTLE:
        most = max(0.0, found.gain_high)
        text = (
            f"More pictures of the same kind would bring little: twice as many, at the most {_points(most)} of {name} "
            f"({now} now)."
        )
        return Advice("enough_pictures", text, evidence, max(0.0, found.gain), max(0.0, found.gain_low), most)
    # The gain and not the accuracy reached: both rest on the same pictures, so that the gain is surer.
    between = f"95% interval {100 * found.gain_low:.1f} to {100 * found.gain_high:.1f}"
    text = (
        f"Twice the pictures ({amount(have)} more) would raise {name} by about {_points(found.gain)} ({between}), "
        f"from {now} now."
    )
    return Advice("more_pictures", text, evidence, found.gain, found.gain_low, found.gain_high)


def more_of_a_class(label: str, found: Forecast, have: int, share: float) -> Advice | None:
    """Say which class to photograph: `have` pictures of it are trained on, it counts as `share` of all (0..1)."""
    if found.gain_low <= 0 or found.gain * share < _LITTLE / 3:
        return None
    now, then = percent(found.now, found.n), percent(found.value, found.n)
    text = (
        f"Photograph {quoted(label)} first, {amount(max(10, have))} more to begin with: of its pictures {now} are "
        f"found now, and about {then} would be with twice as many of each class."
    )
    evidence = (
        f"Its own learning curve, on {amount(found.n)} predictions out of fold; 95% interval "
        f"{interval(found.low, found.high, found.n)}."
    )
    gains = (found.gain * share, found.gain_low * share, found.gain_high * share)
    return Advice("more_of_a_class", text, evidence, *gains)


def merge(classes: Sequence[str], confusion: NDArray[np.int64], balanced: bool) -> Advice | None:
    """Name the two classes taken for each other most, where that is often; `confusion` int [K, K], row: true class."""
    mixed = np.triu(confusion + confusion.T, 1)
    of_pair = confusion.sum(axis=1)[:, None] + confusion.sum(axis=1)[None, :]
    shares = np.where(mixed >= _FEW_MIXED, mixed / np.maximum(1, of_pair), 0.0)
    if len(classes) < 3 or not shares.size or shares.max() < _MIXED:
        return None
    first, second = (int(index) for index in np.unravel_index(int(shares.argmax()), shares.shape))
    count, pair, total = int(mixed[first, second]), int(of_pair[first, second]), int(confusion.sum())
    low, high = clopper_pearson(count, total) or (0.0, 1.0)
    text = (
        f"If you need not tell {quoted(classes[first])} from {quoted(classes[second])}, make them one class: "
        f"{amount(count)} of their {amount(pair)} pictures are taken for the other."
    )
    about = " (counted in pictures, not in classes)" if balanced else ""
    evidence = f"Of {amount(total)} predictions out of fold, {percent(count / total)} are this mistake{about}."
    return Advice("merge", text, evidence, count / total, low, high)


def look_at_labels(count: int, total: int) -> Advice | None:
    """Say how many labels look wrong: `count` of `total` training pictures."""
    if count < 3:
        return None
    _, high = clopper_pearson(count, total) or (0.0, 1.0)
    text = f"Look at the {amount(count)} labels that may be wrong; correcting takes minutes, and each is a mistake now."
    evidence = (
        f"Of {amount(total)} training pictures {percent(count / total)} are predicted, by models that did not see "
        "them, to be of another class with confidence."
    )
    return Advice("labels", text, evidence, 0.5 * count / total, 0.0, high)


def more_time(used: int, total: int, found: Forecast | None) -> Advice | None:
    """Say what a longer budget would bring where it paid for `used` of `total` training pictures alone."""
    if used >= total:
        return None
    text = f"Give it more time: the budget paid for {amount(used)} of {amount(total)} training pictures."
    if found is None:
        return Advice("more_time", text, "What the others would add cannot be told from this run.")
    evidence = f"The learning curve, on {amount(found.n)} predictions out of fold, carried on to all of them."
    return Advice("more_time", text, evidence, found.gain, found.gain_low, found.gain_high)


def other_features(found: Forecast, backbone: str | None) -> Advice | None:
    """Say that more pictures alone will not do, where the curve is flat and mistakes remain."""
    if found.now > 0.95 or found.gain > 0.02:
        return None
    means = "tuning the backbone to these pictures" if backbone else "a pretrained backbone (--backbone NAME)"
    text = (
        f"At {percent(found.now, found.n)} the learning curve is nearly flat: a larger backbone, larger pictures or "
        f"{means} would help more than more pictures."
    )
    evidence = (
        f"Twice the pictures would add about {_points(max(0.0, found.gain))}; what other features would add cannot be "
        "told from this run."
    )
    return Advice("other_features", text, evidence)


def _points(gain: float) -> str:
    return f"{100 * gain:.1f} points"
