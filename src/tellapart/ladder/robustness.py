"""Accuracy on corrupted pictures, through the bundle itself: as asked by `evaluate`, or within the time of a run."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import InterruptedRunError, OutOfTimeError, PictureError
from tellapart.events import Decision, Progress, Recall, Steps, decide, follow
from tellapart.images import map_ordered, prepare_guarded
from tellapart.images.corrupt import CORRUPTIONS, STRENGTHS, corrupt
from tellapart.judge import Robustness, compare_corrupted
from tellapart.ladder.run import Run, out_of_time, stage
from tellapart.learn.draws import picture_keys
from tellapart.learn.rungs import Pictures
from tellapart.runtime.predictor import Predictor

__all__ = ["robustness", "robustness_in_time"]

_MOST = 200
_FEWEST = 50  # pictures: with fewer, nothing but a collapse would show
# Of what is left of the budget by itself, and at the most; in a quick run only what is not noticed.
_SHARE, _MOST_SECONDS, _QUICK_SECONDS = 0.2, 10.0, 0.25
_CUT_OFF = "robustness.cut_off"
_ALL = [(corruption, strength) for corruption in CORRUPTIONS for strength in STRENGTHS]


def robustness(predictor: Predictor, pictures: Pictures, most: int = _MOST) -> Steps[tuple[Robustness, ...]]:
    """Measure the bundle on at most `most` of the pictures, each corrupted in every way, at the size the network sees.

    The pictures are those with the lowest digests, and the digest decides a picture's noise: nothing is drawn anew.
    """
    chosen = sorted(range(len(pictures)), key=pictures.digests.__getitem__)[:most]
    keys = picture_keys([pictures.digests[row] for row in chosen]).tolist()
    one = functools.partial(_answers, predictor, pictures)
    rows: list[NDArray[np.bool_]] = []
    for done, right in enumerate(map_ordered(one, list(zip(chosen, keys, strict=True)), predictor.threads), 1):
        if right is not None:
            rows.append(right)
        yield Progress("evaluate", done, len(chosen), "corrupted pictures")
    table = np.stack(rows) if rows else np.zeros((0, 1 + len(_ALL)), dtype=bool)
    return compare_corrupted(table[:, 0], {name: table[:, place] for place, name in enumerate(_ALL, 1)})


def robustness_in_time(
    run: Run, predictor: Predictor, pictures: Pictures, reserve_seconds: float
) -> Steps[tuple[Robustness, ...]]:
    """Measure as `robustness` does, as `--robustness` says: on as many pictures as the time pays for.

    `pictures` are such that the model did not learn from. Empty for `majority` and where it is off; where there are
    too few of them, or too little time, a decision says so. `reserve_seconds` are left untouched.
    """
    wish = run.recipe.fit.robustness
    if wish == "off" or predictor.bundle.card.method == "majority":
        return ()
    if len(pictures) < _FEWEST:
        yield Decision("robustness", 0, f"{len(pictures):,} pictures that it did not learn from are too few to tell")
        return ()
    left = max(0.0, run.clock.left() - reserve_seconds)
    seconds = left if wish == "on" else min(_SHARE * left, _MOST_SECONDS)
    if wish == "auto" and run.recipe.fit.effort == "quick":
        seconds = min(seconds, _QUICK_SECONDS)
    cost = _cost_seconds(predictor, pictures, seconds / _FEWEST)
    count = min(_MOST, len(pictures), int(seconds / cost))
    words = f"{1000 * cost:.0f} ms a picture, corrupted in {len(_ALL)} ways; {seconds:.1f} s may be spent on it"
    if count < _FEWEST:
        words += "" if wish == "on" else "; --robustness on, or evaluate --robustness, does it"
        count = 0
    count = yield from decide("robustness", count, words)
    if not count:
        return ()
    yield (before := Recall(_CUT_OFF))
    if before.decided:
        yield dataclasses.replace(before.decided.popleft(), again=True)
        return ()
    try:
        steps = stage("robustness", robustness(predictor, pictures, count))
        return (yield from follow(steps, out_of_time(run.clock, lambda: reserve_seconds)))
    except OutOfTimeError:
        yield Decision(_CUT_OFF, True, "what is left of the budget is kept for the report")
        return ()
    except InterruptedRunError:
        return ()


def _cost_seconds(predictor: Predictor, pictures: Pictures, most: float) -> float:
    """Return what a picture takes in every way, in seconds of all threads; a lower bound where that is above `most`."""
    session, side = predictor.bundle.session, predictor.bundle.preprocess.image_size
    blank = np.full((1, side, side, 3), 128, dtype=np.uint8)
    session.run(blank, ("logits",))
    began = time.monotonic()
    session.run(blank, ("logits",))
    cost = (1 + len(_ALL)) * (time.monotonic() - began) / predictor.threads
    if cost > most:
        return cost
    began = time.monotonic()
    _answers(predictor, pictures, (0, 0))
    return max(cost, (time.monotonic() - began) / predictor.threads)


def _answers(predictor: Predictor, pictures: Pictures, asked: Sequence[int]) -> NDArray[np.bool_] | None:
    """Return whether the picture is told right as it is and under each corruption, bool [16]; None if unreadable."""
    row, key = asked
    try:
        image = prepare_guarded(pictures.files[row], predictor.bundle.preprocess)
    except PictureError:
        return None
    seen = [image, *(corrupt(image, corruption, strength, key) for corruption, strength in _ALL)]
    run = predictor.bundle.session.run
    best = [int(run(one[None], ("logits",))["logits"][0].argmax()) for one in seen]
    return np.asarray(np.array(best) == pictures.targets[row])
