"""Options that were given and reached no rung that was climbed: a pure function of the recipe and these rungs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tellapart.events import Note, Steps
from tellapart.ladder.run import OUT_OF_TIME, Run
from tellapart.ladder.tune_space import NETWORKS
from tellapart.recipe import Recipe
from tellapart.report import LadderRow

__all__ = ["told_unheeded", "unheeded"]

# Which rungs heed an option, and what is said where none of them was climbed.
_HEEDED: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("augment",), NETWORKS, "no rung that trains on varied pictures was climbed"),
    (("flip",), ("classical", "probe", *NETWORKS), "no rung that learns from mirrored pictures was climbed"),
    (("epochs", "checkpoint_every", "lr", "schedule"), NETWORKS, "no rung that trains a network was climbed"),
    (("backbone",), ("probe", "finetune"), "no rung that looks through a backbone was climbed"),
    (("image_size",), ("classical", "probe", *NETWORKS), "no rung that looks at pictures was climbed"),
    (("tune", "head", "pooling", "bn_policy"), ("finetune",), "no backbone was tuned"),
)


def unheeded(recipe: Recipe, climbed: Collection[str]) -> str:
    """Return one sentence on the options that had no effect, since none of the rungs `climbed` heeds them; else "".

    Only values that differ from the default count, since nothing else was asked for. `--augment none` also turns off
    mirroring, which more rungs heed, unless `--flip` says what becomes of it.
    """
    given = {option.name: option for option in Recipe.options()}
    nested = recipe.model_dump()
    told = []
    for names, methods, why in _HEEDED:
        asked = [name for name in names if nested[given[name].section][name] != given[name].default]
        if "augment" in asked and recipe.augment.augment == "none" and recipe.augment.flip == "auto":
            methods = (*methods, "classical", "probe")
        if asked and not set(methods) & set(climbed):
            words = [f"--{name.replace('_', '-')} {_said(nested[given[name].section][name])}" for name in asked]
            told.append(f"{', '.join(words[:-1])}{' and ' if words[1:] else ''}{words[-1]} had no effect: {why}")
    return f"{'; '.join(told)}." if told else ""


def told_unheeded(run: Run, ladder: Sequence[LadderRow]) -> Steps[None]:
    """Tell of options that had no effect; not where the run was asked to end before it came to their rungs.

    A rung that failed by itself heeded them. Tuning that ended with the probe for lack of time is a row of the probe.
    """
    failed = {row.method for row in ladder if row.skipped not in (None, OUT_OF_TIME) and row.seconds > 0.0}
    words = unheeded(run.recipe, failed | {row.method for row in ladder if row.skipped is None})
    if words and not run.clock.interrupted:
        yield Note("warning", words)


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
