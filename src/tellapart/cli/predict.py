"""`tellapart predict`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag
from tellapart.cli.output import json_line, none_answered, picture_refused, printable, results_only
from tellapart.cli.sorting import Sorter
from tellapart.cli.table import HEADER, csv_line, table_file
from tellapart.errors import InputError
from tellapart.events import Progress

__all__ = ["predict"]

MOST_NAMED = 3


def predict(
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each picture, a line each.")
    ] = False,
    csv: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write a table; - for standard output.")
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option("--sort-into", metavar="DIR", help="Copy each picture into a folder of DIR named by its answer."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Processor threads to use; all by default.")
    ] = None,
    debug: DebugFlag = False,
) -> int:
    """Name the class of each of PICTURES: files, folders, globs or archives."""
    from tellapart import api
    from tellapart.runtime.predictor import Failure

    if as_json and csv == "-":
        raise InputError(
            "two_outputs", "--json and --csv - both want standard output.", "Give --csv a file, or leave one out."
        )
    answered = failed = 0
    with contextlib.ExitStack() as stack:
        out = stack.enter_context(results_only())
        sorter = Sorter(sort_into, pictures) if sort_into is not None else None
        table = out if csv == "-" else None
        if csv is not None and table is None:
            table = stack.enter_context(table_file(csv, bundle, pictures))
        # On a terminal the lines themselves show how it goes on.
        watch = None if out.isatty() else stack.enter_context(following())
        results = iter(api.predict(bundle, pictures, threads=threads))
        for number, result in enumerate(results):
            line = result.as_json()
            if watch is not None:
                watch(Progress("predict", number + 1, None))
            if table is not None:
                table.write((csv_line(HEADER) if not number else "") + csv_line(_cells(line)))
                table.flush()
            if csv != "-":
                (sys.stderr if "error" in line and not as_json else out).write(
                    json_line(line)
                    if as_json
                    else picture_refused(line["path"], result.error)
                    if isinstance(result, Failure)
                    else _sentence(line, getattr(result, "candidates", ()))
                )
                out.flush()
            if "error" in line:
                failed += 1
                continue
            answered += 1
            if sorter is not None:
                sorter.copy(
                    getattr(result, "file", None) or line["path"],
                    line["label"] if line["answer"] == "label" else None,
                    line["answer"],
                )
    if failed and not answered:
        return none_answered(failed)
    return 0


def _sentence(line: dict[str, Any], candidates: Sequence[str]) -> str:
    path = printable(line["path"])
    label = f"{printable(line['label'])} {100 * line['prob']:.1f}%"
    others = candidates[1:] if len(candidates) <= MOST_NAMED else ()
    perhaps = " or ".join([label, *map(printable, others)])
    said = {"label": label, "unsure": f"unsure, perhaps {perhaps}", "unknown": f"unknown, nearest {label}"}
    return f"{path}: {said[line['answer']]}\n"


def _cells(line: dict[str, Any]) -> list[object]:
    error = line.get("error", {})
    return [*(line.get(name, "") for name in HEADER[:-1]), error.get("message", "")]
