"""The memory of a search: trials in an SQLite file, so that a search that was killed goes on where it was."""

from __future__ import annotations

import dataclasses
import functools
import math
import sqlite3
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tellapart.errors import DataError, MissingExtraError
from tellapart.ladder.tune_space import NETWORKS, Asked
from tellapart.recipe import Recipe

__all__ = ["Study", "Tried", "Within"]

_NAME = "tellapart"
_PATIENCE_SECONDS = 30.0
_FEWEST_TO_PRUNE = 4  # trials of one method that came as far
_MOST_EPOCHS = 1_000_000  # so that the steps of one method are no steps of another
_FEWEST_TO_TELL = 5  # trials: with fewer, importance is noise


@dataclasses.dataclass(frozen=True)
class Tried:
    """One trial that ended: its `values`, what it gave, or `why` it gave nothing.

    `loss` in nats over `n` pictures is None for a trial that was cut short (`pruned`) or failed; `default` is the one
    of the recipe as it is; `recipe` is JSON.
    """

    number: int
    values: Mapping[str, Any]
    loss: float | None
    seconds: float
    default: bool
    pruned: bool = False
    n: int = 0
    where: str = ""
    method: str = ""
    recipe: str = "{}"
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Within:
    """What mattered among the `num_trials` trials of one `method` that gave something: {option: share}, largest first.

    Options that only some methods heed are in it, where they cannot be in what mattered altogether.
    """

    method: str
    num_trials: int
    importance: Mapping[str, float]


class Study:
    """A search under way. Raises MissingExtraError without optuna, DataError (`damaged_search`) for a broken file."""

    def __init__(self, path: Path, seed: int, default: Mapping[str, Any]) -> None:
        try:
            import optuna
        except ImportError:
            raise MissingExtraError("tune", "A search over recipes") from None
        self._optuna: Any = optuna
        self._seed = seed
        self._trial: Any = None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            # Opened by us, since an address would have to spell out whatever letters a path has.
            opened = {"creator": functools.partial(sqlite3.connect, path, timeout=_PATIENCE_SECONDS)}
            self._storage: Any = optuna.storages.RDBStorage("sqlite:///tune.db", engine_kwargs=opened)
            self._study: Any = optuna.create_study(
                storage=self._storage,
                study_name=_NAME,
                direction="minimize",
                load_if_exists=True,
                pruner=optuna.pruners.MedianPruner(n_startup_trials=_FEWEST_TO_PRUNE, n_min_trials=_FEWEST_TO_PRUNE),
            )
        except Exception as error:  # of sqlite's, sqlalchemy's or optuna's
            raise DataError(
                "damaged_search",
                f"{path} cannot be read as a search ({type(error).__name__}).",
                "Start in a new folder.",
            ) from None
        self._take_back()
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(dict(default), user_attrs={"default": True})

    def _take_back(self) -> None:
        """Let trials that a killed process left unfinished be made again, with the same values."""
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(states=(states.RUNNING,)):
            self._study.tell(trial.number, state=states.FAIL)
            self._study.enqueue_trial(trial.params, user_attrs=_known_by(trial.user_attrs))

    def begin(self) -> Asked:
        """Begin a trial and return what proposes its values: a function of the seed and of the trials before."""
        self._study.sampler = self._optuna.samplers.TPESampler(
            seed=(self._seed * 1_000_003 + len(self._study.get_trials(deepcopy=False))) % 2**32
        )
        self._trial = self._study.ask()
        self._began = time.monotonic()
        asked: Asked = self._trial
        return asked

    @property
    def number(self) -> int:
        """The number of the trial under way, from 0."""
        number: int = self._trial.number
        return number

    @property
    def told(self) -> str:
        """What the last trial gave, in a few words."""
        trial = self.trials[-1]
        return f"log loss {trial.loss:.4f} in {trial.seconds:.0f} s" if trial.loss is not None else trial.why

    def is_hopeless(self, method: str, epoch: int, loss: float) -> bool:
        """Note the loss of the trial, which trains one of `NETWORKS` alone, after an epoch, from 1.

        Return whether it is worse than the middle one of the others of this method by then, four at the least.
        """
        self._trial.report(loss, NETWORKS.index(method) * _MOST_EPOCHS + epoch)
        return bool(self._trial.should_prune()) and not self._trial.user_attrs.get("default")

    def end(self, loss: float, n: int, where: str, method: str, recipe: Recipe) -> None:
        """End the trial with what it gave."""
        told = {"n": n, "where": where, "method": method, "recipe": recipe.model_dump_json()}
        self._close({**told, "loss": loss} if math.isfinite(loss) else told, loss)

    def prune(self) -> None:
        """End the trial as one that was cut short."""
        self._close({"why": "cut short: worse by then than the middle one", "pruned": True}, None)

    def fail(self, why: str) -> None:
        """End the trial as one that gave nothing."""
        self._close({"why": why}, None)

    def give_back(self) -> None:
        """End the trial as one that is to be made again."""
        states = self._optuna.trial.TrialState
        params, told = dict(self._trial.params), dict(self._trial.user_attrs)
        self._study.tell(self._trial, state=states.FAIL)
        self._study.enqueue_trial(params, user_attrs=_known_by(told))

    def _close(self, told: Mapping[str, Any], loss: float | None) -> None:
        states = self._optuna.trial.TrialState
        for name, value in {**told, "seconds": time.monotonic() - self._began, "ended": True}.items():
            self._trial.set_user_attr(name, value)
        if loss is not None and math.isfinite(loss):
            self._study.tell(self._trial, loss)
        else:
            self._study.tell(self._trial, state=states.PRUNED if told.get("pruned") else states.FAIL)

    @property
    def trials(self) -> tuple[Tried, ...]:
        """Every trial that ended, in order."""
        found = []
        for trial in self._study.get_trials(deepcopy=False):
            told = trial.user_attrs
            if not trial.state.is_finished() or not told.get("ended"):
                continue
            found.append(
                Tried(
                    number=trial.number,
                    values=dict(trial.params),
                    loss=trial.value if trial.state.name == "COMPLETE" else None,
                    seconds=float(told["seconds"]),
                    default=bool(told.get("default")),
                    pruned=bool(told.get("pruned")),
                    n=int(told.get("n", 0)),
                    where=str(told.get("where", "")),
                    method=str(told.get("method", "")),
                    recipe=str(told.get("recipe", "{}")),
                    why=str(told.get("why", "")),
                )
            )
        return tuple(found)

    @property
    def num_ended(self) -> int:
        """How many trials ended, those that gave nothing included."""
        return len(self.trials)

    @property
    def fastest(self) -> float:
        """The seconds of the fastest trial that gave something; 0 where there is none."""
        return min((trial.seconds for trial in self.trials if trial.loss is not None), default=0.0)

    def importance(self) -> dict[str, float]:
        """Return the share of the loss's variance that goes with each option, the largest first (fANOVA).

        Of options that all trials have in common, by a forest over those that gave something; empty with fewer than
        five, or where all gave the same. Source: Hutter et al., "An efficient approach for assessing hyperparameter
        importance" (ICML 2014).
        """
        if sum(trial.loss is not None for trial in self.trials) < _FEWEST_TO_TELL:
            return {}
        return self._importance(self._study)

    def within(self, best: Tried) -> Within | None:
        """Return what mattered among trials of the method of the `best` one; of `auto`, of the rung that was best.

        None where the method was not searched, so that `importance` knows of every option, where fewer than five
        trials of that method gave something, and where all of them gave the same.
        """
        method = best.values.get("method")
        if method is None:
            return None
        method = best.method if method == "auto" else str(method)
        complete = (self._optuna.trial.TrialState.COMPLETE,)
        trials = [
            trial
            for trial in self._study.get_trials(deepcopy=False, states=complete)
            if trial.params.get("method") == method
        ]
        if len(trials) < _FEWEST_TO_TELL:
            return None
        alone = self._optuna.create_study(direction="minimize")  # in memory
        alone.add_trials(trials)
        shares = self._importance(alone)
        shares.pop("method", None)
        return Within(method, len(trials), shares) if shares else None

    def _importance(self, study: Any) -> dict[str, float]:
        evaluator = self._optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self._optuna.importance.get_param_importances(study, evaluator=evaluator)
        except (ImportError, RuntimeError, ValueError, ZeroDivisionError):
            return {}
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _known_by(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name == "default"}
