"""`tellapart train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag, read_recipe, with_recipe_options
from tellapart.cli.output import json_line, printable, results_only
from tellapart.cli.start import follows
from tellapart.events import Event

if TYPE_CHECKING:
    from tellapart.api import TrainResult

__all__ = ["show_run", "train"]


@with_recipe_options
def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder per class; the same under train/ val/ test/; a CSV, TSV, JSON Lines or Parquet table; "
            "or a .zip or .tar of one.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run folder; by default a fresh one beside DATA.")
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", help="Options of an earlier run: its recipe.json, or as TOML."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **options: Any,
) -> int:
    """Learn to tell apart the pictures in DATA: check, split, climb the ladder, report, bundle."""
    from tellapart import api
    from tellapart.cli.start import spent as spent_so_far

    base = read_recipe(recipe) if recipe is not None else None
    spent = spent_so_far()
    return show_run(
        lambda watch: api.train(data, out=out, recipe=base, resume=resume, watch=watch, spent_already=spent, **options),
        as_json,
    )


def show_run(run: Callable[[Callable[[Event], None]], TrainResult], as_json: bool) -> int:
    """Follow a run on standard error, print its result on standard output, return its exit code.

    Of several processes that run it together, that of rank 0 alone does so.
    """
    if follows():
        return run(lambda _: None).exit_code
    from tellapart.images.guard import prepare_children

    prepare_children()  # they load what they need while this process loads what it needs
    with results_only() as out:
        with following() as watch:
            result = run(watch)
        if as_json:
            out.write(json_line(result.as_json()))
        elif result.summary is None:
            told = f"; its report is {printable(str(result.report))}" if result.report.exists() else ""
            out.write(f"{printable(str(result.run))}: finished already{told}\n")
        else:
            from rich.console import Console

            from tellapart.report import terminal

            terminal.show(result.summary, Console(file=out))
    return result.exit_code
