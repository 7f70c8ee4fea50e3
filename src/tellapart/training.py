"""A run driven to its end: its folder, its clock, its exit code."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart import errors
from tellapart.cache import cache_root
from tellapart.data.listing import shown
from tellapart.driving import Signals, drive
from tellapart.errors import InputError, InterruptedRunError, MissingExtraError, TellapartError
from tellapart.events import Event, Note, recorded_decisions
from tellapart.files import is_full
from tellapart.ladder.climb import climb
from tellapart.ladder.clock import Clock
from tellapart.ladder.finish import contract
from tellapart.ladder.folder import RunFolder, stored_result
from tellapart.ladder.run import Run
from tellapart.recipe import Recipe
from tellapart.results import TrainResult

if TYPE_CHECKING:
    from tellapart.learn.torch_world import World

__all__ = ["by_all", "told_again", "trained"]

# After a signal: what the end of a run may take.
_SECONDS_TO_END_IN = 8.0


def trained(
    folder: RunFolder,
    chosen: Recipe,
    clock: Clock,
    watch: Callable[[Event], None] | None,
    signals: Signals,
    world: World | None = None,
) -> TrainResult:
    """Climb the ladder for `folder`, or go on with it, and return what it gave; `watch` is called with each event.

    The other processes of `world` take part where networks are trained.

    A run that ends without anything to keep leaves no folder. What is raised passes through.
    """
    try:
        folder.remember(finished=False)
        if folder.previous is not None and chosen.data.previous is None:
            chosen = Recipe.of(chosen, previous=str(folder.previous))
        goes_on = folder.goes_on and not folder.had_result
        run = Run(folder.data, folder.path, cache_root(folder.path), chosen, clock, world, goes_on)
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
        return TrainResult(folder.path, stored_result(folder.path), None, exit_code)
    return TrainResult(folder.path, contract(summary), summary, exit_code)


def told_again(folder: RunFolder, watch: Callable[[Event], None] | None) -> TrainResult:
    """Return the stored result of a run that ended in `folder`, with `warnings` where it may mislead.

    Its paths are those of the folder as it is named now, null for what is no longer there.
    """
    assert folder.finished is not None
    places: dict[str, str | None] = {"run": str(folder.path)}
    warnings = []
    for name, place in (("bundle", "bundle"), ("report", "report.html")):
        there = folder.path / place
        places[name] = str(there) if there.exists() else None
        if not there.exists():
            step = "train anew with another --out to have one" if name == "bundle" else "report.json has its numbers"
            warnings.append(f"The {name} of this run is gone from {shown(str(folder.path))}: {step}.")
    if folder.changed:
        about = f"The pictures in {shown(str(folder.data))} have changed since this run began: {folder.changed}."
        warnings.append(f"{about} The result is that of the pictures as they were.")
    for text in warnings:
        if watch is not None:
            watch(Note("warning", text))
    return TrainResult(folder.path, {**folder.finished, **places, **({"warnings": warnings} if warnings else {})})


def by_all(chosen: Recipe, signals: Signals, lead: Callable[[World | None], TrainResult]) -> TrainResult:
    """Return what `lead` returns, in this process; of several, in that of rank 0 while the others take part.

    They return the same, and raise what it raised. A signal that only they get is told where the next step is taken.
    """
    world = _world_of(chosen)
    if world is None:
        return lead(None)
    if world.rank:
        from tellapart.learn.torch_crew import follow

        world.signalled = signals.take
        return _read(follow(world))
    try:
        result = lead(world)
    except BaseException as error:
        with contextlib.suppress(TellapartError):
            world.say(_written(error))
        raise
    with contextlib.suppress(TellapartError):  # another process is gone, and has no use for it
        world.say({"run": str(result.run), "result": result.result, "exit_code": result.exit_code})
    return result


def _is_initialized(distributed: Any) -> bool:
    """Return whether processes have met; not where torch is only being loaded, after an interruption, by a thread."""
    return hasattr(distributed, "is_initialized") and distributed.is_available() and distributed.is_initialized()


def _world_of(chosen: Recipe) -> World | None:
    """Return the processes that this one is among, or None where it is alone."""
    live = sys.modules.get("torch.distributed")
    if os.environ.get("WORLD_SIZE", "1") == "1" and not (live and _is_initialized(live)):
        return None
    if find_spec("torch") is None:
        raise MissingExtraError("train", "Training by several processes")
    from tellapart.learn.torch_world import detect

    world = detect(chosen.fit.device)
    return world if world.size > 1 else None


def _written(error: BaseException) -> dict[str, Any]:
    if not isinstance(error, TellapartError):
        error = TellapartError("internal_error", f"The process of rank 0 failed ({type(error).__name__}: {error}).")
    return {"kind": type(error).__name__, "exit_code": error.exit_code, "told": error.as_json()}


def _read(word: dict[str, Any]) -> TrainResult:
    if "kind" not in word:
        return TrainResult(Path(word["run"]), word["result"], None, word["exit_code"])
    kind = getattr(errors, word["kind"], TellapartError)
    error: TellapartError = kind.__new__(kind)
    TellapartError.__init__(error, **word["told"])
    error.exit_code = word["exit_code"]
    raise error
