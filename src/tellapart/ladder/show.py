"""From pictures seen through the bundle to what the report shows of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.data.manifest import Manifest
from tellapart.judge import Answer
from tellapart.learn.rungs import FloatArray, Pictures
from tellapart.report import AnswerShare, ClassRow, PictureCard, ReliabilityBin, SplitReport
from tellapart.runtime.answers import answer
from tellapart.runtime.predictor import Predictor

__all__ = [
    "MOST_OF_AN_ANSWER",
    "Answered",
    "Measured",
    "answer_shares",
    "answered",
    "card",
    "evenly",
    "measured",
    "risk",
    "split_report",
]

MOST_OF_AN_ANSWER = 12
_TOP = 3
_CLASS_ROW = tuple(field.name for field in dataclasses.fields(ClassRow))


@dataclasses.dataclass(frozen=True)
class Measured:
    """One split seen through the bundle: `embeddings` float32 [n, D], calibrated `probs` float64 [n, K]."""

    pictures: Pictures
    embeddings: FloatArray
    probs: NDArray[np.float64]

    @functools.cached_property
    def metrics(self) -> judge.Metrics:
        """The numbers of the split."""
        return judge.metrics(self.pictures.targets, self.probs, self.pictures.groups)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest class is the true one, bool [n]."""
        return np.asarray(self.probs.argmax(axis=1) == self.pictures.targets)


@dataclasses.dataclass(frozen=True)
class Answered:
    """A split with what `predict` says of its pictures: `novelty` float64 [n], `answers`, one each."""

    found: Measured
    novelty: NDArray[np.float64]
    answers: tuple[Answer, ...]

    def rows_of(self, kind: Answer) -> list[int]:
        """Return the rows that got one answer, in order."""
        return [row for row, one in enumerate(self.answers) if one == kind]


def measured(pictures: Pictures, embeddings: FloatArray, predictor: Predictor) -> Measured:
    """Return a split as the bundle sees it, from embeddings float32 [n, D] of the bundle's own graph."""
    return Measured(pictures, embeddings, judge.softmax(predictor.bundle.logits_from(embeddings)))


def answered(found: Measured, predictor: Predictor) -> Answered:
    """Return what the bundle answers to each picture of a split."""
    thresholds, scorer = predictor.bundle.card.thresholds, predictor.bundle.reference.novelty()
    logits = predictor.bundle.logits_from(found.embeddings)
    pairs = zip(found.embeddings, logits, strict=True)
    novelty = np.array([scorer.score(embedding, row) for embedding, row in pairs], dtype=np.float64)
    sure = found.probs.max(axis=1)
    said = tuple(
        answer(prob, novel, thresholds.min_prob, thresholds.max_novelty)
        for prob, novel in zip(sure.tolist(), novelty.tolist(), strict=True)
    )
    return Answered(found, novelty, said)


def split_report(found: Measured, classes: tuple[str, ...], temperature: float = 1.0) -> SplitReport:
    """Return the numbers of a split as the report shows them; `temperature` is the one in its probabilities.

    Above 1,000 classes there is no confusion table.
    """
    targets = found.pictures.targets
    rows = judge.per_class(targets, found.probs, classes, found.pictures.groups)
    bins = judge.reliability(targets, found.probs)
    raw = judge.softmax((np.log(np.maximum(found.probs, 1e-30)) * temperature).astype(np.float32))
    before = judge.reliability(targets, raw)
    _, ece_low, ece_high = judge.calibration_error(targets, found.probs, found.pictures.groups) or (None, None, None)
    return SplitReport(
        metrics=found.metrics.as_json(),
        per_class=tuple(ClassRow(**{name: getattr(row, name) for name in _CLASS_ROW}) for row in rows),
        confusion=(
            judge.confusion(targets, found.probs.argmax(axis=1), len(classes))
            if len(classes) <= judge.MOST_CONFUSED
            else None
        ),
        reliability=tuple(ReliabilityBin(**dataclasses.asdict(part)) for part in bins),
        reliability_before=tuple(ReliabilityBin(**dataclasses.asdict(part)) for part in before),
        ece_before=judge.metrics(targets, raw).ece,
        intervals=found.metrics.intervals() | {"ece_low": ece_low, "ece_high": ece_high},
        groups=found.metrics.groups,
    )


def answer_shares(said: Answered, cards: Mapping[int, PictureCard]) -> tuple[AnswerShare, ...]:
    """Return how often each answer is given, how often its likeliest class is right, and the pictures chosen for it."""
    shares = []
    codes, count = judge.cluster_codes(said.found.pictures.groups), len(said.answers)
    for kind in get_args(Answer):
        given = np.array([one == kind for one in said.answers], dtype=bool)
        examples = tuple(cards[row] for row in evenly(said.rows_of(kind), MOST_OF_AN_ANSWER) if row in cards)
        share = AnswerShare(kind, int(given.sum()), 0.0, examples=examples)
        if count:
            low, high = judge.share_of(given, codes).exact()
            share = dataclasses.replace(share, share=share.n / count, share_low=low, share_high=high)
        if share.n:
            right = judge.share_of(said.found.right[given], None if codes is None else codes[given])
            low, high = right.exact()
            share = dataclasses.replace(share, accuracy=right.value, accuracy_low=low, accuracy_high=high)
        shares.append(share)
    return tuple(shares)


def risk(said: Answered, max_novelty: float) -> tuple[judge.RiskPoint, ...]:
    """Return how right the answers are when fewer are given."""
    return judge.risk_coverage(said.found.pictures.targets, said.found.probs, said.novelty, max_novelty)


def card(said: Answered, row: int, jpeg: bytes, manifest: Manifest) -> PictureCard:
    """Return one picture of a split, and what was said of it."""
    found = said.found
    order = np.argsort(-found.probs[row], kind="stable")[:_TOP].tolist()
    top = tuple((manifest.classes[index], float(found.probs[row, index])) for index in order)
    file = found.pictures.files[row]
    path = file.relative_to(manifest.root).as_posix() if file.is_relative_to(manifest.root) else str(file)
    return PictureCard(
        jpeg=jpeg,
        path=path,
        label=manifest.classes[int(found.pictures.targets[row])],
        predicted=top[0][0],
        prob=top[0][1],
        top=top,
        novelty=float(said.novelty[row]),
        answer=said.answers[row],
    )


def evenly(rows: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of `rows`, evenly spaced, with the first and the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[place] for place in np.linspace(0, len(rows) - 1, most).round().astype(int).tolist()]
