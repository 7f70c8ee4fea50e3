"""Pictures of bad quality, told by how odd they are in their own set: X-rays may be grey, night pictures dark."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tellapart.data.audit.alike import clusters
from tellapart.data.audit.evidence import Evidence, Floats
from tellapart.data.audit.finding import Finding
from tellapart.data.audit.robust import deviations, logit_level

__all__ = ["Flaw", "flaws", "quality"]

_DEVIATIONS = 4.5
_BLANK_CONTRAST = 2.0
# What few pictures have is odd; what more have is one of the ways that pictures of this set look.
_RARE = 0.05
_PLACEHOLDER_COPIES = 4
# Levels; more where JPEG blurs a border of a few pixels.
_FLAT_BORDER, _FLAT_BORDER_OF_SMALL, _SMALL_PX = 2.0, 4.5, 128
_OTHER_COLOUR = 24.0  # levels
_FEWEST = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that can be wrong: its name, a plain word for it, and a score for each picture, 0 where it is not."""

    name: str
    words: str
    score: Floats


def quality(evidence: Evidence) -> Finding | None:
    """Return pictures that are blank, dark, bright, blurred, empty, very small, of odd shape, grey or framed."""
    if len(evidence) == 0:
        return None
    found = list(flaws(evidence))
    scores = np.stack([flaw.score for flaw in found]) * evidence.open
    if not (scores > 0).any():
        return None
    rows = []
    for row in np.flatnonzero(scores.max(axis=0) > 0).tolist():
        said = [flaw.words for flaw, score in zip(found, scores[:, row], strict=True) if score > 0]
        rows.append(evidence.suspect(row, scores[:, row].max(), ", ".join(said)))
    counts = [
        f"{count:,} {flaw.words}" for flaw, count in zip(found, (scores > 0).sum(axis=1).tolist(), strict=True) if count
    ]
    return Finding.of(
        "quality",
        0.05 + len(rows) / len(evidence),
        rows,
        f"{len(rows):,} of {len(evidence):,} pictures are odd in this set: {', '.join(counts)}.",
        "Look at them; drop those that show nothing, and keep the rest if such pictures will come later, too.",
    )


def flaws(evidence: Evidence) -> Iterator[Flaw]:
    """Yield what can be wrong with a picture; thresholds are robust deviations from the set's own median."""
    m = evidence.measures
    names = ("brightness", "contrast", "entropy", "sharpness", "slope", "saturation")
    brightness, contrast, entropy, sharpness, slope, saturation = (m[name].astype(np.float64) for name in names)
    blank = contrast < _BLANK_CONTRAST
    yield Flaw("blank", "blank", np.where(blank, 1.0, 0.0))
    seen = ~blank
    light = deviations(np.where(seen, logit_level(brightness), np.nan), 0.25)
    yield _beyond("dark", "very dark", -light, seen & (brightness < 64))
    yield _beyond("bright", "very bright", light, seen & (brightness > 191))
    # Sharpness goes with contrast: what is left is how fine the detail is. And it goes with how steep edges are: what
    # is left is how narrow they are, which differs less from picture to picture. Blurred is what is odd by either.
    detail = np.log((sharpness + 0.1) / (contrast + 1.0))
    narrow = np.log((sharpness + 0.1) / (slope + 1.0))
    soft = [-deviations(np.where(seen, of, np.nan), least) for of, least in ((detail, 0.2), (narrow, 0.15))]
    yield _beyond("blurred", "blurred", np.maximum(*soft), seen)
    yield _beyond("low_information", "with little information", -deviations(entropy, 0.4), seen & (entropy < 4.0))
    sizes = np.log(np.maximum(evidence.sizes.astype(np.float64), 1))
    # A picture that is larger than the others is no worse than they are: it is looked at in small.
    small = -deviations(sizes.sum(axis=1), 0.4)
    shape = np.abs(deviations(sizes[:, 0] - sizes[:, 1], 0.2))
    yield _rare("odd_size", "very small or of odd shape", _over(np.maximum(small, shape), 1.4 * _DEVIATIONS))
    colourless = evidence.grey | (saturation < 1.0)
    yield _rare("grey", "grey among colour", np.where(colourless & seen, 0.6, 0.0))
    flat = np.where(evidence.sizes.max(axis=1) < _SMALL_PX, _FLAT_BORDER_OF_SMALL, _FLAT_BORDER)
    framed = (m["border_spread"] < flat) & seen & _stands_out(evidence)
    yield _rare("border", "with a border of one colour", np.where(framed, 0.55, 0.0))
    yield Flaw("placeholder", "stand-ins such as “no picture”", _placeholders(evidence, entropy))


def _stands_out(evidence: Evidence) -> NDArray[np.bool_]:
    """Return whether what lies inside of the border has another colour on all sides, as it has not on white paper."""
    inner = evidence.thumbnails[:, 1:-1, 1:-1].astype(np.float64)
    ring = np.concatenate([inner[:, 0], inner[:, -1], inner[:, 1:-1, 0], inner[:, 1:-1, -1]], axis=1)
    border = evidence.measures["border"].astype(np.float64)[:, None]
    return np.asarray((np.abs(ring - border).max(axis=2) > _OTHER_COLOUR).mean(axis=1) > 0.9)


def _beyond(name: str, words: str, away: Floats, where: NDArray[np.bool_]) -> Flaw:
    return Flaw(name, words, np.where(where, _over(away, _DEVIATIONS), 0.0))


def _over(away: Floats, limit: float) -> Floats:
    """Return 0 up to the limit, then from 0.5 towards 1."""
    return np.where(away > limit, 1.0 - limit / (2.0 * np.maximum(away, limit)), 0.0)


def _rare(name: str, words: str, score: Floats) -> Flaw:
    rare = len(score) >= _FEWEST and (score > 0).mean() <= _RARE
    return Flaw(name, words, score if rare else np.zeros(len(score)))


def _placeholders(evidence: Evidence, entropy: Floats) -> Floats:
    """Return 1 for pictures that are there many times and hold little: less than three quarters of the set has more."""
    score = np.zeros(len(evidence))
    little = float(np.quantile(entropy, 0.25))
    for members in clusters(evidence.identities):
        if len(members) >= _PLACEHOLDER_COPIES and entropy[members[0]] <= little:
            score[members] = 1.0
    return score
