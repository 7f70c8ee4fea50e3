"""The soup of a rung: more networks like its own, their weights averaged, where that is better than the best so far."""

from __future__ import annotations

import dataclasses
import time

from tellapart.errors import InterruptedRunError, OutOfTimeError, TellapartError
from tellapart.events import Decision, Recall, Steps, follow
from tellapart.ladder.choose import Candidate, Ground, beats, candidate
from tellapart.ladder.finish import seconds_to_finish
from tellapart.ladder.rows import row_of
from tellapart.ladder.run import OUT_OF_TIME, Run, out_of_time, stage
from tellapart.ladder.rungs import Made
from tellapart.learn.rungs import Soup
from tellapart.memory import out_of_memory
from tellapart.report import LadderRow

__all__ = ["soup"]

METHOD = "soup"


def soup(
    run: Run, made: Made, of: Candidate, champion: Candidate, ground: Ground
) -> Steps[tuple[LadderRow, Candidate | None]]:
    """Return the row of the soup of a rung `made`, the candidate `of`, and its candidate where it beats the champion.

    It ships as one network, as large and as fast as the rung's own; what it cost is the seconds of its training.
    """
    began = time.monotonic()
    backbone = of.fitted.backbone
    try:
        told = yield from stage(METHOD, _within(run, made, of))
    except InterruptedRunError as error:
        why = OUT_OF_TIME if isinstance(error, OutOfTimeError) else "the run was asked to end"
        return LadderRow(METHOD, backbone, seconds=time.monotonic() - began, skipped=why), None
    except (TellapartError, MemoryError, RuntimeError) as error:
        failed = out_of_memory(error, METHOD) or error
        if not isinstance(failed, TellapartError) or failed.code not in ("diverged", "out_of_memory", "rank_lost"):
            raise
        return LadderRow(METHOD, backbone, seconds=time.monotonic() - began, skipped=failed.message), None
    seconds = time.monotonic() - began
    if told.fitted is None:
        return LadderRow(METHOD, backbone, seconds=seconds, skipped=told.words), None
    found = candidate(told.fitted, ground, made.rows, seconds, made.seconds_per_picture)
    comparison = beats(found, champion, ground)
    words = f"{comparison.words} {told.words} It is as large, and as fast, as {of.name} alone."
    yield Decision(METHOD, comparison.better, words)
    return row_of(found, ground, comparison.better, words), found if comparison.better else None


def _within(run: Run, made: Made, of: Candidate) -> Steps[Soup]:
    """Make the soup, cut short when only what the end needs is left."""
    assert made.soup is not None, "the rung left something to make it from"
    steps, name = made.soup(), f"{of.fitted.method}.{METHOD}.out_of_time"
    yield (before := Recall(name))
    if before.decided:
        steps.close()
        yield dataclasses.replace(before.decided.popleft(), again=True)
        raise OutOfTimeError()
    reserve = seconds_to_finish(len(made.rows["train"]), run.recipe.budget_seconds)
    try:
        return (yield from follow(steps, out_of_time(run.clock, lambda: reserve)))
    except OutOfTimeError:
        yield Decision(name, True, "what is left of the budget is kept for the end of the run")
        raise
