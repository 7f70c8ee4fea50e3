"""`tellapart check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag, with_recipe_options
from tellapart.cli.output import json_line, printable, results_only

if TYPE_CHECKING:
    from rich.console import Console

    from tellapart.api import CheckResult

__all__ = ["check"]

OPTIONS = (
    *("val", "test", "path_column", "label_column", "split_column", "group_column", "group_series", "skip_missing"),
    *("nested", "unlabelled", "corrections", "near_duplicates", "two_labels", "background", "max_pixels", "min_side"),
    *("allow_truncated", "colour_profiles"),
    *("backbone", "image_size", "budget", "threads", "seed"),
)
_SHOWN = 5


def _check(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="Labelled pictures, in any form that train takes.", show_default=False),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for check.html; by default DATA-check beside DATA."),
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="FILE.csv", help="Write a table of what to train on, without what is amiss."),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **options: Any,
) -> int:
    """Look for what is wrong with the pictures in DATA: broken, twice, leaking, mislabelled, odd."""
    from tellapart import api
    from tellapart.cli.start import spent as spent_so_far

    spent = spent_so_far()
    with results_only() as stream:
        with following() as watch:
            result = api.check(data, out=out, fix=fix, watch=watch, spent_already=spent, **options)
        if as_json:
            stream.write(json_line(result.as_json()))
        else:
            from rich.console import Console

            _show(result, Console(file=stream))
    return 0


check = with_recipe_options(_check, OPTIONS)


def _show(result: CheckResult, console: Console) -> None:
    from rich.text import Text

    counts = result.counts
    console.print(
        f"{counts['found']:,} files, {counts['used']:,} pictures used, in {len(result.classes):,} classes", markup=False
    )
    if not result.findings:
        console.print("Nothing is amiss.")
    for finding in result.findings:
        console.print()
        console.print(Text(f"{finding.check}  severity {finding.severity:.2f}", style="bold"))
        console.print(Text(printable(finding.note)), soft_wrap=True)
        for row in finding.rows[:_SHOWN]:
            why = f"  {row.why}" if row.why else ""
            console.print(Text(printable(f"  {row.score:.2f}  {row.path}{why}"), style="dim"), soft_wrap=True)
        if len(finding.rows) > _SHOWN:
            console.print(Text(f"  and {len(finding.rows) - _SHOWN:,} more", style="dim"))
        console.print(Text(printable(finding.fix)), soft_wrap=True)
    console.print()
    for text in (*result.notes, result.fixed, result.page and f"Pictures and buttons: {result.page}"):
        if text:
            console.print(Text(printable(text)), soft_wrap=True)
