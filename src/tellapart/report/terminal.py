"""The result of a run on a terminal: the verdict in a line, the ladder, what to mind, what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.report.commands import next_commands
from tellapart.report.summary import LadderRow, Summary
from tellapart.report.verdict import Score, verdict
from tellapart.report.words import amount, duration, interval, metric, percent, plain, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["show"]

MAX_CAUTIONS = 3
_TONES = {"good": "bold green", "fair": "bold yellow", "poor": "bold red"}


def show(summary: Summary, console: Console) -> None:
    """Print what a run came to. Names are made visible, and no text is read as markup; piped, it is plain lines."""
    from rich.text import Text

    said = verdict(summary)
    console.print()
    console.print(Text(plain(said.headline), style=_TONES[said.tone]))
    if said.score is not None:
        console.print(_score_line(said.score), highlight=False, markup=False)
    console.print()
    console.print(_ladder(summary.ladder))
    for caution in said.cautions[:MAX_CAUTIONS]:
        console.print(Text(f"! {plain(caution)}", style="yellow"))
    if len(said.cautions) > MAX_CAUTIONS:
        console.print(Text(f"! and {len(said.cautions) - MAX_CAUTIONS} more in the report", style="yellow"))
    if said.cautions:
        console.print()
    for command in next_commands(summary, said):
        console.print(Text(f"{command.words}:", style="dim"))
        console.print(Text(f"  {visible(command.line)}"), soft_wrap=True)
    if summary.report:
        console.print(Text("The report, for a browser:", style="dim"))
        console.print(Text(f"  {visible(summary.report)}"), soft_wrap=True)


def _score_line(score: Score) -> str:
    kind = {"test": "test", "val": "validation", "train": "training"}[score.split]
    parts = [f"{score.name} {percent(score.value, score.n)} on {amount(score.n)} {kind} pictures"]
    between = interval(score.low, score.high, score.n)
    if between:
        parts.append(f"95% interval {between}")
    if score.chance is not None:
        parts.append(f"guessing {percent(score.chance, score.n)}")
    return ", ".join(parts)


def _ladder(rows: tuple[LadderRow, ...]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False)
    table.add_column("rung")
    for name in ("time", "accuracy", "log loss"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in rows:
        name = visible(f"{row.method}, {row.backbone}" if row.backbone else row.method)
        if row.skipped is not None:
            table.add_row(Text(name), "–", "–", "–", Text(f"left out: {visible(row.skipped)}"), style="dim")
        else:
            table.add_row(
                Text(name),
                duration(row.seconds),
                percent(row.accuracy, row.n),
                metric(row.log_loss),
                Text("kept" if row.chosen else visible(row.words)),
                style="bold" if row.chosen else "",
            )
    return table
