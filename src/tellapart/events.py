"""What a verb tells while it works, and how it is written down.

A verb is a generator of events that returns its result (`Steps[T]`). Whoever drives it (`api.py`) writes the lasting
events to `events.jsonl`, shows them, and may throw `InterruptedRunError` into it at any event: long work therefore
yields often. A `Decision` is fsynced before the generator is resumed, and so before it takes effect.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import deque
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

__all__ = [
    "ASKED_TO_END",
    "Decision",
    "Epoch",
    "Event",
    "EventLog",
    "Note",
    "Progress",
    "RangeTest",
    "Recall",
    "RungEnded",
    "StageBegan",
    "StageEnded",
    "Steps",
    "decide",
    "follow",
    "recorded_decisions",
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
    """A choice that hangs on a clock, a measurement, evidence or a failure, with its evidence in plain words.

    `again` says that a run that goes on took it over from an attempt that was cut off.
    """

    name: str
    value: Any
    evidence: str
    again: bool = False


@dataclasses.dataclass(slots=True)
class Recall:
    """Asks what an attempt at this run that was cut off had decided under a name; never shown or logged.

    Whoever drives the verb puts it into `decided`, the decisions of that name that were not asked for yet, in order.
    """

    name: str
    decided: deque[Decision] = dataclasses.field(default_factory=deque)


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
    """A rung of the ladder was climbed (or left out, with `skipped` saying why).

    Its numbers are of `n` validation pictures, or of training pictures where these were `left_out` in turn.
    """

    method: str
    seconds: float
    accuracy: float | None = None
    log_loss: float | None = None
    n: int | None = None
    chosen: bool = False
    skipped: str | None = None
    left_out: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the user; `level` is `info` or `warning`."""

    level: str
    text: str


ASKED_TO_END = "asked_to_end"
"""The decision that is not the run's own: a signal, or a file named STOP."""

Event: TypeAlias = StageBegan | StageEnded | Progress | Decision | Recall | Epoch | RangeTest | RungEnded | Note
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


def decide(name: str, value: Any, evidence: str) -> Steps[Any]:
    """Yield the decision `value`, which hangs on a clock or a measurement, and return it.

    A run that goes on decides as it did before it was cut off: it takes the value that is recorded.
    """
    asked = Recall(name)
    yield asked
    decision = Decision(name, value, evidence)
    if asked.decided:
        decision = dataclasses.replace(asked.decided.popleft(), again=True)
    yield decision
    return decision.value


def recorded_decisions(path: Path) -> dict[str, deque[Decision]]:
    """Return the decisions in an `events.jsonl`, by name and in order; what is not a whole line is passed over.

    Of several attempts, each of which begins with the sequence number 1, the one that got furthest with a name counts:
    the others decided alike as far as they got. What an attempt decided once it was asked to end, in the few seconds
    that it then had, is no other's.
    """
    attempts: list[dict[str, deque[Decision]]] = []
    asked_to_end = False
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            told = json.loads(line)
            if told["seq"] == 1 or not attempts:
                attempts.append({})
                asked_to_end = False
            asked_to_end = asked_to_end or told.get("name") == ASKED_TO_END
            if told["event"] == "Decision" and not asked_to_end:
                decision = Decision(told["name"], told["value"], told["evidence"])
                attempts[-1].setdefault(decision.name, deque()).append(decision)
        except (ValueError, KeyError, TypeError):
            continue
    found: dict[str, deque[Decision]] = {}
    for attempt in attempts:
        for name, decisions in attempt.items():
            if len(decisions) >= len(found.get(name, ())):
                found[name] = decisions
    return found


class EventLog:
    """Appends events to `events.jsonl`: one JSON object a line, with a sequence number and a UTC time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._seq = 0

    def write(self, event: Event) -> None:
        """Append one event; a `Decision` is on the disk when this returns. `Progress` is not kept."""
        if isinstance(event, Progress | Recall):
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
