"""`tellapart export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tellapart.cli.display import following
from tellapart.cli.options import DebugFlag, JsonFlag
from tellapart.cli.output import json_line, printable, results_only

if TYPE_CHECKING:
    from rich.console import Console

    from tellapart.api import ExportResult

__all__ = ["export"]


def export(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What train made: RUN/bundle.", show_default=False)],
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder to write: new, or empty.", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="onnx|openvino|browser",
            help="For whom: any ONNX runtime, OpenVINO as well, or a page in the browser. Default: onnx.",
            show_default=False,
        ),
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            metavar="auto|fp32|fp16|int8",
            help="In what numbers to compute; auto takes the fastest that is as good. Default: auto.",
            show_default=False,
        ),
    ] = "auto",
    max_drop: Annotated[
        float,
        typer.Option(
            "--max-drop", metavar="X", help="Points of accuracy that may be lost. Default: 0.5.", show_default=False
        ),
    ] = 0.5,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DATA", help="Labelled pictures to judge by, where the run's are not here."),
    ] = None,
    with_resize: Annotated[
        bool, typer.Option("--with-resize", help="Let the graph take pictures of any size and resize them itself.")
    ] = False,
    ort_web: Annotated[
        Path | None,
        typer.Option("--ort-web", metavar="DIR", help="onnxruntime-web for the page; from npm by default."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", min=1, help="Processor threads to use; all by default.")
    ] = None,
    as_json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Write BUNDLE anew for another machine: smaller, faster, and judged on real pictures."""
    from tellapart import api

    with results_only() as stream:
        with following() as watch:
            result = api.export(
                bundle,
                out,
                to=to,
                precision=precision,
                max_drop=max_drop,
                data=data,
                with_resize=with_resize,
                ort_web=ort_web,
                threads=threads,
                watch=watch,
            )
        if as_json:
            stream.write(json_line(result.as_json()))
        else:
            from rich.console import Console

            _show(result, Console(file=stream))
    return 0


def _show(result: ExportResult, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    speeds = Table(
        "form", "MB", "ms", "ms in 8", "a second", "memory, MB", box=None, pad_edge=False, header_style="bold"
    )
    runtime = "openvino" if result.to == "openvino" else "onnxruntime"
    shares = Table("form", "right", "95%", "change", "95%", "alike", box=None, pad_edge=False, header_style="bold")
    for form in result.forms:
        found, speed = form.judged, form.speed
        taken = (form.precision, form.runtime) == (result.precision, runtime)
        name = f"{form.precision}{', ' + form.runtime if runtime == 'openvino' else ''}{' *' if taken else ''}"
        speeds.add_row(
            name,
            f"{form.bytes / 1e6:.1f}",
            "-" if speed is None else f"{speed.one_ms:.2f}",
            "-" if speed is None else f"{speed.batch_ms:.2f}",
            "-" if speed is None else f"{speed.per_second:,.0f}",
            "-" if form.peak_bytes is None else f"{form.peak_bytes / 1e6:.0f}",
        )
        shares.add_row(
            name,
            f"{100 * found.accuracy:.1f}%",
            f"{100 * found.accuracy_low:.1f} to {100 * found.accuracy_high:.1f}",
            f"{found.change:+.2f}",
            f"{found.change_low:+.2f} to {found.change_high:+.2f}",
            f"{100 * found.same:.1f}%",
        )
    console.print(speeds)
    console.print(f"ms: a picture on one thread, alone or in a batch of 8; a second: on {result.threads} threads")
    console.print()
    console.print(shares)
    console.print(f"on {result.forms[0].judged.n:,} pictures, in points of accuracy")
    for form in result.forms:
        if form.in_float and form.runtime == runtime:
            console.print(f"{form.precision}: {form.in_float} convolutions stay in 32 bits.")
        if form.refused is not None:
            words = f"{form.precision} by {form.runtime} is refused: {form.refused}."
            console.print(words, markup=False, highlight=False)
    moved = [form for form in result.forms if (form.precision, form.runtime) == (result.precision, runtime)]
    changed = [change for form in moved for change in form.judged.classes if change.before != change.after]
    if changed:
        classes = Table("class", "pictures", "right before", "after", box=None, pad_edge=False, header_style="bold")
        for change in changed:
            before, after = f"{100 * change.before:.1f}%", f"{100 * change.after:.1f}%"
            classes.add_row(Text(printable(change.label)), f"{change.n:,}", before, after)
        console.print()
        console.print(classes)
    console.print()
    console.print(f"{result.precision} in {printable(str(result.out))}: {result.why}.", markup=False, highlight=False)
    if result.page is not None:
        console.print(f"All of this as a page: {printable(str(result.page))}", markup=False, highlight=False)
    if result.to == "browser":
        words = f"Put it on any web server, or look at it here: python -m http.server -d {printable(str(result.out))}"
        console.print(words, markup=False, highlight=False)
