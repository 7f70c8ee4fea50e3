"""Runs to report on, made up, with any part of them replaced."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Epoch
from tellapart.images import thumbnail_jpeg
from tellapart.report import (
    AnswerShare,
    ClassRow,
    LadderRow,
    PictureCard,
    ReliabilityBin,
    SplitReport,
    Summary,
)

if TYPE_CHECKING:
    pass

SummaryMaker = Callable[..., Summary]


def probabilities(num_classes: int, n: int, skill: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Targets int64 [n] and probabilities [n, K] that are right more often the larger `skill` is."""
    draws = np.random.default_rng(seed)
    targets = np.sort(np.arange(n) % num_classes)
    logits = draws.normal(size=(n, num_classes))
    logits[np.arange(n), targets] += skill
    return targets, judge.softmax((1.6 * logits).astype(np.float32))


def split_report(classes: tuple[str, ...], targets: NDArray[np.int64], probs: NDArray[np.float64]) -> SplitReport:
    """A split as the assembling code makes it."""
    names = {field.name for field in dataclasses.fields(ClassRow)}
    rows = judge.per_class(targets, probs, classes)
    return SplitReport(
        judge.metrics(targets, probs).as_json(),
        tuple(
            ClassRow(**{key: value for key, value in dataclasses.asdict(row).items() if key in names}) for row in rows
        ),
        judge.confusion(targets, probs.argmax(axis=1), len(classes)),
        tuple(ReliabilityBin(**dataclasses.asdict(bin_)) for bin_ in judge.reliability(targets, probs)),
    )


def picture(seed: int, side_px: int = 48) -> bytes:
    """A small JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    return thumbnail_jpeg(pixels, side_px)


def cards_of(
    classes: tuple[str, ...], targets: NDArray[np.int64], probs: NDArray[np.float64]
) -> tuple[PictureCard, ...]:
    """Cards of the 60 most confident mistakes."""
    wrong = np.flatnonzero(probs.argmax(axis=1) != targets)
    cards = []
    for row in wrong[np.argsort(-probs[wrong].max(axis=1))][:60]:
        top = np.argsort(-probs[row])[:3]
        cards.append(
            PictureCard(
                picture(int(row)),
                f"{classes[targets[row]]}/picture_{row}.jpg",
                classes[targets[row]],
                classes[top[0]],
                float(probs[row, top[0]]),
                tuple((classes[index], float(probs[row, index])) for index in top),
                0.5,
            )
        )
    return tuple(cards)


def answer_share(answer: Literal["label", "unsure"], right: NDArray[np.bool_], n: int) -> AnswerShare:
    """How often an answer was given, and how often it was right."""
    return AnswerShare(answer, len(right), len(right) / n, float(right.mean()) if len(right) else None)


def make(classes: tuple[str, ...] = ("ants", "bees"), n: int = 153, skill: float = 2.6, **changes: Any) -> Summary:
    """A whole, ordinary run; `changes` replace fields of the summary."""
    parts = {
        "train": probabilities(len(classes), n * 2, skill + 1, 1),
        "val": probabilities(len(classes), max(n // 3, len(classes)), skill, 2),
        "test": probabilities(len(classes), n, skill, 3),
    }
    metrics = {name: judge.metrics(*part) for name, part in parts.items()}
    targets, probs = parts["test"]
    right = probs.argmax(axis=1) == targets
    sure = probs.max(axis=1) > 0.7
    fields: dict[str, Any] = {
        "title": "photos",
        "data": "photos",
        "classes": classes,
        "counts": {"found": 400, "used": 398, "excluded": 2, "train": 201, "val": 44, "test": 153},
        "method": "probe",
        "run": "photos-runs/1",
        "bundle": "photos-runs/1/bundle",
        "report": "photos-runs/1/report.html",
        "ladder": (
            LadderRow("majority", None, 0.0, 44, 0.53, 0.69, words="the floor"),
            LadderRow("probe", "mobilenetv2_100", 7.1, 44, 0.977, 0.083, True, words="better than majority"),
            LadderRow("scratch", skipped="the budget leaves 4 s, and it needs 20"),
        ),
        "splits": {name: split_report(classes, *part) for name, part in parts.items()},
        "created": datetime(2026, 3, 4, 5, 6, tzinfo=UTC),
        "tellapart": "0.1.0",
        "backbone": "mobilenetv2_100",
        "backbone_licence": "apache-2.0",
        "seconds": 9.8,
        "budget_seconds": 120.0,
        "fit_words": judge.fit_words(metrics["train"], metrics["val"], metrics["test"]),
        "test_openings": 1,
        "epochs": tuple(
            Epoch(i, i * 10, 0.1, 2.0 / i, 1 - 0.5 / i, 2.0 / i + 0.01 * i, 0.95 - 0.5 / i, 1.0) for i in range(1, 21)
        ),
        "mistakes": cards_of(classes, targets, probs),
        "answers": (
            answer_share("label", right[sure], len(right)),
            answer_share("unsure", right[~sure], len(right)),
            AnswerShare("unknown", 0, 0.0, None),
        ),
        "risk": judge.risk_coverage(targets, probs, np.zeros(len(targets)), 0.99),
        "thresholds": {"min_prob": 0.7, "max_novelty": 0.99, "target_precision": 0.95},
        "excluded": (("bees/empty.jpg", "empty", "The file has no bytes."), ("x.txt", "not_an_image", "It is text.")),
        "notes": ("2 pictures are byte-identical; they stay in one split.",),
        "decisions": (("resize", "crop", "9 in 10 pictures are at most 1.5 times as long as wide"),),
        "recipe": {"data": {"val": 0.15, "test": 0.15}, "seed": 0},
        "stages": (("scan", 0.4), ("embed", 6.1), ("fit", 0.9)),
        "machine": {"cpu": "A processor", "cores": 2, "memory_bytes": 8_000_000_000, "packages": {"numpy": "2.4.6"}},
    }
    return Summary(**{**fields, **changes})


def everywhere(make: SummaryMaker, names: tuple[str, ...]) -> Summary:
    """A run that has a name in every place where one can stand."""
    classes, last = names, names[-1]
    each = tuple(names)
    return make(
        classes,
        3 * len(classes),
        1.0,
        title=names[0],
        data=names[1],
        run=names[2],
        bundle=names[3],
        report=names[4],
        backbone=names[5],
        backbone_licence=names[6],
        tellapart=names[7],
        fit_words=f"Overfitting: {names[8]}",
        notes=each,
        excluded=tuple((name, name, name) for name in each),
        decisions=tuple((name, {name: [name]}, name) for name in each),
        recipe={name: {name: name} for name in each},
        stages=tuple((name, 1.0) for name in each),
        machine={"cpu": last, **{name: name for name in each}, "packages": {name: name for name in each}},
        ladder=tuple(
            LadderRow(name, name, 1.0, 10, 0.5, 0.5, words=name, skipped=name if index % 2 else None)
            for index, name in enumerate(each)
        ),
        mistakes=tuple(
            PictureCard(picture(0), name, name, other, 0.9, ((other, 0.9), (name, 0.1)), answer="unsure")
            for name, other in zip(each, reversed(each), strict=True)
        )[:40],
    )


@pytest.fixture
def make_summary() -> SummaryMaker:
    """Return the maker of summaries."""
    return make
