"""`tellapart explain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag
from tellapart.cli.output import json_line, none_answered, picture_refused, printable, results_only

if TYPE_CHECKING:
    from tellapart.ladder.explain import Explanation
    from tellapart.report.explained import Evidence, ExplainedPicture

__all__ = ["explain"]


def explain(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What train made: RUN/bundle.", show_default=False)],
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES...",
            help="Picture files, folders of them, globs, or .zip and .tar archives.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write explain.html and a PNG for each picture into a new folder."),
    ] = None,
    filters: Annotated[
        bool, typer.Option("--filters", help="Draw first-layer filters and feature maps too; goes with --out.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Processor threads to use; all by default.")
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Show where in PICTURES the evidence for an answer lies, and what speaks for the runner-up."""
    from tellapart import api

    with results_only() as stream:
        with following() as watch:
            result = api.explain(bundle, pictures, out=out, filters=filters, threads=threads, watch=watch)
        if as_json:
            stream.write(json_line(result.as_json()))
        else:
            _show(result, stream)
    if result.pictures and not result.explained:
        return none_answered(len(result.pictures))
    return 0


def _show(result: Explanation, stream: TextIO) -> None:
    from tellapart.runtime.predictor import Failure

    for one in result.pictures:
        if isinstance(one, Failure):
            sys.stderr.write(picture_refused(one.path or "", one.error))
            continue
        stream.write("\n".join(map(printable, _lines(one, result.sanity.passed))) + "\n\n")
    for note in result.notes:
        stream.write(f"{printable(note)}\n")
    if result.page is not None:
        stream.write(f"{printable(str(result.page))}\n")


def _lines(one: ExplainedPicture, shown: bool) -> list[str]:
    from tellapart.report.words import percent

    found = one.prediction
    answered = "" if found.answer == "label" else f" (answered {found.answer})"
    lines = [f"{one.path}: {found.label} {percent(found.prob)}{answered}"]
    if shown:
        lines.append(f"  evidence   {_where(one.said)}")
    if one.runner_up is not None:
        other = one.runner_up
        lines.append(f"  runner-up  {other.label} {percent(other.prob)}{f': {_where(other)}' if shown else ''}")
    if one.nearest:
        counts = ", ".join(f"{count} {label}" for label, count in one.nearest)
        lines.append(
            f"  like it    of the {sum(count for _, count in one.nearest)} nearest training pictures: {counts}"
        )
    return lines


def _where(part: Evidence) -> str:
    from tellapart.report.words import percent

    if part.where is None or part.without is None:
        return "nothing in the picture speaks for it"
    return f"{part.where.sentence}; with that blurred {percent(part.without)}"
