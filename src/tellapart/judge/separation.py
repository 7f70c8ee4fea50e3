"""Which score tells pictures of unknown classes apart: scores standardised, blended, and compared by AUROC."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats
from tellapart.runtime.novelty import GAUSSIAN_METHODS, Blend, Gaussian, NoveltyMethod, energy

__all__ = ["CANDIDATES", "Choice", "Scores", "auroc", "blend_of", "choose_methods"]

CANDIDATES: tuple[tuple[NoveltyMethod, ...], ...] = (
    ("neighbours",),
    ("energy",),
    ("max_logit",),
    ("mahalanobis",),
    ("relative_mahalanobis",),
    ("energy", "neighbours"),
    ("energy", "mahalanobis", "relative_mahalanobis", "residual"),
)
"""What may be chosen, the simplest first."""

_HALF = 0.5  # of the way from the mean of all to that of a class
_AS_SURE_AS = 20.0  # pictures of a class at which the class's own statistics count for half of that
_WORTH = 0.01  # of AUROC: more than this is not given up for something simpler


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Pictures' scores by method, float64 [N] each, and their likeliest classes int64 [N]."""

    by: Mapping[NoveltyMethod, NDArray[np.float64]]
    classes: NDArray[np.int64]

    @classmethod
    def of(cls, neighbours: Floats, distances: Floats, logits: Floats | None) -> Scores:
        """Return those of distances [N] to neighbours, `Gaussian.distances` [N, 3] and logits [N, K], where given."""
        by: dict[NoveltyMethod, NDArray[np.float64]] = {
            "neighbours": np.asarray(neighbours, dtype=np.float64),
            **dict(zip(GAUSSIAN_METHODS, np.asarray(distances, dtype=np.float64).T, strict=True)),
        }
        if logits is None:
            return cls(by, np.zeros(len(neighbours), dtype=np.int64))
        by["energy"] = energy(np.asarray(logits))
        by["max_logit"] = -np.asarray(logits, dtype=np.float64).max(axis=1)
        return cls(by, np.asarray(logits).argmax(axis=1).astype(np.int64))

    def blended(self, blend: Blend) -> NDArray[np.float64]:
        """Return the raw scores of a blend, float64 [N]."""
        return blend.add_up([self.by[method] for method in blend.methods], self.classes)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The methods chosen, the mean AUROC of every candidate, and why it is these."""

    methods: tuple[NoveltyMethod, ...]
    auroc: Mapping[tuple[NoveltyMethod, ...], float]
    words: str


def auroc(known: Floats, novel: Floats) -> float:
    """Return how often a novel picture scores above a known one, in [0, 1]; ties count half. Both have rows."""
    ordered = np.sort(np.asarray(known, dtype=np.float64))
    below = np.searchsorted(ordered, novel, side="left") + np.searchsorted(ordered, novel, side="right")
    return float(below.mean() / (2 * len(ordered)))


def blend_of(
    methods: tuple[NoveltyMethod, ...], held_out: Scores, num_classes: int, gaussian: Gaussian | None = None
) -> Blend:
    """Return the blend of some methods, on the scale of what held-out pictures show.

    A single method stays as its source has it. Of several, each is measured in standard deviations of the held-out
    pictures with the same likeliest class, from a mean half-way between theirs and that of all; a class with few of
    them is judged like all. Half-way is ours: by the class alone, classes held out of CIFAR-10 in pairs of a kind were
    told apart better and classes left out at random worse, by all pictures alone it was the other way round. Energy
    counts once more than all others together.
    """
    kept = gaussian if any(method in GAUSSIAN_METHODS for method in methods) else None
    if len(methods) == 1:
        return Blend(methods, np.zeros((1, num_classes), np.float32), np.ones((1, num_classes), np.float32), kept)
    centre = np.empty((len(methods), num_classes), dtype=np.float32)
    weight = np.empty_like(centre)
    for place, method in enumerate(methods):
        score = held_out.by[method]
        counts = float(len(methods)) if method == "energy" else 1.0
        mean, deviation = score.mean(), score.std()
        for label in range(num_classes):
            own = score[held_out.classes == label]
            sure = len(own) / (len(own) + _AS_SURE_AS)
            centre[place, label] = mean + (_HALF * sure * (own.mean() - mean) if len(own) else 0.0)
            spread = deviation + (sure * (own.std() - deviation) if len(own) else 0.0)
            weight[place, label] = counts / spread if spread > 1e-9 * abs(mean) + 1e-30 else 0.0
    return Blend(methods, centre, weight, kept)


def choose_methods(rounds: Sequence[Mapping[tuple[NoveltyMethod, ...], float]]) -> Choice:
    """Choose by the AUROC that each candidate had in each round, in which other classes were left out.

    It is the first of the candidates whose mean is no more than one standard error of the difference, and no more than
    0.01, below the best mean.
    """
    names = [name for name in CANDIDATES if all(name in one for one in rounds)]
    table = np.array([[one[name] for name in names] for one in rounds])
    means = table.mean(axis=0)
    best = int(means.argmax())
    error = (table - table[:, [best]]).std(axis=0, ddof=1) / np.sqrt(len(table)) if len(table) > 1 else np.zeros(1)
    chosen = int(np.argmax(means[best] - means <= np.minimum(error, _WORTH)))
    order = sorted(range(len(names)), key=lambda place: -means[place])
    shown = ", ".join(f"{' + '.join(names[place])} {means[place]:.3f}" for place in order)
    simpler = (
        "" if chosen == best else f"; {' + '.join(names[chosen])} is simpler than the first and as good within noise"
    )
    words = f"mean AUROC over {len(rounds)} rounds with classes left out: {shown}{simpler}"
    return Choice(names[chosen], dict(zip(names, means.tolist(), strict=True)), words)
