"""A run as it goes on, on standard error: progress bars on a terminal, plain lines where it is piped."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from tellapart.cli.output import printable
from tellapart.events import Decision, Epoch, Event, Note, Progress, RungEnded, StageBegan, StageEnded

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

__all__ = ["PlainLines", "following", "told"]

LINE_EVERY_SECONDS = 5.0


@contextlib.contextmanager
def following() -> Iterator[Callable[[Event], None]]:
    """Give what shows each event of a run on standard error."""
    if not sys.stderr.isatty():
        yield PlainLines(sys.stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # Four redraws a second: the processor belongs to the run.
    with Bars(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4) as bars:
        yield _OnTerminal(bars)


def told(event: Event, stage: Progress | None = None) -> str | None:
    """Return the line that tells an event, or None for one that has none.

    `stage` is the last progress of the stage that an event ends, where there was one.
    """
    match event:
        case StageEnded():
            if stage is None or not stage.done:
                return f"{event.stage}  {event.seconds:.1f} s"
            return f"{event.stage}  {stage.done:,} {stage.unit} in {event.seconds:.1f} s{_rate(stage, event.seconds)}"
        case Progress():
            of = "" if event.total is None else f" of {event.total:,}"
            return f"{event.stage}  {event.done:,}{of} {event.unit}"
        case Decision():
            return f"  {event.name}: {event.value} ({event.evidence})"
        case Epoch():
            val = "" if event.val_accuracy is None else f", validation {_share(event.val_accuracy)}"
            return f"epoch {event.epoch}  loss {event.train_loss:.3f}, training {_share(event.train_accuracy)}{val}"
        case RungEnded():
            if event.skipped is not None:
                return f"{event.method}  left out: {event.skipped}"
            gave = (
                "" if event.accuracy is None else f"  {_share(event.accuracy)} of {event.n} validation pictures right"
            )
            loss = "" if event.log_loss is None else f", log loss {event.log_loss:.3f}"
            return f"{event.method}{gave}{loss}, {event.seconds:.1f} s{', best so far' if event.chosen else ''}"
        case Note():
            return f"warning: {event.text}" if event.level == "warning" else event.text
        case StageBegan():
            return None


class PlainLines:
    """Writes a line for each event; of progress and epochs at most one in five seconds for each stage."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began: dict[str, float] = {}
        self._last_line: dict[str, float] = {}
        self._latest: dict[str, Progress] = {}

    def __call__(self, event: Event) -> None:
        """Write the line of `event`, if it has one now."""
        now = self._clock()
        stage = None
        if isinstance(event, StageBegan):
            self._began[event.stage] = self._last_line[event.stage] = now
        elif isinstance(event, Progress):
            self._latest[event.stage] = event
            self._began.setdefault(event.stage, now)
        elif isinstance(event, StageEnded):
            stage = self._latest.pop(event.stage, None)
        if isinstance(event, Progress | Epoch) and not self._due(event, now):
            return
        line = told(event, stage)
        if line is None:
            return
        if isinstance(event, Progress):
            line += _rate(event, now - self._began[event.stage])
        self._stream.write(f"{printable(line)}\n")
        self._stream.flush()

    def _due(self, event: Progress | Epoch, now: float) -> bool:
        key = event.stage if isinstance(event, Progress) else "epoch"
        if now - self._last_line.setdefault(key, now) < LINE_EVERY_SECONDS:
            return False
        self._last_line[key] = now
        return True


class _OnTerminal:
    """A bar for each stage under way, gone when it ends; lines above it for what lasts."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, int] = {}
        self._began: dict[str, float] = {}
        self._latest: dict[str, Progress] = {}

    def __call__(self, event: Event) -> None:
        stage = None
        if isinstance(event, StageBegan):
            self._begin(event.stage)
            return
        if isinstance(event, Progress):
            self._advance(event)
            return
        if isinstance(event, StageEnded):
            stage = self._latest.pop(event.stage, None)
            task = self._tasks.pop(event.stage, None)
            if task is not None:
                self._bars.remove_task(task)  # type: ignore[arg-type]
        line = told(event, stage)
        if line is not None:
            style = "yellow" if isinstance(event, Note) and event.level == "warning" else None
            style = "dim" if isinstance(event, Decision | StageEnded | Epoch) else style
            self._bars.console.print(printable(line), style=style, markup=False, highlight=False)

    def _begin(self, stage: str) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(printable(stage), total=None, rate="")
            self._began[stage] = time.monotonic()

    def _advance(self, event: Progress) -> None:
        self._begin(event.stage)
        self._latest[event.stage] = event
        rate = _rate(event, time.monotonic() - self._began[event.stage])
        self._bars.update(
            self._tasks[event.stage],  # type: ignore[arg-type]
            completed=event.done,
            total=event.total,
            rate=f"{event.unit}{rate}",
        )


def _rate(event: Progress, seconds: float) -> str:
    return f", {event.done / seconds:,.0f} a second" if seconds > 0.05 and event.done else ""


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
