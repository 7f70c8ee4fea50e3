"""`tellapart demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tellapart.cli.options import DebugFlag, JsonFlag, with_recipe_options
from tellapart.cli.train import show_run
from tellapart.recipe import Recipe

__all__ = ["demo"]

# The pictures are built in, so nothing about reading a user's folder or table is offered.
OPTIONS = tuple(option.name for option in Recipe.options() if option.section != "data")


def _demo(
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the pictures and the run. Default: tellapart-demo."),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **options: Any,
) -> int:
    """Show the whole path on a small built-in set of handwritten digits, offline."""
    from tellapart import api
    from tellapart.cli.start import spent as spent_so_far

    spent = spent_so_far()
    return show_run(lambda watch: api.demo(out, watch=watch, spent_already=spent, **options), as_json)


demo = with_recipe_options(_demo, OPTIONS)
