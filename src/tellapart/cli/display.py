"""A run as it goes on, on standard error: progress bars on a terminal, plain lines where it is piped."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from tellapart.cli.output import printable
from tellapart.events import (
    Decision,
    Epoch,
    Event,
    Note,
    Progress,
    RangeTest,
    Recall,
    RungEnded,
    StageBegan,
    StageEnded,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.text import Text

__all__ = ["PlainLines", "following", "told"]

LINE_EVERY_SECONDS = 5.0
_TIME = "seconds"  # the unit of progress that only says that time passes: it has no rate


@contextlib.contextmanager
def following() -> Iterator[Callable[[Event], None]]:
    """Give what shows each event of a run on standard error."""
    if not sys.stderr.isatty():
        yield PlainLines(sys.stderr)
        return
    from rich.console import Console

    with _bars(Console(stderr=True)) as bars:
        yield _OnTerminal(bars)


def _bars(console: Console) -> Bars:
    """Return bars with how many are done, how many a second, and how long it will take."""
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
    return Bars(*columns, console=console, transient=True, refresh_per_second=4)


def told(event: Event, stage: Progress | None = None, before: int = 0) -> str | None:
    """Return the line that tells an event, or None for one that has none.

    `stage` is the last progress of the stage that an event ends, where there was one; `before` of it were done earlier.
    """
    match event:
        case StageEnded():
            if stage is None or not stage.done or stage.unit == _TIME:
                return f"{event.stage}  {event.seconds:.1f} s"
            rate = _rate(stage, stage.done - before, event.seconds)
            return f"{event.stage}  {stage.done:,} {stage.unit} in {event.seconds:.1f} s{rate}"
        case Progress():
            if not event.done and event.total is None:
                return f"{event.stage}  under way"
            of = "" if event.total is None else f" of {event.total:,}"
            return f"{event.stage}  {event.done:,}{of} {event.unit}"
        case Recall():
            return ""
        case Decision():
            return f"  {event.name}: {_plain(event.value)} ({event.evidence})"
        case Epoch():
            val = "" if event.val_accuracy is None else f", validation {_share(event.val_accuracy)}"
            return f"epoch {event.epoch}  loss {event.train_loss:.3f}, training {_share(event.train_accuracy)}{val}"
        case RangeTest():
            return f"  range test: {len(event.lrs)} steps, peak rate {event.lr:.1e}"
        case RungEnded():
            if event.skipped is not None:
                return f"{event.method}  left out: {event.skipped}"
            kind = "left-out" if event.left_out else "validation"
            gave = "" if event.accuracy is None else f"  {_share(event.accuracy)} of {event.n} {kind} pictures right"
            loss = "" if event.log_loss is None else f", log loss {event.log_loss:.3f}"
            return f"{event.method}{gave}{loss}, {event.seconds:.1f} s{', kept' if event.chosen else ''}"
        case Note():
            return f"warning: {event.text}" if event.level == "warning" else event.text
        case StageBegan():
            return None


@dataclasses.dataclass(slots=True)
class _Count:
    """Something a stage counts: the first and the latest of it, and when they were; what was before it began anew."""

    first: Progress
    latest: Progress
    began: float
    seen: float
    done_before: int = 0
    seconds_before: float = 0.0

    @property
    def seconds(self) -> float:
        return self.seconds_before + self.seen - self.began


class _Stages:
    """When the stages under way began, and how far they are, by what they count."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, _Count]] = {}

    def see(self, event: Progress, now: float) -> tuple[int, float]:
        """Note how far a stage is; return how many it counted in how many seconds since the first that was seen.

        What starts to count anew has begun anew; a total that changes on the way is the same count.
        """
        counts = self._counts.setdefault(event.stage, {})
        count = counts.get(event.unit)
        if count is None:
            counts[event.unit] = count = _Count(event, event, now, now)
        elif event.done < count.latest.done or (event.total != count.latest.total == count.latest.done):
            before = count.done_before + count.latest.done
            counts[event.unit] = count = _Count(event, event, now, now, before, count.seconds)
        count.latest, count.seen = event, now
        return event.done - count.first.done, now - count.began

    def end(self, stage: str) -> tuple[Progress | None, int]:
        """Forget a stage and return how much it counted in all: pictures, else what took it longest, if anything.

        With it how much of that an earlier run had done: steps are told one by one, and so begin with more than one.
        """
        counts = self._counts.pop(stage, {})
        longest = max(counts.values(), key=lambda count: (count.seconds, count.latest.done), default=None)
        told = counts.get("pictures", longest)
        if told is None:
            return None, 0
        before = told.first.done if told.first.unit == "steps" and not told.done_before else 0
        return dataclasses.replace(told.latest, done=told.done_before + told.latest.done), before if before > 1 else 0


class PlainLines:
    """Writes a line for each event; of progress and epochs at most one in five seconds for each stage."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._stages = _Stages()
        self._last_line: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Write the line of `event`, if it has one now."""
        now = self._clock()
        rate = ""
        ended: tuple[Progress | None, int] = None, 0
        if isinstance(event, Progress):
            rate = _rate(event, *self._stages.see(event, now))
        elif isinstance(event, StageEnded):
            ended = self._stages.end(event.stage)
        if isinstance(event, Progress | Epoch) and not self._due(event, now):
            return
        line = told(event, *ended)
        if line is not None:
            self._stream.write(f"{printable(line + rate)}\n")
            self._stream.flush()

    def _due(self, event: Progress | Epoch, now: float) -> bool:
        key = event.stage if isinstance(event, Progress) else "epoch"
        if now - self._last_line.setdefault(key, now) < LINE_EVERY_SECONDS:
            return False
        self._last_line[key] = now
        return True


class _OnTerminal:
    """A bar for each stage under way, gone when it ends; lines above it for what lasts.

    A bar of something that never began as a stage goes when the next stage begins or ends.
    """

    def __init__(self, bars: Bars, clock: Callable[[], float] = time.monotonic) -> None:
        self._bars = bars
        self._clock = clock
        self._tasks: dict[str, TaskID] = {}
        self._begun: set[str] = set()
        self._stages = _Stages()

    def __call__(self, event: Event) -> None:
        ended: tuple[Progress | None, int] = None, 0
        if isinstance(event, StageBegan | StageEnded):
            for stray in self._tasks.keys() - self._begun:
                self._remove(stray)
        if isinstance(event, StageBegan):
            self._begun.add(event.stage)
            self._task(event.stage)
        elif isinstance(event, Progress):
            rate = f"{event.unit}{_rate(event, *self._stages.see(event, self._clock()))}"
            self._bars.update(self._task(event.stage), completed=event.done, total=event.total, rate=rate)
            return
        elif isinstance(event, StageEnded):
            ended = self._stages.end(event.stage)
            self._begun.discard(event.stage)
            self._remove(event.stage)
        line = told(event, *ended)
        if line is not None:
            warned = isinstance(event, Note) and event.level == "warning"
            lasting = isinstance(event, RungEnded | Note)
            style = "yellow" if warned else None if lasting else "dim"
            self._bars.console.print(_hanging(self._bars.console, printable(line), style or ""))

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(printable(stage), total=None, rate="")
        return self._tasks[stage]

    def _remove(self, stage: str) -> None:
        task = self._tasks.pop(stage, None)
        if task is not None:
            self._bars.remove_task(task)


def _hanging(console: Console, line: str, style: str) -> Text:
    """Return a line broken for the terminal, its further lines indented by four columns."""
    from rich.text import Text

    parts = Text(line, style=style).wrap(console, max(20, console.width - 4))
    return Text("\n    ").join(parts)


def _plain(value: Any) -> str:
    """Return a decision's value as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)


def _rate(event: Progress, done: int, seconds: float) -> str:
    if seconds <= 0.05 or not done or event.unit == _TIME:
        return ""
    rate = done / seconds
    return f", {rate:,.0f} a second" if rate >= 9.95 else f", {rate:.2g} a second"


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"
