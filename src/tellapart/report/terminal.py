"""The result of a run on a terminal: the verdict in a line, the ladder, what to mind, what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tellapart.report.commands import next_commands
from tellapart.report.summary import LadderRow, Summary
from tellapart.report.verdict import Score, Verdict, verdict
from tellapart.report.words import amount, duration, interval, metric, percent, plain, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["show"]

MAX_CAUTIONS = 3
_ANY_WIDTH = 10_000
_TONES = {"good": "bold green", "fair": "bold yellow", "poor": "bold red"}


def show(summary: Summary, console: Console) -> None:
    """Print what a run came to. Names are made visible, and no text is read as markup; piped, it is plain lines."""
    from rich.text import Text

    said = verdict(summary)
    piped = not console.is_terminal

    def line(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=piped)

    console.print()
    line(plain(said.headline), _TONES[said.tone])
    if said.score is not None:
        line(_score_line(said.score))
    console.print()
    console.print(_ladder(summary.ladder, console))
    for row in summary.ladder:
        if row.skipped is not None:
            line(f"{visible(row.method)} was left out: {visible(row.skipped)}", "dim")
    console.print()
    for caution in _cautions(said):
        if piped:
            line(f"! {caution}")
        else:
            console.print(_hanging("!", caution, "yellow"))
    if said.cautions:
        console.print()
    if said.tone == "poor":
        for sentence in said.advice:
            line(plain(sentence))
        console.print()
    for command in next_commands(summary, said):
        line(f"{command.words}:", "dim")
        console.print(Text(f"  {visible(command.line)}"), soft_wrap=True)
    if summary.report:
        line("The report, for a browser:", "dim")
        console.print(Text(f"  {visible(summary.report)}"), soft_wrap=True)


def _score_line(score: Score) -> str:
    kind = {"test": "test", "val": "validation", "train": "left-out"}[score.split]
    parts = [f"{score.name} {percent(score.value, score.n)} on {amount(score.n)} {kind} pictures"]
    between = interval(score.low, score.high, score.n)
    if between:
        parts.append(f"95% interval {between}")
    if score.chance is not None:
        parts.append(f"guessing {percent(score.chance, score.n)}")
    return ", ".join(parts)


def _cautions(said: Verdict) -> list[str]:
    more = len(said.cautions) - MAX_CAUTIONS
    return [plain(caution) for caution in said.cautions[:MAX_CAUTIONS]] + [f"and {more} more in the report"] * (
        more > 0
    )


def _hanging(sign: str, text: str, style: str) -> Table:
    """Return a text whose further lines stand below its first word, not below its sign."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_row(Text(sign, style=style), Text(text, style=style))
    return grid


def _ladder(rows: tuple[LadderRow, ...], console: Console) -> Table:
    """Return the rungs that were climbed; where that is too wide, without log loss, and the backbone below its rung."""
    climbed = [row for row in rows if row.skipped is None]
    backbones = any(row.backbone for row in climbed)
    for losses, beside in ((True, backbones), (False, backbones)):
        table = _table(climbed, losses, beside)
        if console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
            return table
    return _table(climbed, False, False)


def _table(climbed: Sequence[LadderRow], losses: bool, beside: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("rung", overflow="fold")
    if beside:
        table.add_column("backbone", no_wrap=True)
    for name in ("time", "accuracy", "95% interval", *["log loss"] * losses):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in climbed:
        rung, backbone = visible(row.method), visible(row.backbone or "")
        low, high = row.interval or (None, None)
        cells = [rung, backbone] if beside else ["\n".join(filter(None, (rung, backbone)))]
        cells += [duration(row.seconds), percent(row.accuracy, row.n), interval(low, high, row.n)]
        cells += [metric(row.log_loss)] * losses
        cells += ["kept" if row.chosen else ""]
        table.add_row(*map(Text, cells), style="bold" if row.chosen else "")
    return table
