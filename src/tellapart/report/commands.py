"""The three commands to type next, quoted for a shell."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from tellapart.recipe import DEFAULT_BUDGET_SECONDS, Effort, Recipe
from tellapart.report.summary import Summary
from tellapart.report.verdict import Verdict, tried

__all__ = ["Command", "next_commands"]

_NEXT_EFFORT: dict[Effort, Effort] = {"quick": "balanced", "balanced": "best", "best": "best"}
_SECONDS = ("budget", "checkpoint_every")


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """What it does, in words, and the line itself."""

    words: str
    line: str


def next_commands(summary: Summary, verdict: Verdict) -> tuple[Command, ...]:
    """Return three commands; where the model is not fit for use, its pictures come first, as in the verdict's advice.

    A run that was asked to end is gone on with, before anything else is made of a poor result.
    After an evaluation there is nothing to train again: two then. Nor is there anything to use where nothing beat
    guessing: two again. Where nothing but guessing was tried, trying more comes first.
    """
    bundle, data = _argument(summary.bundle), _argument(summary.data)
    predict = Command("Name the pictures in a folder", f"tellapart predict {bundle} new_pictures/")
    evaluate = Command("Measure it on other labelled pictures", f"tellapart evaluate {bundle} labelled_pictures/")
    if summary.evaluated:
        return predict, evaluate
    harder = f"tellapart train {data}{_harder(Recipe.parse(summary.asked))}"
    check = Command("Look for what is wrong with the pictures", f"tellapart check {data}")
    if summary.interrupted:
        run = _argument(summary.run)
        line = f"tellapart train {data} --resume --out {run} --recipe {_argument(f'{summary.run}/recipe.json')}"
        on = Command("Go on where it was stopped", line)
        return (on, check) if verdict.tone == "poor" else (predict, evaluate, on)
    if verdict.tone != "poor":
        return predict, evaluate, Command("Try harder", harder)
    again = Command("Add pictures of every class, then train again", harder)
    if not tried(summary):
        return (Command("Let it try more", harder), check)
    return (check, again) if summary.method == "majority" else (check, again, evaluate)


def _harder(asked: Recipe) -> str:
    """Return the options of a run that tries more: those that were asked for, but for what held it back.

    The effort rises, and with it the budget, unless more than it stands for was given; at the highest effort the budget
    is doubled. A limit on epochs goes, and so does the wish to do no more than guess.
    """
    effort = _NEXT_EFFORT[asked.fit.effort]
    given = None
    if effort == asked.fit.effort or (asked.fit.budget or 0.0) >= DEFAULT_BUDGET_SECONDS[effort]:
        given = 2.0 * asked.budget_seconds
    method = "auto" if asked.model.method == "majority" else asked.model.method
    return _options(Recipe.of(asked, effort=effort, budget=given, epochs=None, method=method))


def _options(recipe: Recipe) -> str:
    """Return what differs from the defaults as options for a shell, each after a space, in their declared order."""
    nested, words = recipe.model_dump(), []
    for option in Recipe.options():
        value = nested[option.section][option.name] if option.section else nested[option.name]
        if value == option.default:
            continue
        flag = f"--{option.name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
            continue
        text = _spelled(option.name, value)
        words += [shlex.quote(f"{flag}={text}")] if text.startswith("-") else [flag, shlex.quote(text)]
    return "".join(f" {word}" for word in words)


def _spelled(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if name in _SECONDS:
        return f"{value / 60:.0f}m" if value % 60 == 0 else f"{value:.10g}s"
    return str(value)


def _argument(path: str) -> str:
    """Return a path as one word of a shell that cannot be taken for an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)
