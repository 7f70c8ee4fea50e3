"""A search over recipes: trial after trial on the same pictures, judged as `train` judges; no test split is opened."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import signal
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tellapart import files, judge
from tellapart.cache import cache_root
from tellapart.data import scan
from tellapart.data.manifest import Manifest, Split
from tellapart.errors import InputError, InterruptedRunError, TellapartError
from tellapart.events import (
    Decision,
    Epoch,
    Event,
    Note,
    Progress,
    RangeTest,
    RungEnded,
    StageBegan,
    StageEnded,
    Steps,
    follow,
    without,
)
from tellapart.judge.arrays import row_losses
from tellapart.ladder.choose import ENOUGH_TO_COMPARE
from tellapart.ladder.climb import attempt
from tellapart.ladder.clock import Clock
from tellapart.ladder.finish import Climbed, seconds_to_finish
from tellapart.ladder.run import Run, pictures_of
from tellapart.ladder.study import Study, Tried, Within
from tellapart.ladder.tune_folder import MANIFEST
from tellapart.ladder.tune_space import NETWORKS, chosen, default_values, knobs
from tellapart.learn.backbones import names_at_hand
from tellapart.learn.rungs import Pictures
from tellapart.recipe import Recipe

__all__ = ["RECIPE", "Tuned", "tune"]

RECIPE = "best.json"

_LEAST_SECONDS = 5.0  # of a trial
_SILENT = (Decision, Epoch, Note, RangeTest, RungEnded, StageBegan, StageEnded)


class _Stopped(Exception):  # noqa: N818 - no error: it takes a trial out of whatever it is doing
    """A trial ends here; `pruned` says that it did because others were better by then."""

    def __init__(self, pruned: bool) -> None:
        super().__init__()
        self.pruned = pruned


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What a search found: every trial that ended, the best and the default one, and what mattered.

    `objective` says what was made as low as possible; `importance` {option: share of what changed it}, the largest
    first, is empty where too few trials tell; `within` is the same among trials of the best one's method, with the
    options that not all trials have, or None; `searched` {option: its choices}. `recipe` is the file for `train`.
    """

    out: Path
    recipe: Path
    page: Path
    trials: tuple[Tried, ...]
    best: Tried
    default: Tried
    objective: str
    importance: Mapping[str, float]
    within: Within | None
    searched: Mapping[str, tuple[Any, ...]]
    seconds: float
    words: str
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints: version 1 of the JSON contract."""
        plain: dict[str, Any] = files.finite(
            {
                "version": 1,
                "out": str(self.out),
                "recipe": str(self.recipe),
                "page": str(self.page),
                "objective": self.objective,
                "best": _plain(self.best),
                "default": _plain(self.default),
                "trials": [_plain(trial) for trial in self.trials],
                "importance": dict(self.importance),
                "within": None if self.within is None else dataclasses.asdict(self.within),
                "searched": {name: list(choices) for name, choices in self.searched.items()},
                "seconds": self.seconds,
                "words": self.words,
            }
        )
        return plain


def _plain(trial: Tried) -> dict[str, Any]:
    return {**dataclasses.asdict(trial), "values": dict(trial.values), "recipe": json.loads(trial.recipe)}


def tune(data: Path, out: Path, base: Recipe, num_trials: int, clock: Clock) -> Steps[Tuned]:
    """Try `num_trials` recipes within the clock, the default one first; write the best one and a page into `out`.

    Trials share the scan, the split and the caches. An interrupted search keeps the best so far; a search whose
    folder is there goes on. Raises MissingExtraError without optuna, DataError, RecipeError, and InputError where not
    even the default recipe could be tried.
    """
    manifest = yield from scan(data, base, cache_root(out))
    if not (out / MANIFEST).exists():
        manifest.write(out / MANIFEST)
    # From here on an interruption is told by the clock: what there is by then is kept.
    return (yield from follow(_searched(data, out, base, num_trials, clock, manifest), lambda _: None, deaf=True))


def _searched(data: Path, out: Path, base: Recipe, num_trials: int, clock: Clock, manifest: Manifest) -> Steps[Tuned]:
    pictures = pictures_of(manifest)
    counts = np.bincount(pictures["train"].targets, minlength=len(manifest.classes))
    balanced = judge.counts_alike(counts, base.fit.balance)
    seconds = max(_LEAST_SECONDS, base.budget_seconds / num_trials)
    reserve = seconds_to_finish(manifest.counts["used"], base.budget_seconds)
    networks = find_spec("torch") is not None
    searched = knobs(base, names_at_hand(), networks, judge.is_unbalanced(counts), seconds)
    with Study(out / "tune.db", base.seed, default_values(searched, base)) as study:
        yield Note(
            "info", f"{num_trials} trials of at most {seconds:.0f} s each; {study.num_ended} were there already."
        )
        while study.num_ended < num_trials and not clock.interrupted:
            if (left := clock.left()) < min(seconds, max(_LEAST_SECONDS, study.fastest)):
                if study.num_ended:
                    yield Note("info", f"The budget is used up: {study.num_ended} of {num_trials} trials were made.")
                    break
                left = seconds
            yield Progress("tune", study.num_ended, num_trials, "trials")
            asked = study.begin()
            try:
                recipe = chosen(asked, searched, base, math.ceil(seconds + reserve))
                with _folder(out) as folder:
                    run = Run(data, folder, cache_root(out), recipe, Clock(min(seconds, left) + reserve))
                    climbed = yield from _tried(run, manifest, pictures, study, clock)
            except _Stopped as stop:
                if stop.pruned:
                    study.prune()
                else:
                    study.give_back()
                continue
            except (TellapartError, MemoryError, RuntimeError) as error:
                yield Note("warning", f"Trial {study.number} gave nothing: {getattr(error, 'message', error)}")
                study.fail(str(getattr(error, "message", error)))
                continue
            loss, n, where = _objective(climbed, balanced)
            study.end(loss, n, where, climbed.winner.name, recipe)
            yield Decision("tune_trial", loss, f"trial {study.number} by {climbed.winner.name}: {study.told}")
        return (yield from _told(study, out, clock, {knob.name: knob.choices for knob in searched}, balanced))


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """Give a trial a folder of its own: what it would go on from, were it cut off, is not for another trial."""
    folder = out / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tried(
    run: Run, manifest: Manifest, pictures: Mapping[Split, Pictures], study: Study, clock: Clock
) -> Steps[Climbed]:
    """Make one trial; where it trains one network alone, epochs are heard, so that a hopeless one is cut short.

    Where several rungs are climbed, a network that is far behind says nothing of the others.
    """
    epochs, method = 0, run.recipe.model.method

    def see(event: Event) -> BaseException | None:
        nonlocal epochs
        if clock.interrupted:
            return _Stopped(pruned=False)
        if method in NETWORKS and isinstance(event, Epoch) and event.val_loss is not None:
            epochs += 1
            return _Stopped(pruned=True) if study.is_hopeless(method, epochs, event.val_loss) else None
        return None

    return (yield from without(follow(attempt(run, manifest, pictures), see, deaf=True), _SILENT))


def _objective(climbed: Climbed, balanced: bool) -> tuple[float, int, str]:
    """Return the log loss by which rungs are compared, on how many pictures, of which kind."""
    winner, ground = climbed.winner, climbed.ground
    rows = winner.rows["val"]
    if len(rows) >= ENOUGH_TO_COMPARE or not len(winner.out_of_fold_rows):
        targets, probs, where = ground.val_targets[rows], winner.val_probs, "validation"
    else:
        targets, probs = ground.train_targets[winner.out_of_fold_rows], winner.out_of_fold_probs()
        where = "out of fold"
    if not len(targets):
        return math.inf, 0, where
    losses = row_losses(targets, probs)
    if balanced:
        return float(np.mean([losses[targets == label].mean() for label in np.unique(targets)])), len(targets), where
    return float(losses.mean()), len(targets), where


def _told(
    study: Study, out: Path, clock: Clock, searched: Mapping[str, tuple[Any, ...]], balanced: bool
) -> Steps[Tuned]:
    """Write the best recipe and the page; return what was found."""
    from tellapart.report.tune_page import render_tuned

    trials = study.trials
    ended = [trial for trial in trials if trial.loss is not None and math.isfinite(trial.loss)]
    default = next((trial for trial in ended if trial.default), None)
    if default is None and clock.interrupted:
        raise InterruptedRunError(signal.SIGINT)
    if default is None:
        why = next((trial.why for trial in trials if trial.default and trial.why), "it was cut short")
        raise InputError(
            "no_trial",
            f"Not even the recipe as it is could be tried: {why}.",
            "Give a longer --budget, or other options.",
        )
    best = min(ended, key=lambda trial: (trial.loss, trial.number))
    yield Progress("importance", 0, None, "seconds")
    importance, within = study.importance(), study.within(best)
    kind = "macro log loss, each class counting equally" if balanced else "log loss"
    objective = f"{kind}, {best.where}, on {best.n:,} pictures"
    assert best.loss is not None
    assert default.loss is not None
    words = (
        f"Trial {best.number} of {len(trials)} is the best: {kind} {best.loss:.4f} where the recipe as it is has "
        f"{default.loss:.4f}. It was chosen on these very pictures, which flatters it a little; the test split was not "
        "opened."
    )
    if best is default:
        words = f"Of {len(trials)} trials none was better than the recipe as it is: {kind} {default.loss:.4f}."
    files.write_json(out / RECIPE, json.loads(best.recipe))
    found = Tuned(
        out=out,
        recipe=out / RECIPE,
        page=out / "tune.html",
        trials=trials,
        best=best,
        default=default,
        objective=objective,
        importance=importance,
        within=within,
        searched=searched,
        seconds=clock.spent(),
        words=words,
    )
    files.write_text(found.page, render_tuned(found))
    return found
