"""The sections of the page, in their order: what each is called, and what its template is given.

A section is a function that reads the summary and returns what its template `<id>.j2` needs, or None where there is
nothing to show; one line in `SECTIONS` puts it on the page and into the contents.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tellapart.judge.maps import RING
from tellapart.report import charts, tables
from tellapart.report.commands import next_commands
from tellapart.report.pictures import Group, behind_cells
from tellapart.report.range_plot import range_plot
from tellapart.report.summary import SplitName, SplitReport, Summary
from tellapart.report.verdict import verdict

__all__ = ["SECTIONS", "Section"]

MAX_CLASS_LINES = 400
MAX_EXCLUDED = 300
MAX_NOTES = 100
FIRST_MISTAKES = 10

METHODS = {
    "majority": "always the most common class",
    "classical": "features made by hand, a classical learner",
    "probe": "a linear head on a frozen, pretrained network",
    "finetune": "a pretrained network, trained further",
    "scratch": "a small network, trained from nothing",
    "soup": "several networks of one kind, their weights averaged",
    "ensemble": "several models that answer together",
    "distill": "a small network that learned from the answers of the best model",
}
KINDS: Mapping[SplitName, str] = {"test": "test", "val": "validation", "train": "left-out"}

Content = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """`id` is its anchor and names its template, `word` stands in the contents, under `part`."""

    id: str
    word: str
    part: str
    content: Callable[[Summary], Content | None]


def _verdict(summary: Summary) -> Content:
    return {"v": verdict(summary), "kinds": KINDS}


def _next(summary: Summary) -> Content:
    return {"commands": next_commands(summary, verdict(summary))}


def _confusion(summary: Summary) -> Content | None:
    split = summary.headline
    if split is None or split.confusion is None:
        return None
    groups = _groups(summary, split)
    matrix = tables.confusion_cells(split, summary.classes, groups)
    pairs = tables.worst_pairs(split, summary.classes, groups, 6 if matrix else tables.MAX_PAIRS)
    many = len(summary.classes) > tables.MAX_MATRIX_CLASSES
    if not matrix and not pairs:
        return None
    return {
        "matrix": matrix,
        "heat": charts.heat_map(split.confusion) if many and len(summary.classes) <= charts.MAX_HEAT_CLASSES else None,
        "pairs": pairs,
        "groups": list(groups.values()),
        "split_name": KINDS[summary.headline_split or "test"],
    }


def _groups(summary: Summary, split: SplitReport) -> Mapping[str, Group]:
    return behind_cells(split, summary.classes, summary.cards)


def _mistakes(summary: Summary) -> Content | None:
    split = summary.headline
    if not summary.mistakes and not (split and split.metric("accuracy") == 1):
        return None
    cards = summary.mistakes
    return {
        "first": cards[:FIRST_MISTAKES],
        "rest": cards[FIRST_MISTAKES:],
        "cards": cards,
        "mapped": any(card.layer for card in cards),
        "n": split.n if split else 0,
    }


def _attention(summary: Summary) -> Content | None:
    found = summary.attention
    if found is None:
        return None
    differs = found.differences
    heat = (
        [] if differs is None else [[round(9 * share) for share in row] for row in (differs / differs.max()).tolist()]
    )
    return {"a": found, "heat": heat, "ring": RING}


def _classes(summary: Summary) -> Content | None:
    if summary.headline is None or not summary.headline.per_class:
        return None
    lines = tables.class_lines(summary.headline, summary.classes)
    kind = KINDS[summary.headline_split or "test"]
    return {"lines": lines[:MAX_CLASS_LINES], "all": len(lines), "kind": kind}


def _slices(summary: Summary) -> Content | None:
    if summary.slices is None or not summary.slices.all:
        return None
    kind = KINDS[summary.headline_split or "test"]
    return {"slices": summary.slices.all, "worst": summary.slices.worst, "kind": kind}


def _robustness(summary: Summary) -> Content | None:
    if not summary.robustness:
        return None
    kind = KINDS["test" if "test" in summary.splits else "val"]
    return {"worst": summary.robustness[0], "all": summary.robustness, "kind": kind}


def _answers(summary: Summary) -> Content | None:
    split = summary.headline
    plot = charts.reliability_plot(split.reliability, split.reliability_before) if split else None
    min_prob = summary.thresholds.get("min_prob")
    risk = charts.risk_plot(summary.risk, min_prob if isinstance(min_prob, float) else None)
    earlier = plot is not None and any(line.style == "best" and len(line.points) > 1 for line in plot.lines)
    content = {"reliability": plot, "earlier": earlier, "risk": risk, "split": split}
    return content if plot or summary.answers else None


def _advice(summary: Summary) -> Content | None:
    plot = charts.growth_plot(summary.curve) if summary.curve else None
    return {"plot": plot, "advice": summary.advice} if plot or summary.advice else None


def _ladder(summary: Summary) -> Content | None:
    if summary.evaluated:
        return None
    return {"plot": charts.ladder_plot(summary.ladder), "methods": METHODS}


def _splits(summary: Summary) -> Content | None:
    names = [name for name in ("train", "val", "test") if name in summary.splits]
    return {"names": names} if names else None


def _curves(summary: Summary) -> Content | None:
    plots = [(what, plot) for what in ("loss", "accuracy") if (plot := charts.curve_plot(summary.epochs, what))]
    rates = range_plot(summary.range_test) if summary.range_test else None
    return {"plots": plots, "rates": rates} if plots else None


def _variations(summary: Summary) -> Content | None:
    return None if summary.variations is None else {"v": summary.variations}


def _decisions(summary: Summary) -> Content | None:
    return {} if summary.decisions else None


def _findings(summary: Summary) -> Content | None:
    return {"findings": summary.findings} if summary.findings else None


def _data(summary: Summary) -> Content:
    return {
        "notes": summary.notes[:MAX_NOTES],
        "excluded": summary.excluded[:MAX_EXCLUDED],
        "codes": tables.excluded_codes(summary.excluded),
    }


def _run(summary: Summary) -> Content:
    longest = max((seconds for _, seconds in summary.stages), default=0.0) or 1.0
    return {
        "stages": [(stage, seconds, seconds / longest) for stage, seconds in summary.stages],
        "options": list(tables.flattened(summary.recipe)),
        "machine": tables.machine_lines(summary.machine),
    }


SECTIONS = (
    Section("verdict", "Verdict", "The result", _verdict),
    Section("next", "What to type next", "The result", _next),
    Section("confusion", "What it confuses", "The result", _confusion),
    Section("mistakes", "Confident mistakes", "The result", _mistakes),
    Section("attention", "Where it looks", "The result", _attention),
    Section("classes", "Class by class", "The result", _classes),
    Section("slices", "Kinds of pictures", "The result", _slices),
    Section("robustness", "Corrupted pictures", "The result", _robustness),
    Section("answers", "Sure and unsure", "The result", _answers),
    Section("advice", "What would help", "The result", _advice),
    Section("ladder", "The ladder", "How it came about", _ladder),
    Section("splits", "Learned and tested", "How it came about", _splits),
    Section("curves", "Learning curves", "How it came about", _curves),
    Section("variations", "Varied pictures", "How it came about", _variations),
    Section("decisions", "Decisions", "How it came about", _decisions),
    Section("findings", "What is amiss", "What it stands on", _findings),
    Section("data", "The pictures", "What it stands on", _data),
    Section("run", "The run", "What it stands on", _run),
)
