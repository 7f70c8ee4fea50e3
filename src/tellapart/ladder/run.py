"""What a run carries through its parts: where things are, how long is left, what has been decided."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tellapart.data.manifest import SPLITS, Manifest, Split
from tellapart.errors import OutOfTimeError
from tellapart.events import Decision, Event, Note, RangeTest, StageBegan, StageEnded, Steps
from tellapart.ladder.clock import Clock
from tellapart.learn.rungs import Pictures
from tellapart.memory import give_back
from tellapart.recipe import Recipe

if TYPE_CHECKING:
    from tellapart.learn.torch_world import World

__all__ = [
    "ASKED_TO_END",
    "OUT_OF_TIME",
    "Heard",
    "Run",
    "count_files",
    "out_of_time",
    "pictures_of",
    "stage",
    "why_ended",
]

T = TypeVar("T")
# What the ladder says of a rung that was cut off, or not begun.
OUT_OF_TIME, ASKED_TO_END = "the budget was used up", "the run was asked to end"


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: `data` as the user named it, the run `folder`, the `cache` folder, the wish, the time.

    The other processes of `world` take part where networks are trained. `goes_on`: an attempt with these very options
    was cut off, and what the folder holds is of that attempt.
    """

    data: Path
    folder: Path
    cache: Path
    recipe: Recipe
    clock: Clock
    world: World | None = None
    goes_on: bool = False


class Heard:
    """The lasting events of a run so far, for the report."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def see(self, event: Event) -> None:
        """Remember one event."""
        if isinstance(event, Decision | Note | RangeTest | StageEnded):
            self.events.append(event)

    @property
    def decisions(self) -> tuple[tuple[str, object, str], ...]:
        """Name, value and evidence of every decision, in order."""
        return tuple((e.name, e.value, e.evidence) for e in self.events if isinstance(e, Decision))

    def range_test(self, lr: object) -> RangeTest | None:
        """The last range test that found this rate: each rung that trains a network has its own."""
        return next((e for e in reversed(self.events) if isinstance(e, RangeTest) and e.lr == lr), None)

    @property
    def notes(self) -> tuple[str, ...]:
        """Every note, once, in order."""
        return tuple(dict.fromkeys(e.text for e in self.events if isinstance(e, Note)))

    @property
    def stages(self) -> tuple[tuple[str, float], ...]:
        """Seconds of every stage that ended, in the order of their first end."""
        seconds: dict[str, float] = {}
        for event in self.events:
            if isinstance(event, StageEnded):
                seconds[event.stage] = seconds.get(event.stage, 0.0) + event.seconds
        return tuple(seconds.items())


def stage(name: str, steps: Steps[T]) -> Steps[T]:
    """Run `steps` as a named stage whose seconds are kept; what it freed is not kept for the next."""
    yield StageBegan(name)
    began = time.monotonic()
    result = yield from steps
    give_back()
    yield StageEnded(name, time.monotonic() - began)
    return result


def out_of_time(clock: Clock, reserve: Callable[[], float]) -> Callable[[Event], OutOfTimeError | None]:
    """Return what `events.follow` asks at each event: an error once less than `reserve()` seconds are left."""

    def see(_: Event) -> OutOfTimeError | None:
        return OutOfTimeError() if clock.left() < reserve() else None

    return see


def why_ended(run: Run) -> str:
    """Return why no further rung is begun after one whose fit was cut short: by the clock, or because someone asked."""
    return ASKED_TO_END if run.clock.interrupted else OUT_OF_TIME


def count_files(data: Path) -> int | None:
    """Return how many files a folder holds, or None for anything else."""
    return sum(len(names) for _, _, names in os.walk(data)) if data.is_dir() else None


def pictures_of(manifest: Manifest) -> dict[Split, Pictures]:
    """Return the pictures of each split, with class indices, in the manifest's order."""
    index = {label: position for position, label in enumerate(manifest.classes)}
    found: dict[Split, Pictures] = {}
    for split in SPLITS:
        rows = manifest.where(split=split)
        found[split] = Pictures(
            tuple(manifest.file(row) for row in rows),
            tuple(row.sha256 for row in rows),
            tuple(row.group for row in rows),
            np.array([index[row.label] for row in rows], dtype=np.int64),
        )
    return found
