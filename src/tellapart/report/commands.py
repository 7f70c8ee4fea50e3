"""The three commands to type next, quoted for a shell."""

from __future__ import annotations

import dataclasses
import shlex

from tellapart.report.summary import Summary
from tellapart.report.verdict import Verdict, tried

__all__ = ["Command", "next_commands"]


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """What it does, in words, and the line itself."""

    words: str
    line: str


def next_commands(summary: Summary, verdict: Verdict) -> tuple[Command, ...]:
    """Return three commands; where the model is not fit for use, its pictures come first, as in the verdict's advice.

    After an evaluation there is nothing to train again: two then. Nor is there anything to use where nothing beat
    guessing: two again. Where nothing but guessing was tried, trying more comes first.
    """
    bundle, data = _argument(summary.bundle), _argument(summary.data)
    predict = Command("Name the pictures in a folder", f"tellapart predict {bundle} new_pictures/")
    evaluate = Command("Measure it on other labelled pictures", f"tellapart evaluate {bundle} labelled_pictures/")
    if summary.evaluated:
        return predict, evaluate
    harder = f"tellapart train {data}{_harder(summary)}"
    if verdict.tone != "poor":
        return predict, evaluate, Command("Try harder", harder)
    check = Command("Look for what is wrong with the pictures", f"tellapart check {data}")
    again = Command("Add pictures of every class, then train again", harder)
    if not tried(summary):
        return (Command("Let it try more", harder), check)
    return (check, again) if summary.method == "majority" else (check, again, evaluate)


def _harder(summary: Summary) -> str:
    """Return options that try more than the run did, with the backbone it was told to use."""
    fit = summary.recipe.get("fit", {})
    effort = {"quick": "balanced", "balanced": "best"}.get(fit.get("effort", "balanced"))
    budget = summary.budget_seconds or fit.get("budget") or 3600.0
    more = f" --effort {effort}" if effort else f" --effort best --budget {2 * budget / 60:.0f}m"
    return f" --backbone {_argument(summary.backbone)}{more}" if summary.backbone and effort == "balanced" else more


def _argument(path: str) -> str:
    """Return a path as one word of a shell that cannot be taken for an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)
