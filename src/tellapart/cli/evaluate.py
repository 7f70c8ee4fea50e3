"""`tellapart evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag, with_recipe_options
from tellapart.cli.output import json_line, printable, results_only

if TYPE_CHECKING:
    from rich.console import Console

    from tellapart.api import EvaluateResult

__all__ = ["evaluate"]

OPTIONS = ("path_column", "label_column", "split_column", "skip_missing", "nested", "unlabelled", "threads")
LARGEST_CONFUSION = 12
_REPORT = "Write a page with all of it, as train does."
_AGAINST = "Compare with another bundle on the same pictures."
_ROBUSTNESS = "Measure on corrupted pictures too: blur, noise, JPEG, brightness, rotation."


def _evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What train made: RUN/bundle.", show_default=False)],
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Labelled pictures, in any form that train takes.", show_default=False),
    ],
    *,
    robustness: Annotated[bool, typer.Option("--robustness", help=_ROBUSTNESS)] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help=_REPORT, show_default=False)
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="BUNDLE", help=_AGAINST, show_default=False)
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **options: Any,
) -> int:
    """Measure BUNDLE on labelled pictures in DATA."""
    from tellapart import api

    with results_only() as out:
        with following() as watch:
            given: dict[str, Any] = {"robustness": robustness, "report": report, "against": against, **options}
            result = api.evaluate(bundle, data, watch=watch, **given)
        if as_json:
            out.write(json_line(result.as_json()))
        else:
            from rich.console import Console

            _show(result, Console(file=out))
    return 0


evaluate = with_recipe_options(_evaluate, OPTIONS)


def _show(result: EvaluateResult, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    numbers = result.as_json()
    summary = Table(box=None, show_header=False, pad_edge=False)
    summary.add_row(
        "accuracy", f"{_percent(numbers['accuracy'])} of {numbers['n']:,} pictures{_within(numbers, 'accuracy')}"
    )
    summary.add_row("balanced accuracy", _percent(numbers["balanced_accuracy"]) + _within(numbers, "balanced_accuracy"))
    summary.add_row("macro F1", _percent(numbers["macro_f1"]) + _within(numbers, "macro_f1"))
    summary.add_row("log loss", _number(numbers["log_loss"]) + _within(numbers, "log_loss", _number))
    summary.add_row("calibration error", _percent(numbers["ece"]) + _within(numbers, "ece"))
    console.print(summary)

    answers = Table(
        "answer", "pictures", "share", "right", "95% interval", box=None, pad_edge=False, header_style="bold"
    )
    for row in numbers["answers"]:
        name = "a class" if row["answer"] == "label" else row["answer"]
        answers.add_row(name, f"{row['n']:,}", _percent(row["share"]), _percent(row["accuracy"]), _interval(row))
    console.print()
    console.print(answers)

    heads = ("precision", "95%", "recall", "95%", "F1", "95%")
    per_class = Table("class", "pictures", *heads, box=None, pad_edge=False, header_style="bold")
    for row in numbers["per_class"]:
        values = [text for name in ("precision", "recall", "f1") for text in (_percent(row[name]), _short(row, name))]
        per_class.add_row(Text(printable(row["label"])), f"{row['n']:,}", *values)
    console.print()
    console.print(per_class)

    if numbers["confusion"] and len(result.classes) <= LARGEST_CONFUSION:
        confusion = Table("true class, called:", box=None, pad_edge=False, header_style="bold")
        for label in result.classes:
            confusion.add_column(Text(printable(label)), justify="right")
        for label, counts in zip(result.classes, numbers["confusion"], strict=True):
            confusion.add_row(Text(printable(label)), *map(str, counts))
        console.print()
        console.print(confusion)
    if result.robustness:
        worse = Table(
            "corrupted by",
            "strength",
            "right",
            "95% interval",
            "change",
            "95% interval",
            box=None,
            pad_edge=False,
            header_style="bold",
        )
        for one in result.robustness:
            between = f"{_percent(one.change_low)} to {_percent(one.change_high)}"
            right = f"{_percent(one.accuracy_low)} to {_percent(one.accuracy_high)}"
            worse.add_row(
                one.corruption, f"{one.strength} of 3", _percent(one.accuracy), right, _percent(one.change), between
            )
        console.print()
        console.print(worse)
        console.print(f"on {result.robustness[0].n:,} pictures, each corrupted in every way")
    if result.slices is not None and result.slices.worst is not None:
        worst = result.slices.worst
        console.print()
        console.print(
            f"worse on pictures with {printable(worst.what)} {printable(worst.where)}: {_percent(worst.accuracy)} of "
            f"{worst.n:,} are right, and {_percent(worst.rest_accuracy)} of the other {worst.rest_n:,}",
            markup=False,
            highlight=False,
        )
    if result.against is not None:
        console.print()
        console.print(printable(result.against.words), markup=False, highlight=False)
    for note in result.notes:
        console.print()
        console.print(printable(note), markup=False, highlight=False)


def _within(numbers: dict[str, Any], name: str, said: Callable[[float | None], str] | None = None) -> str:
    low, high = numbers.get(f"{name}_low"), numbers.get(f"{name}_high")
    said = said or _percent
    return "" if low is None or high is None else f"  (95% interval {said(low)} to {said(high)})"


def _interval(numbers: dict[str, Any]) -> str:
    low, high = numbers["accuracy_low"], numbers["accuracy_high"]
    return "-" if low is None else f"{_percent(low)} to {_percent(high)}"


def _short(numbers: dict[str, Any], name: str) -> str:
    """Return an interval in whole percents, for a narrow column."""
    low, high = numbers[f"{name}_low"], numbers[f"{name}_high"]
    return "-" if low is None else f"{100 * low:.0f}-{100 * high:.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
