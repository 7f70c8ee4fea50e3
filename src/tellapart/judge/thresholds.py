"""When to answer, when to say `unsure`, when to say `unknown`: two thresholds, chosen on out-of-fold predictions.

A picture is `unsure` when its set of likeliest classes that add up to `min_prob` is more than one (`judge.conformal`).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints, checked_rows
from tellapart.judge.conformal import conformal_mass
from tellapart.runtime.answers import Answer, answer

__all__ = ["Thresholds", "answers", "choose_thresholds"]

# Below one half a calibrated answer is more likely wrong than right.
LOWEST_MIN_PROB = 0.5
# A threshold lies one to two of these steps below the confidence that it was chosen for, so that the last bits of a
# float32 do not decide.
STEPS = 1e6
FEWEST_ANSWERED = 5
USUAL_SET_COVERAGE = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """A picture is answered when its top probability is at least `min_prob` and its novelty at most `max_novelty`.

    One of the targets is what was asked for. `coverage` is the share of the `n` out-of-fold pictures that were answered
    (were none of them unknown), `precision` the share of those that was right (None when none was answered), `reached`
    whether the target was shown to be met. `set_mass` is that of sets of classes which hold the true one with
    probability `set_coverage` (None for both where there are too few pictures).
    """

    min_prob: float
    max_novelty: float
    target_precision: float | None
    coverage: float
    precision: float | None
    n: int
    reached: bool
    target_coverage: float | None = None
    set_mass: float | None = None
    set_coverage: float | None = None

    def as_json(self) -> dict[str, float | int | bool | None]:
        """Return the fields as one JSON object."""
        return dataclasses.asdict(self)


def choose_thresholds(
    targets: Ints,
    probs: Floats,
    target_precision: float = 0.95,
    target_coverage: float | None = None,
    novelty_held_out_quantile: float = 0.95,
) -> Thresholds:
    """Choose from true classes int [N] and calibrated out-of-fold probabilities [N, K].

    For a precision, `min_prob` is just below the lowest confidence seen at which (mistakes + 1) / (answered + 1) is at
    most 1 - target: the precision still holds if the next answer is wrong, which guards against a lucky dip and asks
    for at least 19 answers for 0.95, 99 for 0.99. It is never below 0.5. Where no confidence does, `reached` is False,
    and `min_prob` is the lowest at which the plain precision of 5 or more answers meets the target, else the highest
    seen (1 without rows). `max_novelty` is `novelty_held_out_quantile`, novelty being a percentile already: one in
    twenty ordinary pictures is unknown too, the field's usual point (S. Liang, Y. Li, R. Srikant, arXiv 1706.02690).
    At 0.99, 16% of photos of clothes were unknown to a model of insects, at 0.95 98%, beside 2.6% of insects (n=153).

    For a `target_coverage`, which takes the place of the precision, at least that share of new pictures is answered:
    at most 1 in 20 of them, and no more than half of the rest, is unknown, and `min_prob` leaves the remainder unsure,
    of n pictures the floor((n + 1) * share) least likely ones.

    Raises ValueError for a target or quantile outside (0, 1) and arrays that are not what `checked_rows` asks for.
    Source of the + 1: Angelopoulos et al., "Conformal risk control" (2022).
    """
    for name, share in (
        ("target_precision", target_precision),
        ("target_coverage", 0.5 if target_coverage is None else target_coverage),
        ("novelty_held_out_quantile", novelty_held_out_quantile),
    ):
        if not 0.0 < share < 1.0:
            raise ValueError(f"{name} must be between 0 and 1, got {share}")
    targets, probs = checked_rows(targets, probs)
    n = len(targets)
    confidence, wrong = probs.max(axis=1, initial=0.0), probs.argmax(axis=1) != targets
    max_novelty, reached = novelty_held_out_quantile, False
    if target_coverage is not None:
        unknown = min(1.0 - novelty_held_out_quantile, (1.0 - target_coverage) / 2.0)
        unsure = int((n + 1) * (1.0 - target_coverage - unknown) + 1e-9)
        min_prob = float(_just_below(np.sort(confidence)[unsure - 1])) if unsure else 0.0
        max_novelty, reached = 1.0 - unknown, n > 0
    elif n:
        min_prob, reached = _for_precision(confidence, wrong, target_precision)
    else:
        min_prob = 1.0
    said = confidence >= min_prob
    promised = target_precision if target_coverage is None else USUAL_SET_COVERAGE
    mass = conformal_mass(targets, probs, promised)
    return Thresholds(
        min_prob=min_prob,
        max_novelty=max_novelty,
        target_precision=target_precision if target_coverage is None else None,
        coverage=float(said.mean()) if n else 0.0,
        precision=1.0 - float(wrong[said].mean()) if said.any() else None,
        n=n,
        reached=reached,
        target_coverage=target_coverage,
        set_mass=mass,
        set_coverage=None if mass is None else promised,
    )


def _for_precision(confidence: NDArray[np.float64], wrong: NDArray[np.bool_], target: float) -> tuple[float, bool]:
    """Return `min_prob`, and whether the precision was shown."""
    candidates, answered, mistakes = _counts(confidence, wrong)
    allowed = 1.0 - target + 1e-12
    shown = (mistakes + 1) / (answered + 1) <= allowed
    plain = (mistakes / np.maximum(answered, 1) <= allowed) & (answered >= FEWEST_ANSWERED)
    place = int(np.argmax(shown)) if shown.any() else int(np.argmax(plain)) if plain.any() else len(candidates) - 1
    return float(candidates[place]), bool(shown.any())


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
    candidates = np.unique(np.maximum(_just_below(confidence), LOWEST_MIN_PROB))
    order = np.argsort(confidence, kind="stable")
    first = np.searchsorted(confidence[order], candidates, side="left")
    wrong_from = np.concatenate([np.cumsum(wrong[order][::-1])[::-1], [0]]).astype(np.int64)
    return candidates, (len(confidence) - first).astype(np.int64), wrong_from[first]


def _just_below(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return thresholds that let these confidences pass, whatever their last bits."""
    return np.asarray(np.maximum(0.0, np.floor(np.clip(confidence, 0.0, 1.0) * STEPS) - 1.0) / STEPS)
