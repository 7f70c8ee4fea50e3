"""`tellapart bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag
from tellapart.cli.output import json_line, printable, results_only

if TYPE_CHECKING:
    from rich.console import Console

    from tellapart.ladder.bench import Benched, Rate, RunBy

__all__ = ["bench"]

_SETTING = ("threads", "batch", "form", "runtime", "precision")


def bench(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What train made: RUN/bundle.", show_default=False)],
    *,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Pictures to measure with; those of the run by default."),
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Measure BUNDLE on this machine, say where the time goes, and keep the fastest setting."""
    from tellapart import api

    with results_only() as stream:
        with following() as watch:
            result = api.bench(bundle, pictures, watch=watch)
        if as_json:
            stream.write(json_line(result.as_json()))
        else:
            from rich.console import Console

            _show(result, Console(file=stream))
    return 0


def _show(result: Benched, console: Console) -> None:
    from rich.table import Table

    alone = result.decode_ms + result.model_ms
    parts = Table("a picture on one thread", "ms", "share", box=None, pad_edge=False, header_style="bold")
    for name, spent in (("decode and resize", result.decode_ms), ("model", result.model_ms)):
        parts.add_row(name, f"{spent:.2f}", f"{100 * spent / alone:.0f}%")
    console.print(parts)
    console.print(f"the bundle is loaded in {result.load_ms:.0f} ms; {result.n} pictures, the best of five rounds")
    console.print()
    models = Table("the model by", "ms", "ms in batches of 8", box=None, pad_edge=False, header_style="bold")
    for model in result.models:
        models.add_row(_name(model), f"{model.model_ms:.2f}", f"{model.batch_ms:.2f}")
    console.print(models)
    for model in result.models:
        name = _name(model)
        if model.judged is not None:
            words = f"{name}: {100 * model.judged.accuracy:.1f}% of {model.judged.n:,} pictures right"
            words += f", {model.judged.change:+.2f} points, {100 * model.judged.same:.1f}% named alike"
            console.print(words, markup=False, highlight=False)
        if model.refused is not None:
            console.print(f"{name} is not taken: {model.refused}.", markup=False, highlight=False)
    console.print()
    rates = Table(
        "threads", "at once", "by", "pictures a second", "of what they could do", box=None, pad_edge=False,
        header_style="bold",
    )  # fmt: skip
    for rate in result.rates:
        mark = all(getattr(rate, name) == getattr(result, name) for name in _SETTING)
        rates.add_row(
            f"{rate.threads}{' *' if mark else ''}",
            f"{rate.batch}",
            _name(rate),
            f"{rate.per_second:,.0f}",
            f"{100 * rate.share_of_limit:.0f}%",
        )
    console.print(rates)
    console.print("the most: a picture decoded and run alone, on all threads at once, as far as there are cores")
    console.print(
        f"{result.cores} cores; every number of threads, and of pictures at once, gave the same answers, bit for bit"
    )
    console.print()
    if result.place is not None:
        taken = f"{result.threads} threads, {result.batch} pictures at once and {_name(result)}"
        if result.batch == 1:
            taken = f"{result.threads} threads and {_name(result)}"
        words = f"predict takes {taken} from now on: {printable(str(result.place))}"
        console.print(words, markup=False, highlight=False)


def _name(way: Benched | RunBy | Rate) -> str:
    name = way.runtime if way.precision == "fp32" else f"{way.runtime}, {way.precision}"
    return f"{printable(way.form)}, {name}" if way.form else name
