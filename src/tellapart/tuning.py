"""A search over recipes as a function: its folder, its clock, its signals."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.events import Event
from tellapart.recipe import Recipe

if TYPE_CHECKING:
    from tellapart.ladder.tune import Tuned

__all__ = ["tune"]

_SECONDS_TO_END_IN = 8.0


def tune(
    data: str | Path,
    *,
    trials: int = 20,
    out: str | Path | None = None,
    recipe: Recipe | None = None,
    watch: Callable[[Event], None] | None = None,
    spent_already: float = 0.0,
    **options: Any,
) -> Tuned:
    """Search for a better recipe than `recipe` with `options`: `trials` of them, within their `budget` altogether.

    The first trial is the recipe as it is, so that what is found is never worse by the log loss that `train` selects
    by. `out` is the folder of the search (default: one beside `data`); a search that is there goes on. It holds
    `best.json`, which `train` takes as a recipe, and `tune.html`. The test split stays closed. Raises MissingExtraError
    without the extra [tune], and else what `train` raises.

    >>> import tellapart
    >>> found = tellapart.tune("photos/", trials=2, budget="60s", method="classical")
    >>> found.best.loss <= found.default.loss, found.recipe.name
    (True, 'best.json')
    """
    entered = time.monotonic()
    from importlib.util import find_spec

    from tellapart.errors import MissingExtraError

    if find_spec("optuna") is None:
        raise MissingExtraError("tune", "A search over recipes")
    import dataclasses

    from tellapart.driving import Signals, drive, finish
    from tellapart.interrupts import by_exception
    from tellapart.ladder.clock import Clock
    from tellapart.ladder.tune import tune as steps
    from tellapart.ladder.tune_folder import prepare

    by_exception()
    data, chosen = Path(data), Recipe.of(recipe, **options)
    with Signals() as signals:
        folder, lock = finish(prepare(data, None if out is None else Path(out), chosen), watch)
        try:
            clock = Clock(chosen.budget_seconds, spent_already + time.monotonic() - entered)
            searched = steps(data, folder, chosen, trials, clock)
            found, exit_code = drive(searched, folder, watch, lambda: clock.interrupt(_SECONDS_TO_END_IN), signals)
        finally:
            lock.release()
    return dataclasses.replace(found, exit_code=exit_code)
