"""Why a run ends well before its budget does."""

from __future__ import annotations

from tellapart.events import Steps, decide
from tellapart.ladder.finish import Climbed
from tellapart.ladder.plan import Plan
from tellapart.ladder.run import ASKED_TO_END, OUT_OF_TIME, Run

__all__ = ["told_why_early"]

_SECONDS, _SHARE = 3.0, 0.05  # so much before its end, and so much of it, a run may end without a word

_WHY = {
    "done": "the network was trained to the end of its schedule",
    "early_stop": "the loss on validation had not become lower for some time",
    "time": "what was left is too little to train another network",
    "diverged": "training ended where the loss was no number",
}


def told_why_early(run: Run, climbed: Climbed, chosen: Plan) -> Steps[None]:
    """Tell why there is time left that nothing was done with, where it is more than a run keeps for its end."""
    left = run.clock.left()
    if left <= max(_SECONDS, _SHARE * run.clock.budget_seconds):
        return
    fitted = climbed.winner.fitted
    if run.clock.interrupted:
        why, words = "interrupted", ASKED_TO_END
    else:
        ended = "time" if fitted.details.get("interrupted") else str(fitted.details.get("ended", ""))
        why = ended if ended in _WHY else "nothing left"
        words = _WHY.get(ended, "there is nothing more to be tried: every rung of the plan was climbed")
        if why == "nothing left" and (longer := _left_out(climbed, chosen)):
            why, words = "too short", f"what is left is too little for {' or '.join(longer)}"
    yield from decide("ended_early", why, f"{fitted.method}: {words}; {left:.0f} s are left before the last steps")


def _left_out(climbed: Climbed, chosen: Plan) -> list[str]:
    """Return the methods that were not begun, or were cut off, for lack of time."""
    cut_off = [row.method for row in climbed.ladder if row.skipped == OUT_OF_TIME]
    if "finetune" in chosen.climbed and "finetune" not in {row.method for row in climbed.ladder}:
        cut_off.append("finetune")  # it ended with the probe that it begins with
    return [*cut_off, *(rung.method for rung in chosen.rungs if rung.short_of_time and rung.method not in cut_off)]
