"""The best of several: the rungs that were climbed answer together, where that is better than the best of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from tellapart.errors import InterruptedRunError, OutOfTimeError
from tellapart.events import Decision, Progress, Steps, decide, follow
from tellapart.ladder.choose import Candidate, Ground, beats, candidate
from tellapart.ladder.costs import megabytes, milliseconds
from tellapart.ladder.finish import seconds_to_finish
from tellapart.ladder.rows import row_of
from tellapart.ladder.run import OUT_OF_TIME, Run, out_of_time, stage
from tellapart.ladder.rungs import Rungs
from tellapart.learn.embed import embed
from tellapart.learn.rungs import Head
from tellapart.learn.together import Member, together
from tellapart.report import LadderRow

__all__ = ["Together", "ensemble", "ensembled"]

METHOD = "ensemble"


class Together:
    """What came of it: the `candidate`, where there is one, whether it is `better`, and `words` on why or why not."""

    def __init__(self, words: str, found: Candidate | None = None, better: bool = False) -> None:
        self.words, self.candidate, self.better = words, found, better


def ensemble(
    run: Run, rungs: Rungs, climbed: Sequence[Candidate], champion: Candidate, ground: Ground
) -> Steps[Together]:
    """Let the climbed rungs answer together, in weights fitted out of fold, and compare that with the champion.

    Only models that see pictures as the champion does can share a graph; `majority` adds nothing. Where it is better,
    its embeddings of the test pictures are brought into the cache too, so that the end of the run has them; what it
    costs, in milliseconds a picture and megabytes, is measured and told. Raises what is thrown in.
    """
    began = time.monotonic()
    usable = [one for one in climbed if not (why := _why_not(one, champion))]
    left_out = [
        f"{one.name} {why}" for one in climbed if (why := _why_not(one, champion)) and one.fitted.method != "majority"
    ]
    beside = f" Left out: {'; '.join(left_out)}." if left_out else ""
    if len(usable) < 2:
        return Together(f"there are not two models that one graph can hold.{beside}")
    train = rungs.pictures["train"]
    members = [
        Member(
            one.fitted, one.temperature, {str(split): rows for split, rows in one.rows.items()}, one.out_of_fold_rows
        )
        for one in usable
    ]
    yield Progress(METHOD, 0, len(members), "models")
    made = together(members, train, ground.weights, run.recipe.seed)
    if made is None:
        return Together(f"out of fold the best of {len(usable)} models alone says as much as all together.{beside}")
    fitted, rows = made
    told = fitted.details["members"]
    assert isinstance(told, list)
    shares = {
        f"{one['method']} ({one['backbone']})" if one["backbone"] else one["method"]: one["share"] for one in told
    }
    words = "shares of the answer that make the log loss out of fold the lowest, as far as each is worth its time"
    yield Decision(f"{METHOD}_members", shares, words + beside)
    split_rows = {split: rows[split] for split in rungs.pictures}
    seconds = sum(one.seconds_per_picture for one in usable)
    found = candidate(fitted, ground, split_rows, time.monotonic() - began, seconds)
    comparison = beats(found, champion, ground)
    costs = yield from _costs(found, champion)
    words = f"{comparison.words} {costs}"
    yield Decision(METHOD, comparison.better, words)
    if comparison.better:
        test = rungs.pictures["test"].take(split_rows["test"])
        yield from embed(fitted.trunk, fitted.preprocess, test.files, test.digests, run.cache, threads=rungs.threads)
    return Together(words, found, comparison.better)


def ensembled(
    run: Run, rungs: Rungs, tried: Sequence[Candidate], champion: Candidate, ground: Ground
) -> Steps[tuple[LadderRow, Candidate | None]]:
    """Return the row of all rungs together, and their candidate where that is better than the best of them."""
    began = time.monotonic()
    reserve = seconds_to_finish(len(rungs.pictures["train"]), run.recipe.budget_seconds)
    steps = stage("ensemble", ensemble(run, rungs, tried, champion, ground))
    try:
        told = yield from follow(steps, out_of_time(run.clock, lambda: reserve))
    except InterruptedRunError as error:
        why = OUT_OF_TIME if isinstance(error, OutOfTimeError) else "the run was asked to end"
        return LadderRow("ensemble", seconds=time.monotonic() - began, skipped=why), None
    if told.candidate is None:
        return LadderRow("ensemble", seconds=time.monotonic() - began, skipped=told.words), None
    return row_of(told.candidate, ground, told.better, told.words), told.candidate if told.better else None


def _why_not(one: Candidate, champion: Candidate) -> str:
    if one.fitted.method == "majority":
        return "looks at nothing"
    sees, best = one.fitted.preprocess, champion.fitted.preprocess
    if dataclasses.replace(sees, mean=best.mean, std=best.std) != best:  # these two are inside the graphs
        size = sees.image_size
        return f"is shown pictures in another way than the best one ({size} px)"
    if not isinstance(one.fitted.head, Head):
        return "has a head that is not linear"
    return "" if len(one.fitted.out_of_fold.rows) else "predicted no picture out of fold"


def _costs(found: Candidate, champion: Candidate) -> Steps[str]:
    """Measure what each of the two graphs takes for a picture on one thread; say it, with their sizes."""
    ms = yield from milliseconds((found, champion), METHOD)
    value = {"ms": ms[0], "ms_alone": ms[1], "mb": megabytes(found), "mb_alone": megabytes(champion)}
    cost = yield from decide(
        f"{METHOD}_cost", value, "a picture on one thread, and the graph's size, beside the best model alone"
    )
    return (
        f"It costs {cost['ms']:.1f} ms a picture on one thread and {cost['mb']:.1f} MB, where {champion.name} alone "
        f"takes {cost['ms_alone']:.1f} ms and {cost['mb_alone']:.1f} MB."
    )
