"""`tellapart add-class`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag, with_recipe_options
from tellapart.cli.output import json_line, printable, results_only

if TYPE_CHECKING:
    from tellapart.judge import Share
    from tellapart.ladder.add_class import Added

__all__ = ["add_class"]

OPTIONS = ("path_column", "label_column", "split_column", "group_column", "nested", "threads", "seed")
_SHOWN = 5


def _add_class(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What train made: RUN/bundle.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new class.", show_default=False)],
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES...",
            help="Pictures of it: files, folders of them, globs, or .zip and .tar archives.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder for the new bundle; by default BUNDLE-NAME beside BUNDLE."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DATA", help="The old pictures, where the run's own list does not lead to them."
        ),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
    **options: Any,
) -> int:
    """Add the class NAME to BUNDLE from PICTURES of it, in seconds, and show what it costs the others."""
    from tellapart import api

    with results_only() as stream:
        with following() as watch:
            added = api.add_class(bundle, name, pictures, out=out, data=data, watch=watch, **options)
        if as_json:
            stream.write(json_line(added.as_json()))
        else:
            stream.write("".join(f"{printable(line)}\n" for line in _lines(added)))
    return 0


add_class = with_recipe_options(_add_class, OPTIONS)


def _lines(added: Added) -> list[str]:
    found = added.measured
    left_out = f", {len(added.excluded):,} left out" if added.excluded else ""
    lines = [
        f"{added.label}: {added.used:,} pictures{left_out}, added to {len(added.classes) - 1:,} classes in "
        f"{added.seconds:.1f} s, with {added.source_words}.",
        f"Before, the bundle took them for {_counts(added.taken_for)}.",
        "",
    ]
    if found.cost is None:
        lines.append("There are no old pictures to tell by what it costs the old classes.")
    else:
        lines.append(
            f"Old classes: {_percent(found.before)} right before, {_percent(found.after)} after. {found.cost.words}"
        )
        if found.now_new:
            lines.append(f"Of them are now called {added.label}: {_counts(found.now_new)}.")
    if found.recall is None:
        lines.append("New class: too few pictures to tell how good it is.")
    else:
        lines.append(
            f"New class: {_said(found.recall)} of its pictures are named right, by heads that did not see them."
        )
    if found.precision is not None:
        lines.append(f"Of the pictures called {added.label}, {_said(found.precision)} are it.")
    return [*lines, "", *added.notes, f"The new bundle: {added.bundle}"]


def _counts(counts: tuple[tuple[str, int], ...]) -> str:
    more = f" and {len(counts) - _SHOWN:,} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"{label} ({count:,})" for label, count in counts[:_SHOWN]) + more


def _said(share: Share) -> str:
    low, high = share.exact()
    return f"{_percent(share.value)} of {share.n:,} (95% interval {_percent(low)} to {_percent(high)})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"
