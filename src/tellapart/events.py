"""What a verb tells while it works, and how it is written down.

A verb is a generator of events that returns its result (`Steps[T]`). Whoever drives it (`api.py`) writes the lasting
events to `events.jsonl`, shows them, and may throw `InterruptedRunError` into it at any event: long work therefore
yields often. A `Decision` is fsynced before the generator is resumed, and so before it takes effect.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

__all__ = [
    "Decision",
    "Epoch",
    "Event",
    "EventLog",
    "Note",
    "Progress",
    "RangeTest",
    "RungEnded",
    "StageBegan",
    "StageEnded",
    "Steps",
    "follow",
    "without",
]


@dataclasses.dataclass(frozen=True, slots=True)
class StageBegan:
    """A named stage began, such as `scan`, `embed`, `fit`, `ship`, `report`."""

    stage: str


@dataclasses.dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage ended after `seconds` of wall time."""

    stage: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units of a stage are finished; `total` is None where it is not known. Shown, never logged."""

    stage: str
    done: int
    total: int | None
    unit: str = "pictures"


@dataclasses.dataclass(frozen=True, slots=True)
class Decision:
    """A choice that hangs on a clock, a measurement, evidence or a failure, with its evidence in plain words."""

    name: str
    value: Any
    evidence: str


@dataclasses.dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training pictures: mean losses in nats, accuracies in [0, 1], the learning rate at its end."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class RangeTest:
    """A few steps at rising learning rates: the mean loss, in nats, at each; `lr` is the peak rate that was chosen."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    lr: float


@dataclasses.dataclass(frozen=True, slots=True)
class RungEnded:
    """A rung of the ladder was climbed (or left out, with `skipped` saying why)."""

    method: str
    seconds: float
    accuracy: float | None = None
    log_loss: float | None = None
    n: int | None = None
    chosen: bool = False
    skipped: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the user; `level` is `info` or `warning`."""

    level: str
    text: str


Event: TypeAlias = StageBegan | StageEnded | Progress | Decision | Epoch | RangeTest | RungEnded | Note
T = TypeVar("T")
Steps: TypeAlias = Generator[Event, None, T]


def follow(steps: Steps[T], see: Callable[[Event], BaseException | None], *, deaf: bool = False) -> Steps[T]:
    """Pass on the events of `steps` and return its result, with a look at each event on the way.

    What `see` returns, unless None, is thrown into `steps`. An exception thrown in from above goes to `steps` too, or,
    with `deaf`, is let go by: for work that has to be ended once begun.
    """
    try:
        event = next(steps)
        while True:
            error = see(event)
            try:
                yield event
            except GeneratorExit:
                steps.close()
                raise
            except Exception as thrown:
                error = error if deaf else thrown
            event = next(steps) if error is None else steps.throw(error)
    except StopIteration as end:
        result: T = end.value
        return result


def without(steps: Steps[T], kinds: type[Event] | tuple[type[Event], ...]) -> Steps[T]:
    """Pass on the events of `steps` but for some kinds, and return its result; what is thrown in goes to `steps`."""
    try:
        event = next(steps)
        while True:
            if isinstance(event, kinds):
                event = next(steps)
                continue
            try:
                yield event
            except GeneratorExit:
                steps.close()
                raise
            except Exception as error:
                event = steps.throw(error)
            else:
                event = next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


class EventLog:
    """Appends events to `events.jsonl`: one JSON object a line, with a sequence number and a UTC time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._seq = 0

    def write(self, event: Event) -> None:
        """Append one event; a `Decision` is on the disk when this returns. `Progress` is not kept."""
        if isinstance(event, Progress):
            return
        self._seq += 1
        kind = type(event).__name__
        line = {
            "seq": self._seq,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": kind,
            **dataclasses.asdict(event),
        }
        self._file.write(json.dumps(line, ensure_ascii=True, default=str) + "\n")
        self._file.flush()
        if isinstance(event, Decision):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing may be written afterwards."""
        self._file.close()
