"""Labels that are probably wrong: confident learning on predictions by models that did not see the picture.

What is listed is held to a promise, that few pictures with right labels are named: a share `error` of labels is taken
to be drawn blindly, and temperature and share are fitted together to the labels as they are,

    P(label | picture) = (1 - error) * softmax(log(probs) / temperature)[label] + error / K.

That gives each label a probability to be one of the blind ones. Pictures are listed, the least believed first, as long
as at most 1.5 % of the set would be named wrongly by these probabilities; and those that confident learning counts off
its diagonal while another class has more than 92 %.

Planted errors, 5 % of 3,068 photos: estimated 5.0 %, 83 % of them listed with 1.3 % of the others; without any, the
share came out as 0.0 % on three sets.

All are ranked by those probabilities times the root of how the ten nearest pictures are labelled: what the head misses
and what the neighbours miss is not the same. What is listed is not touched by it.
Source: Northcutt, Jiang, Chuang, "Confident Learning", JAIR 70, 2021 (the thresholds and the confident joint).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.data.audit.evidence import Evidence, Floats, Ints
from tellapart.data.audit.finding import Finding

__all__ = ["Blind", "believed", "blind_labels", "confident_classes", "label_suspect", "with_neighbours"]

_LISTED_WRONGLY = 0.015
_LEAST_CHANCE = 0.3
_SURE = 0.92
_FEWEST = 20
_CLASSES_TOLD = 0.8  # accuracy: what does not tell the classes apart without learning tells nothing of labels either
_ROUNDS = 5
_NEAREST, _UNKNOWN, _WEIGHT = 10, 5.0, 0.5  # neighbours; votes that all classes share; exponent of the votes
_MOST_COMPARED = 5_000  # pictures that may be neighbours
_AT_ONCE = 128  # rows of likenesses, of which a few copies are made


@dataclasses.dataclass(frozen=True, slots=True)
class Blind:
    """The share of labels that seem to be drawn blindly, in [0, 1], and the temperature fitted with it."""

    error: float
    temperature: float


def label_suspect(evidence: Evidence) -> Finding | None:
    """Return the pictures whose label is probably wrong, each with the label that is likelier."""
    rows, probs = evidence.predicted, evidence.probs
    if len(rows) < _FEWEST or evidence.num_classes < 2:
        return None
    targets = evidence.targets[rows]
    if evidence.unlearned and (probs.argmax(axis=1) == targets).mean() < _CLASSES_TOLD:
        return None
    _, other = believed(probs, targets)
    score, _ = believed(with_neighbours(evidence), targets)
    likelier = probs[np.arange(len(rows)), other] > probs[np.arange(len(rows)), targets]
    blind = blind_labels(probs, targets)
    chance = _chances(probs, targets, blind)
    order = np.lexsort((-score, -chance))
    named = np.cumsum(1.0 - chance[order]) <= _LISTED_WRONGLY * len(rows)
    listed = np.zeros(len(rows), dtype=bool)
    listed[order[named & (chance[order] > _LEAST_CHANCE)]] = True
    sure = (confident_classes(probs, targets) == other) & (probs[np.arange(len(rows)), other] > _SURE)
    listed = (listed | sure) & likelier & evidence.open[rows]
    if not listed.any():
        return None
    suspects = [
        evidence.suspect(
            int(rows[place]),
            score[place],
            f"{probs[place, other[place]]:.0%} {evidence.classes[other[place]]}, "
            f"{probs[place, targets[place]]:.0%} {evidence.classes[targets[place]]}",
            int(other[place]),
        )
        for place in np.flatnonzero(listed).tolist()
    ]
    share = f" About {blind.error:.1%} of all labels seem to be wrong." if blind.error >= 0.005 else ""
    fit = "does not fit" if len(suspects) == 1 else "do not fit"
    return Finding.of(
        "label_suspect",
        0.1 + 4.0 * max(blind.error, len(suspects) / len(rows) / 4),
        suspects,
        f"{len(suspects):,} of {len(rows):,} labels {fit} what is seen in the picture.{share}",
        "Look at them, the first above all: keep, relabel or drop each, and give the choices with --corrections.",
    )


def believed(probs: Floats, targets: Ints) -> tuple[Floats, Ints]:
    """Return the ranking score, float64 [n] in [0, 1], and the likeliest other class, int64 [n].

    The score is the probability of all classes but the label (one less the self-confidence of Northcutt et al.).
    """
    n = np.arange(len(targets))
    rest = probs.copy()
    rest[n, targets] = -1.0
    other = rest.argmax(axis=1).astype(np.int64)
    return np.asarray(1.0 - probs[n, targets]), other


def with_neighbours(evidence: Evidence) -> Floats:
    """Return `evidence.probs` float64 [p, K] times the root of the labels' shares among the ten nearest pictures.

    Near is by the cosine of centred embeddings; a picture of the same group is no neighbour. Where no embeddings are
    at hand, the probabilities are as they were.
    """
    place = {row: number for number, row in enumerate(evidence.embedded.tolist())}
    if not len(evidence.predicted) or any(row not in place for row in evidence.predicted.tolist()):
        return evidence.probs
    away = evidence.embeddings - evidence.embeddings.mean(axis=0)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    mine = np.array([place[row] for row in evidence.predicted.tolist()], dtype=np.int64)
    others = mine[:: -(-len(mine) // _MOST_COMPARED)]
    if len(others) <= _NEAREST:
        return evidence.probs
    together = evidence.together[evidence.embedded]
    targets = evidence.targets[evidence.embedded]
    logs = np.log(np.maximum(evidence.probs, 1e-12))
    for start in range(0, len(mine), _AT_ONCE):
        some = mine[start : start + _AT_ONCE]
        likeness = away[some] @ away[others].T
        likeness[together[some][:, None] == together[others]] = -np.inf
        nearest = np.argpartition(-likeness, _NEAREST, axis=1)[:, :_NEAREST]
        votes = np.full((len(some), evidence.num_classes), _UNKNOWN / evidence.num_classes)
        known = np.isfinite(np.take_along_axis(likeness, nearest, axis=1))
        np.add.at(votes, (np.arange(len(some))[:, None], targets[others[nearest]]), known)
        logs[start : start + _AT_ONCE] += _WEIGHT * np.log(votes / votes.sum(axis=1, keepdims=True))
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def confident_classes(probs: Floats, targets: Ints) -> Ints:
    """Return the class that each picture is counted for in the confident joint, int64 [n]; -1 for none.

    A class counts a picture when its probability is at least the mean that it has on pictures with that label; of
    several the likeliest.
    """
    thresholds = np.array(
        [probs[targets == k, k].mean() if (targets == k).any() else np.inf for k in range(probs.shape[1])]
    )
    counted = np.where(probs >= thresholds - 1e-6, probs, -1.0)
    return np.where(counted.max(axis=1) >= 0, counted.argmax(axis=1), -1).astype(np.int64)


def blind_labels(probs: Floats, targets: Ints) -> Blind:
    """Fit share and temperature by likelihood: a grid that is narrowed around its best point."""
    logs = np.log(np.maximum(probs, 1e-12))
    low, high = np.log(0.3), np.log(2.0)
    errors = np.concatenate([[0.0], np.geomspace(0.002, 0.5, 15)])
    best = (np.inf, 1.0, 0.0)
    for _ in range(_ROUNDS):
        for step in np.linspace(low, high, 9):
            mine = _softmax_of(logs / np.exp(step), targets)
            mixed = (1 - errors[:, None]) * mine[None] + errors[:, None] / probs.shape[1]
            losses = -np.log(np.maximum(mixed, 1e-300)).mean(axis=1)
            place = int(losses.argmin())
            best = min(best, (float(losses[place]), float(step), float(errors[place])))
        width = (high - low) / 5
        low, high = best[1] - width, best[1] + width
        around = np.linspace(0.7, 1.4, 9) * best[2] if best[2] else np.geomspace(0.0005, 0.004, 6)
        errors = np.concatenate([[0.0], np.minimum(around, 0.9)])
    return Blind(best[2], float(np.exp(best[1])))


def _chances(probs: Floats, targets: Ints, blind: Blind) -> Floats:
    """Return the probability of each label to be one of the blind ones, float64 [n]."""
    mine = _softmax_of(np.log(np.maximum(probs, 1e-12)) / blind.temperature, targets)
    drawn = blind.error / probs.shape[1]
    return np.asarray(drawn / np.maximum((1 - blind.error) * mine + drawn, 1e-300))


def _softmax_of(logits: Floats, targets: Ints) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(targets)), targets]
    return np.asarray(np.exp(chosen - np.log(np.exp(shifted).sum(axis=1))))
