"""`tellapart tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag, read_recipe, with_recipe_options
from tellapart.cli.output import json_line, printable, results_only

if TYPE_CHECKING:
    from tellapart.ladder.tune import Tuned

__all__ = ["tune"]

OPTIONS = (
    *("val", "test", "path_column", "label_column", "split_column", "group_column", "nested", "unlabelled"),
    *("method", "backbone", "budget", "device", "threads", "balance", "seed"),
)
_SHOWN, _WITHIN = 8, 3


def _tune(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="What train takes: a folder per class, a table, or an archive of one.",
            show_default=False,
        ),
    ],
    *,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=1, help="Recipes to try. Default: 20.", show_default=False)
    ] = 20,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the search, to go on with; by default one beside DATA."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", metavar="FILE", help="Where to begin: a recipe.json, or the same as TOML."),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **options: Any,
) -> int:
    """Search for a better recipe for DATA: trials within --budget altogether, the default one first."""
    from tellapart import api
    from tellapart.cli.start import spent as spent_so_far

    base = read_recipe(recipe) if recipe is not None else None
    spent = spent_so_far()
    with results_only() as stream:
        with following() as watch:
            found = api.tune(data, trials=trials, out=out, recipe=base, watch=watch, spent_already=spent, **options)
        if as_json:
            stream.write(json_line(found.as_json()))
        else:
            stream.write("".join(f"{printable(line)}\n" for line in _lines(found)))
    return found.exit_code


tune = with_recipe_options(_tune, OPTIONS)


def _lines(found: Tuned) -> list[str]:
    lines = [found.words, ""]
    best, default = found.best.values, found.default.values
    lines += [f"  {name}: {value}" for name, value in best.items() if default.get(name) != value]
    for name, share in list(found.importance.items())[:_SHOWN]:
        lines.append(f"  {share:.0%} of what changed it goes with {name}")
    if found.within is not None:
        told = ", ".join(f"{share:.0%} with {name}" for name, share in list(found.within.importance.items())[:_WITHIN])
        lines.append(f"  among the {found.within.num_trials} trials of {found.within.method}: {told}")
    return [*lines, "", f"What mattered: {found.page}", f"Use it: tellapart train DATA --recipe {found.recipe}"]
