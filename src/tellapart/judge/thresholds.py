"""When to answer, when to say `unsure`, when to say `unknown`: two thresholds, chosen on out-of-fold predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints, checked_rows
from tellapart.runtime.answers import Answer, answer

__all__ = ["Thresholds", "answers", "choose_thresholds"]

# Below one half a calibrated answer is more likely wrong than right.
LOWEST_MIN_PROB = 0.5
# A threshold lies one to two of these steps below the confidence that it was chosen for, so that the last bits of a
# float32 do not decide.
STEPS = 1e6
FEWEST_ANSWERED = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """A picture is answered when its top probability is at least `min_prob` and its novelty at most `max_novelty`.

    `coverage` is the share of the `n` out-of-fold pictures that were answered, `precision` the share of those that was
    right (None when none was answered), `reached` whether `target_precision` was shown to be met.
    """

    min_prob: float
    max_novelty: float
    target_precision: float
    coverage: float
    precision: float | None
    n: int
    reached: bool

    def as_json(self) -> dict[str, float | int | bool | None]:
        """Return the fields as one JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Thresholds:
        """Return the thresholds that `as_json` came from. Raises ValueError when a field is missing or out of range."""
        names = {field.name for field in dataclasses.fields(cls)}
        if set(value) != names:
            raise ValueError(f"thresholds must have exactly the fields {sorted(names)}, got {sorted(value)}")
        for name in ("min_prob", "max_novelty", "target_precision", "coverage", "precision"):
            number = value[name]
            if number is None and name == "precision":
                continue
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0.0 <= number <= 1.0:
                raise ValueError(f"the threshold field {name} must be a number from 0 to 1, got {number!r}")
        if isinstance(value["n"], bool) or not isinstance(value["n"], int) or value["n"] < 0:
            raise ValueError(f"the threshold field n must be a whole number from 0, got {value['n']!r}")
        if not isinstance(value["reached"], bool):
            raise ValueError(f"the threshold field reached must be true or false, got {value['reached']!r}")
        return cls(**value)


def choose_thresholds(
    targets: Ints, probs: Floats, target_precision: float = 0.95, novelty_held_out_quantile: float = 0.99
) -> Thresholds:
    """Choose from true classes int [N] and calibrated out-of-fold probabilities [N, K].

    `min_prob` is just below the lowest confidence seen at which (mistakes + 1) / (answered + 1) is at most 1 - target:
    the precision still holds if the next answer is wrong, which guards against a lucky dip and asks for at least 19
    answers for 0.95, 99 for 0.99. It is never below 0.5. Where no confidence does, `reached` is False, and `min_prob`
    is the lowest at which the plain precision of 5 or more answers meets the target, else the highest seen (1 without
    rows). `max_novelty` is `novelty_held_out_quantile`, novelty being a percentile already. Raises ValueError for a
    target or quantile outside (0, 1) and arrays that are not what `checked_rows` asks for. Source of the + 1:
    Angelopoulos et al., "Conformal risk control" (2022).
    """
    for name, share in (
        ("target_precision", target_precision),
        ("novelty_held_out_quantile", novelty_held_out_quantile),
    ):
        if not 0.0 < share < 1.0:
            raise ValueError(f"{name} must be between 0 and 1, got {share}")
    targets, probs = checked_rows(targets, probs)
    n = len(targets)
    if n == 0:
        return Thresholds(1.0, novelty_held_out_quantile, target_precision, 0.0, None, 0, False)
    wrong = probs.argmax(axis=1) != targets
    candidates, answered, mistakes = _counts(probs.max(axis=1), wrong)
    allowed = 1.0 - target_precision + 1e-12
    shown = (mistakes + 1) / (answered + 1) <= allowed
    plain = (mistakes / np.maximum(answered, 1) <= allowed) & (answered >= FEWEST_ANSWERED)
    place = int(np.argmax(shown)) if shown.any() else int(np.argmax(plain)) if plain.any() else len(candidates) - 1
    return Thresholds(
        min_prob=float(candidates[place]),
        max_novelty=novelty_held_out_quantile,
        target_precision=target_precision,
        coverage=float(answered[place]) / n,
        precision=1.0 - float(mistakes[place] / answered[place]) if answered[place] else None,
        n=n,
        reached=bool(shown.any()),
    )


def answers(probs: Floats, novelty: Floats, thresholds: Thresholds) -> list[Answer]:
    """Return an answer for each row of probabilities [N, K] with novelty [N].

    `unknown` when the picture is more novel than `max_novelty`, else `unsure` when its top probability is below
    `min_prob`, else `label`.
    """
    probs, novelty = np.asarray(probs), np.asarray(novelty)
    if probs.ndim != 2 or novelty.shape != probs.shape[:1]:
        raise ValueError(f"probs must be [N, K] and novelty [N], got {probs.shape} and {novelty.shape}")
    return [
        answer(top, new, thresholds.min_prob, thresholds.max_novelty)
        for top, new in zip(probs.max(axis=1, initial=0.0).tolist(), novelty.tolist(), strict=True)
    ]


def _counts(
    confidence: NDArray[np.float64], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the candidate thresholds, rising, with how many rows each answers and how many of those are wrong."""
    steps = np.floor(np.clip(confidence, 0.0, 1.0) * STEPS) - 1.0
    candidates = np.unique(np.maximum(steps / STEPS, LOWEST_MIN_PROB))
    order = np.argsort(confidence, kind="stable")
    first = np.searchsorted(confidence[order], candidates, side="left")
    wrong_from = np.concatenate([np.cumsum(wrong[order][::-1])[::-1], [0]]).astype(np.int64)
    return candidates, (len(confidence) - first).astype(np.int64), wrong_from[first]
