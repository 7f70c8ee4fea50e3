"""`tellapart suggest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag, with_recipe_options
from tellapart.cli.output import json_line, printable, results_only

if TYPE_CHECKING:
    from tellapart.ladder.suggest import Suggested

__all__ = ["suggest"]

OPTIONS = ("near_duplicates", "image_size", "threads", "seed")
_SHOWN = 12


def _suggest(
    model: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE|WEIGHTS",
            help="What train made, RUN/bundle; or a backbone: a timm name, or local-dir:PATH.",
            show_default=False,
        ),
    ],
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES...",
            help="Unlabelled pictures: files, folders of them, globs, or .zip and .tar archives.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.csv",
            help="Table to write, above the pictures; by default PICTURES-to-label.csv here.",
        ),
    ] = None,
    num: Annotated[
        int | None,
        typer.Option("--num", metavar="N", min=1, help="How many to label first. Default: 100.", show_default=False),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option(
            "--clusters",
            metavar="N",
            min=1,
            help="Groups to put the pictures into; by default as many as are told apart best.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **options: Any,
) -> int:
    """Say which of PICTURES to label first: what BUNDLE is unsure of, or what is typical to WEIGHTS."""
    from tellapart import api

    with results_only() as stream:
        with following() as watch:
            found = api.suggest(model, pictures, out=out, num=num, clusters=clusters, watch=watch, **options)
        if as_json:
            stream.write(json_line(found.as_json()))
        else:
            stream.write("".join(f"{printable(line)}\n" for line in _lines(found)))
    return 0


suggest = with_recipe_options(_suggest, OPTIONS)


def _lines(found: Suggested) -> list[str]:
    left_out = f", {len(found.excluded):,} left out" if found.excluded else ""
    lines = [f"{found.used:,} pictures{left_out}; {len(found.ranked):,} to label first: {found.words}.", ""]
    for name, size, ranked in sorted(found.groups, key=lambda group: -group[2])[:_SHOWN]:
        lines.append(f"  {name}: {size:,} picture{'s' if size != 1 else ''}, {ranked:,} of them to label first")
    if len(found.groups) > _SHOWN:
        lines.append(f"  and {len(found.groups) - _SHOWN:,} more groups")
    correct = "Correct" if found.classes else "Fill in"
    return [
        *lines,
        "",
        f"The table: {found.table}, its pictures: {found.page}",
        f"{correct} its labels, then: tellapart train {found.table} --unlabelled skip",
    ]
