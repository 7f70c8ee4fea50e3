"""A run driven to its end: its folder, its clock, its exit code."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from tellapart.cache import cache_root
from tellapart.driving import Signals, drive
from tellapart.errors import InputError, InterruptedRunError
from tellapart.events import Event, recorded_decisions
from tellapart.files import is_full
from tellapart.ladder.climb import climb
from tellapart.ladder.clock import Clock
from tellapart.ladder.finish import contract
from tellapart.ladder.folder import RunFolder
from tellapart.ladder.run import Run
from tellapart.recipe import Recipe
from tellapart.results import TrainResult

__all__ = ["trained"]

# After a signal: what the end of a run may take.
_SECONDS_TO_END_IN = 8.0


def trained(
    folder: RunFolder, chosen: Recipe, clock: Clock, watch: Callable[[Event], None] | None, signals: Signals
) -> TrainResult:
    """Climb the ladder for `folder`, or go on with it, and return what it gave; `watch` is called with each event.

    A run that ends without anything to keep leaves no folder. What is raised passes through.
    """
    try:
        folder.remember(finished=False)
        if folder.previous is not None and chosen.data.previous is None:
            chosen = Recipe.of(chosen, previous=str(folder.previous))
        run = Run(folder.data, folder.path, cache_root(folder.path), chosen, clock)
        interrupt = functools.partial(clock.interrupt, _SECONDS_TO_END_IN)
        recorded = recorded_decisions(folder.path / "events.jsonl") if folder.goes_on else None
        summary, exit_code = drive(climb(run), folder.path, watch, interrupt, signals, recorded)
    except (InputError, InterruptedRunError):
        folder.forget()
        raise
    except Exception as error:
        if isinstance(error, OSError) and is_full(error) and not (folder.path / "bundle").exists():
            folder.forget()
        error.add_note(f"run folder: {folder.path}")
        raise
    folder.remember(finished=not clock.interrupted)
    if summary is None:
        stored: dict[str, Any] = json.loads((folder.path / "result.json").read_text(encoding="utf-8"))
        return TrainResult(folder.path, stored, None, exit_code)
    return TrainResult(folder.path, contract(summary), summary, exit_code)
