"""All that a report shows, as data: what the page, the terminal and `report.json` are made from.

Nothing here knows how a number came about; the assembling code fills it in, `render` and `show` only read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tellapart import files
from tellapart.events import Epoch, RangeTest
from tellapart.judge.intervals import clopper_pearson
from tellapart.judge.risk import RiskPoint
from tellapart.judge.robust import Robustness
from tellapart.judge.slices import Slices
from tellapart.lazy import Lazy
from tellapart.report.advice import Advice, Curve
from tellapart.report.attention import Attention
from tellapart.report.found import Found
from tellapart.report.variations import Variations

__all__ = [
    "VERSION",
    "AnswerName",
    "AnswerShare",
    "ClassRow",
    "Folds",
    "LadderRow",
    "PictureCard",
    "ReliabilityBin",
    "SplitName",
    "SplitReport",
    "Summary",
]

VERSION = 1

SplitName = Literal["train", "val", "test"]
AnswerName = Literal["label", "unsure", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class LadderRow:
    """One rung: what it gave on validation and what it cost, or why it was `skipped`.

    Without validation pictures the numbers are of training pictures `left_out` in turn.
    `accuracy` in [0, 1], `log_loss` in nats, both over `n` pictures; `words` says what the comparison found.
    """

    method: str
    backbone: str | None = None
    seconds: float = 0.0
    n: int | None = None
    accuracy: float | None = None
    log_loss: float | None = None
    chosen: bool = False
    skipped: str | None = None
    words: str = ""
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    log_loss_low: float | None = None
    log_loss_high: float | None = None
    left_out: bool = False

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of `accuracy`, or None where there is nothing to base one on."""
        if self.accuracy_low is not None and self.accuracy_high is not None:
            return self.accuracy_low, self.accuracy_high
        if not self.n or self.accuracy is None or not 0 <= self.accuracy <= 1:
            return None
        return clopper_pearson(round(self.accuracy * self.n), self.n)


@dataclasses.dataclass(frozen=True, slots=True)
class ClassRow:
    """One class in one split: `n` pictures of it, `predicted` pictures called it.

    The rest lies in [0, 1], and is None or NaN where there was nothing to divide by.
    """

    label: str
    n: int
    predicted: int
    precision: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    f1: float | None
    precision_low: float | None = None
    precision_high: float | None = None
    f1_low: float | None = None
    f1_high: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The `n` pictures whose top probability lies in [`low`, `high`]: its mean, and the share that was right."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SplitReport:
    """Numbers of one split. `metrics` holds the keys of the JSON contract; `confusion` int [K, K], row: true class.

    `reliability_before` and `ece_before` are of the probabilities as they were before the temperature set them right.
    `intervals` holds the ends of 95 % intervals that the contract has no keys for, `<metric>_low` and `<metric>_high`;
    `groups` says how many independent chances the pictures are.
    """

    metrics: Mapping[str, float | int | None]
    per_class: tuple[ClassRow, ...] = ()
    confusion: NDArray[np.int64] | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    reliability_before: tuple[ReliabilityBin, ...] = ()
    ece_before: float | None = None
    intervals: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    groups: int = 0

    @property
    def n(self) -> int:
        """How many pictures the numbers stand on."""
        return int(self.metrics.get("n") or 0)

    def ends(self, name: str) -> tuple[float | None, float | None]:
        """Return the 95% interval of one metric, or None twice where it is not known."""
        low, high = ({**self.metrics, **self.intervals}.get(f"{name}_{end}") for end in ("low", "high"))
        if low is None or high is None or not np.isfinite([low, high]).all():
            return None, None
        return float(low), float(high)

    def metric(self, name: str) -> float | None:
        """Return one metric, or None where it is missing or not finite."""
        value = self.metrics.get(name)
        return float(value) if value is not None and np.isfinite(value) else None


@dataclasses.dataclass(frozen=True, slots=True)
class PictureCard:
    """One picture and what was said about it. `jpeg` is a thumbnail encoded by us, never the user's own bytes.

    `top` holds (label, probability), likeliest first; `novelty` is in [0, 1]. `layer` is a PNG to lie over the
    thumbnail, the map of the evidence for what it was called, and `where` says where that lies; both may be empty.
    """

    jpeg: bytes
    path: str
    label: str
    predicted: str
    prob: float
    top: tuple[tuple[str, float], ...] = ()
    novelty: float | None = None
    answer: AnswerName = "label"
    layer: bytes = b""
    where: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class AnswerShare:
    """One answer: given to `n` pictures, a `share` of all; `accuracy` is how often their likeliest class was right.

    `examples` are some of them, taken evenly, so that right and wrong ones come as often as they do.
    """

    answer: AnswerName
    n: int
    share: float
    accuracy: float | None = None
    examples: tuple[PictureCard, ...] = ()
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    share_low: float | None = None
    share_high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of `accuracy`, or None where there is nothing to base one on."""
        if self.accuracy_low is not None and self.accuracy_high is not None:
            return self.accuracy_low, self.accuracy_high
        if not self.n or self.accuracy is None or not 0 <= self.accuracy <= 1:
            return None
        return clopper_pearson(round(self.accuracy * self.n), self.n)

    def as_json(self) -> dict[str, float | int | str | None]:
        """Return what `evaluate --json` holds of it."""
        low, high = self.interval or (None, None)
        shares = {"share": self.share, "share_low": self.share_low, "share_high": self.share_high}
        accuracies = {"accuracy": self.accuracy, "accuracy_low": low, "accuracy_high": high}
        return {"answer": self.answer, "n": self.n, **shares, **accuracies}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """Numbers of `count` folds, each held out once: `metrics` with the keys of the JSON contract, pooled over them.

    `words` say what was done; `intervals` are as in `SplitReport`.
    """

    count: int
    metrics: Mapping[str, float | int | None]
    words: str
    intervals: Mapping[str, float | None] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what the result, `report.json` and the bundle's card hold of it."""
        return {"count": self.count, **self.metrics, **self.intervals, "words": self.words}


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """One finished run.

    `splits` holds those of train, val and test that have pictures. `mistakes` (most confident first), `examples` (other
    pictures, for what stands behind a count), `answers`, `risk` and `slices` are of `headline_split`; `robustness`, the
    worst first, is of some pictures of test, else of val. `balanced` makes balanced accuracy the headline. `evaluated`:
    a finished model was measured on the pictures of test, and nothing was learned. `interrupted`: it was asked to end,
    and its folder can be gone on with. `attention` is where it looks,
    `variations` how training pictures were varied.
    `fit_words` is what `judge.fit_words` said. `machine`: cpu, cores, memory_bytes, platform, python, packages {name:
    version}, in any subset. `run`, `bundle` and `data` are paths as the user would type them. `recipe` is what was
    done, `asked` what was asked for.
    """

    title: str
    data: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    method: str
    run: str
    bundle: str
    ladder: tuple[LadderRow, ...]
    splits: Mapping[SplitName, SplitReport]
    created: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    tellapart: str = ""
    backbone: str | None = None
    backbone_licence: str | None = None
    report: str = ""
    seconds: float = 0.0
    budget_seconds: float | None = None
    balanced: bool = False
    fit_words: str = ""
    evaluated: bool = False
    interrupted: bool = False
    folds: Folds | None = None
    test_openings: int = 0
    epochs: tuple[Epoch, ...] = ()
    range_test: RangeTest | None = None
    variations: Variations | None = None
    mistakes: tuple[PictureCard, ...] = ()
    examples: tuple[PictureCard, ...] = ()
    answers: tuple[AnswerShare, ...] = ()
    findings: tuple[Found, ...] = ()
    slices: Slices | None = None
    robustness: tuple[Robustness, ...] = ()
    curve: Curve | None = None
    advice: tuple[Advice, ...] = ()
    attention: Attention | None = None
    risk: tuple[RiskPoint, ...] = ()
    thresholds: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    excluded: Sequence[tuple[str, str, str]] = ()
    notes: tuple[str, ...] = ()
    decisions: tuple[tuple[str, Any, str], ...] = ()
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stages: tuple[tuple[str, float], ...] = ()
    machine: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def cards(self) -> tuple[PictureCard, ...]:
        """Every picture that is shown, each once: mistakes, then examples, then those of the answers."""
        shown: dict[str, PictureCard] = {}
        for card in (*self.mistakes, *self.examples, *(card for share in self.answers for card in share.examples)):
            shown.setdefault(card.path, card)
        return tuple(shown.values())

    @property
    def headline_split(self) -> SplitName | None:
        """The split whose numbers are the verdict: test, else val (which chose the model), else train."""
        order: tuple[SplitName, ...] = ("test", "val", "train")
        return next((name for name in order if name in self.splits and self.splits[name].n), None)

    @property
    def headline(self) -> SplitReport | None:
        """The numbers of `headline_split`."""
        return self.splits[self.headline_split] if self.headline_split else None

    @property
    def most_common_share(self) -> float | None:
        """The accuracy in [0, 1], on `headline_split`, of always guessing its most common class."""
        rows = self.headline.per_class if self.headline else ()
        total = sum(row.n for row in rows)
        return max(row.n for row in rows) / total if total else None

    def as_json(self, streamed: bool = False) -> dict[str, Any]:
        """Return what `report.json` holds: the object of the JSON contract and, beside it, all the rest but pictures.

        What there may be millions of (files that were left out, and rows of findings about them) are lists, or where
        `streamed`, for `files.write_json`, made one by one.

        A field without a shape of its own here is written as it is, so that a new section needs nothing more. Every
        number is finite (others are null) and every key a string, so that it is strict JSON.
        """
        contract = ("run", "bundle", "report", "method", "backbone", "classes", "seconds", "counts")
        shaped: dict[str, Any] = {
            "ladder": [_ladder_json(row) for row in self.ladder],
            **{name: self.splits[name].metrics if name in self.splits else None for name in ("val", "test", "train")},
            "folds": None if self.folds is None else self.folds.as_json(),
            "variations": None if self.variations is None else self.variations.as_json(),
            "created": self.created.astimezone(UTC).isoformat(timespec="seconds"),
            "headline_split": self.headline_split,
            "details": {name: _split_json(split) for name, split in self.splits.items()},
            "findings": [],
            "excluded": [],
            "decisions": [{"name": name, "value": value, "evidence": why} for name, value, why in self.decisions],
            "stages": [{"stage": stage, "seconds": seconds} for stage, seconds in self.stages],
        }
        rest = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "splits"}
        head = {"version": VERSION, **{name: rest[name] for name in contract}}
        plain: dict[str, Any] = files.finite(_plain({**head, **shaped, **(rest | head | shaped)}))
        plain["findings"] = [found.as_json(streamed) for found in self.findings]
        excluded = self.excluded
        left_out = Lazy(
            lambda: ({"path": path, "code": code, "note": note} for path, code, note in excluded), len(excluded)
        )
        plain["excluded"] = left_out if streamed else list(left_out)
        return plain


def _ladder_json(row: LadderRow) -> dict[str, Any]:
    numbers = None if row.n is None else {"n": row.n, "accuracy": row.accuracy, "log_loss": row.log_loss}
    val = None if row.left_out else numbers
    backbone = {} if row.backbone is None else {"backbone": row.backbone}
    low, high = row.interval or (None, None)
    ends = {
        "accuracy_low": low,
        "accuracy_high": high,
        "log_loss_low": row.log_loss_low,
        "log_loss_high": row.log_loss_high,
    }
    rest = {"chosen": row.chosen, "skipped": row.skipped, "words": row.words, **({} if numbers is None else ends)}
    left_out = {"left_out": numbers} if row.left_out else {}
    return {"method": row.method, **backbone, "seconds": row.seconds, "val": val, **left_out, **rest}


def _split_json(split: SplitReport) -> dict[str, Any]:
    return {
        "per_class": [dataclasses.asdict(row) for row in split.per_class],
        "confusion": split.confusion,
        "reliability": [dataclasses.asdict(bin_) for bin_ in split.reliability],
        "reliability_before": [dataclasses.asdict(bin_) for bin_ in split.reliability_before],
        "ece_before": split.ece_before,
        **split.intervals,
        "groups": split.groups,
    }


def _card_json(card: PictureCard) -> dict[str, Any]:
    return {
        "path": card.path,
        "label": card.label,
        "predicted": card.predicted,
        "prob": card.prob,
        "top": [{"label": label, "prob": prob} for label, prob in card.top],
        "novelty": card.novelty,
        "answer": card.answer,
        **({"where": card.where} if card.where else {}),
    }


def _plain(value: Any) -> Any:
    """Return `value` in JSON's own types: keys become strings, arrays lists, anything unknown a string."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, PictureCard):
        value = _card_json(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
