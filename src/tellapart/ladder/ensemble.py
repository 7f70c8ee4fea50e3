"""The best of several: the rungs that were climbed answer together, where that is better than the best of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from tellapart.events import Decision, Progress, Steps, decide
from tellapart.images.decode import Pixels
from tellapart.ladder.choose import Candidate, Ground, beats, candidate
from tellapart.ladder.run import Run
from tellapart.ladder.rungs import Rungs
from tellapart.learn.embed import embed
from tellapart.learn.rungs import Head
from tellapart.learn.together import Member, together
from tellapart.runtime.session import Session

__all__ = ["Together", "ensemble"]

METHOD = "ensemble"

_ROUNDS = 7


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
    weights = _weights(ground) if ground.balanced else None
    made = together(members, train, weights, run.recipe.seed)
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
    costs = yield from _costs(found, champion, rungs)
    words = f"{comparison.words} {costs}"
    yield Decision(METHOD, comparison.better, words)
    if comparison.better:
        test = rungs.pictures["test"].take(split_rows["test"])
        yield from embed(fitted.trunk, fitted.preprocess, test.files, test.digests, run.cache, threads=rungs.threads)
    return Together(words, found, comparison.better)


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


def _weights(ground: Ground) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return a weight for each training picture, float64 [N], by which classes count alike."""
    counts = np.bincount(ground.train_targets)
    return np.asarray(1.0 / counts[ground.train_targets], dtype=np.float64)


def _costs(found: Candidate, champion: Candidate, rungs: Rungs) -> Steps[str]:
    """Measure what each of the two graphs takes for a picture on one thread; say it, with their sizes."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *(2 * (found.fitted.preprocess.image_size,)), 3))
    picture: Pixels = pixels.astype(np.uint8)
    sessions = [Session(one.fitted.trunk) for one in (found, champion)]
    best = [float("inf")] * 2
    for done in range(_ROUNDS):
        for place, session in enumerate(sessions):
            began = time.perf_counter()
            session.run(picture, ["embedding"])
            best[place] = min(best[place], time.perf_counter() - began)
        yield Progress(METHOD, done + 1, _ROUNDS, "rounds")
    sizes = [round(len(one.fitted.trunk) / 1e6, 1) for one in (found, champion)]
    ms = [round(1e3 * seconds, 1) for seconds in best]
    value = {"ms": ms[0], "ms_alone": ms[1], "mb": sizes[0], "mb_alone": sizes[1]}
    cost = yield from decide(
        f"{METHOD}_cost", value, "a picture on one thread, and the graph's size, beside the best model alone"
    )
    return (
        f"It costs {cost['ms']:.1f} ms a picture on one thread and {cost['mb']:.1f} MB, where {champion.name} alone "
        f"takes {cost['ms_alone']:.1f} ms and {cost['mb_alone']:.1f} MB."
    )
