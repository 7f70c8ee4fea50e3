"""Rows of the tables that the page shows, worked out from the summary."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tellapart.report.summary import ClassRow, SplitReport
from tellapart.report.words import size

__all__ = [
    "Cell",
    "ClassLine",
    "Pair",
    "as_text",
    "class_lines",
    "confusion_cells",
    "excluded_codes",
    "flattened",
    "level",
    "machine_lines",
    "worst_pairs",
]

MAX_MATRIX_CLASSES = 30
MAX_PAIRS = 15
LEVELS = 9


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the confusion matrix: `share` of the row's pictures, `level` 0 (none) to 9 (all).

    `key` names its pictures where some are shown (see `pictures.behind_cells`).
    """

    true: int
    predicted: int
    count: int
    share: float
    level: int
    right: bool
    key: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """`count` pictures of class `true`, a `share` of all of that class, were called `predicted`."""

    true: str
    predicted: str
    count: int
    share: float
    key: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class ClassLine:
    """A line of the table of classes, with the class it is most often taken for."""

    row: ClassRow
    taken_for: str | None
    taken: int


def confusion_cells(split: SplitReport, classes: Sequence[str], pictured: Container[str]) -> list[list[Cell]]:
    """Return the matrix as cells, or an empty list where it is missing or too large to read number by number."""
    if split.confusion is None or not 1 < len(classes) <= MAX_MATRIX_CLASSES:
        return []
    return [
        [_cell(true, predicted, int(count), total, pictured) for predicted, count in enumerate(counts)]
        for true, counts in enumerate(split.confusion)
        for total in [int(counts.sum())]
    ]


def _cell(true: int, predicted: int, count: int, total: int, pictured: Container[str]) -> Cell:
    share = count / total if total else 0.0
    return Cell(true, predicted, count, share, level(share), true == predicted, _key(true, predicted, pictured))


def level(share: float) -> int:
    """Return how dark a cell is: 0 (none) to 9 (all)."""
    return math.ceil(share * LEVELS)


def _key(true: int, predicted: int, pictured: Container[str]) -> str | None:
    key = f"{true}-{predicted}"
    return key if key in pictured else None


def worst_pairs(
    split: SplitReport, classes: Sequence[str], pictured: Container[str], limit: int = MAX_PAIRS
) -> list[Pair]:
    """Return the pairs of classes most often confused, by count, at most `limit`."""
    if split.confusion is None:
        return []
    wrong = split.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    totals = split.confusion.sum(axis=1)
    pairs = []
    for flat in order:
        true, predicted = divmod(int(flat), len(classes))
        count = int(wrong[true, predicted])
        if count:
            share = count / int(totals[true])
            pairs.append(Pair(classes[true], classes[predicted], count, share, _key(true, predicted, pictured)))
    return pairs


def class_lines(split: SplitReport, classes: Sequence[str]) -> list[ClassLine]:
    """Return the classes, the one found least often first; those without a number last."""
    index = {label: position for position, label in enumerate(classes)}
    lines = []
    for row in split.per_class:
        taken_for, taken = None, 0
        if split.confusion is not None and row.label in index:
            counts = split.confusion[index[row.label]].copy()
            counts[index[row.label]] = 0
            taken = int(counts.max())
            taken_for = classes[int(counts.argmax())] if taken else None
        lines.append(ClassLine(row, taken_for, taken))
    return sorted(lines, key=lambda line: (_or_last(line.row.recall), -line.row.n, line.row.label))


def _or_last(value: float | None) -> float:
    return 2.0 if value is None or not math.isfinite(value) else value


def excluded_codes(excluded: Sequence[tuple[str, str, str]]) -> list[tuple[str, int]]:
    """Return (code, how many files), most first."""
    return collections.Counter(code for _, code, _ in excluded).most_common()


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (`section.name`, value as text) for every leaf of nested options."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", as_text(value)


def as_text(value: Any) -> str:
    """Return a value of a recipe or a decision as a person would write it."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {as_text(item)}" for name, item in value.items())
    return ", ".join(as_text(item) for item in value) if isinstance(value, list | tuple) else str(value)


def machine_lines(machine: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (name, value) of the machine and of the packages, in a fixed order; unknown keys come last."""
    known = {"cpu": "processor", "cores": "cores", "memory_bytes": "memory", "platform": "system", "python": "Python"}
    lines = []
    for key, name in known.items():
        if machine.get(key) is not None:
            value = machine[key]
            lines.append((name, size(float(value)) if key == "memory_bytes" else as_text(value)))
    lines += [(key, as_text(value)) for key, value in machine.items() if key not in known and key != "packages"]
    packages = machine.get("packages") or {}
    return lines + [(str(name), as_text(version)) for name, version in packages.items()]
