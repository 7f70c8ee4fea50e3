"""One small network that learns what the best model says: `--distill`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import InterruptedRunError, OutOfTimeError
from tellapart.events import Decision, Note, Recall, Steps, decide, follow
from tellapart.ladder.choose import Candidate, Ground, beats, candidate
from tellapart.ladder.costs import megabytes, milliseconds
from tellapart.ladder.finish import seconds_to_finish
from tellapart.ladder.rows import row_of
from tellapart.ladder.run import OUT_OF_TIME, Run, out_of_time, stage
from tellapart.ladder.rungs import Rungs
from tellapart.ladder.unlabelled import unlabelled_pictures
from tellapart.learn.distil import (
    LABELS_SHARE,
    SOFTENING,
    Answers,
    Frozen,
    answers_without,
    parts_to_ask,
    pooled,
    taught,
)
from tellapart.learn.embed import embed, measure_rate, missing
from tellapart.learn.linear import LinearFit
from tellapart.learn.propagate import MOST_TOGETHER
from tellapart.learn.rungs import FloatArray, Head, IntArray, OutOfFold, Pictures
from tellapart.report import LadderRow

__all__ = ["METHOD", "distil"]

METHOD = "distill"

_Made = str | tuple[Candidate, str, Candidate | None]

_CLEARLY_SMALLER = 0.9  # of the milliseconds that the best model takes
_FEW, _OTHERS_SHARE = 8, 0.5  # pictures that are timed; of the time left, for pictures without a label


def distil(
    run: Run, rungs: Rungs, tried: Sequence[Candidate], champion: Candidate, ground: Ground
) -> Steps[tuple[LadderRow, Candidate | None]]:
    """Teach the cheapest network that was climbed what the champion says; return its row, and what is to ship.

    That is the taught network, or where it is clearly worse than by labels alone the same network by those; None where
    there is no smaller network, or no time. `tried` are the rungs that were climbed.
    """
    began = time.monotonic()
    try:
        made = yield from stage(METHOD, _within(run, _distilled(run, rungs, tried, champion, ground), rungs))
    except InterruptedRunError as error:
        made = OUT_OF_TIME if isinstance(error, OutOfTimeError) else "the run was asked to end"
    if isinstance(made, str):
        yield Note("warning", f"No small network was taught ({made}): {champion.name} ships.")
        return LadderRow(METHOD, seconds=time.monotonic() - began, skipped=made), None
    found, words, ships = made
    found = dataclasses.replace(found, seconds=time.monotonic() - began)
    return row_of(found, ground, ships is None, words), found if ships is None else ships


def _within(run: Run, steps: Steps[_Made], rungs: Rungs) -> Steps[_Made]:
    """Cut it short when only what the end needs is left, where an attempt before was cut short too."""
    name = f"{METHOD}.out_of_time"
    yield (before := Recall(name))
    if before.decided:
        steps.close()
        yield dataclasses.replace(before.decided.popleft(), again=True)
        raise OutOfTimeError()
    reserve = seconds_to_finish(len(rungs.pictures["train"]), run.recipe.budget_seconds)
    try:
        return (yield from follow(steps, out_of_time(run.clock, lambda: reserve)))
    except OutOfTimeError:
        yield Decision(name, True, "what is left of the budget is kept for the end of the run")
        raise


def _distilled(run: Run, rungs: Rungs, tried: Sequence[Candidate], champion: Candidate, ground: Ground) -> Steps[_Made]:
    """Return why there is nothing to teach, or the candidate, words on it, and what ships in its place, if so."""
    if champion.fitted.method == "majority":
        return "nothing was found that has anything to teach"
    students = [one for one in tried if _is_frozen(one) and one.fitted.backbone is not None]
    if not students:
        return "no pretrained network with a linear head was climbed, which could be taught"
    ms = yield from milliseconds([champion, *students], METHOD)
    value = dict(zip([champion.name, *(one.name for one in students)], ms, strict=True))
    told = yield from decide("distill_student", value, "milliseconds a picture on one thread: the cheapest is taught")
    student = min(students, key=lambda one: (told[one.name], one.name))
    fast, slow = told[student.name], told[champion.name]
    if student is champion or fast >= _CLEARLY_SMALLER * slow:
        return (
            f"{champion.name}, the best model, takes {slow:.1f} ms a picture, and {student.name}, the cheapest "
            f"network, {fast:.1f}: there is no smaller one to teach"
        )
    members = _members(champion, tried)
    if not all(np.isfinite(one.out_of_fold_logits()).all() for one in members):
        return "the best model gave answers that are not finite numbers"
    fit, others = yield from _fit(run, rungs, student, members, tried, ground)
    if not (fit.head.finite and np.isfinite(fit.out_of_fold).all()):
        return "what it learned holds numbers that are not finite"
    base = student.fitted
    details = {
        "penalty": fit.penalty,
        "sweep": [[point.penalty, point.log_loss] for point in fit.sweep],
        "flip": bool(base.details.get("flip")),
        "taught_by": [one.name for one in members],
        "softening": SOFTENING,
        "labels_share": LABELS_SHARE,
        "unlabelled": others,
    }
    fitted = dataclasses.replace(
        base,
        method=METHOD,
        head=fit.head,
        out_of_fold=OutOfFold(fit.rows, fit.out_of_fold),
        notes=(),
        details=details,
    )
    found = candidate(fitted, ground, student.rows, 0.0, student.seconds_per_picture)
    by_labels, by_teacher = beats(found, student, ground), beats(found, champion, ground)
    kept = by_labels.low <= 0.0
    cost = (
        f"It costs {fast:.1f} ms a picture on one thread and {megabytes(student):.1f} MB, where {champion.name} takes "
        f"{slow:.1f} ms and {megabytes(champion):.1f} MB."
    )
    ships = "" if kept else f" Clearly worse than by labels alone: {student.name}, which is as small, ships."
    beside = f" {others:,} pictures without a label were learned from too." if others else ""
    words = f"{by_labels.words} {by_teacher.words} {cost}{ships}{beside}"
    yield Decision(METHOD, kept, words)
    yield Note("info", f"{found.name} learned from {champion.name}. {by_labels.words} {cost}{ships}")
    return found, words, None if kept else student


def _is_frozen(one: Candidate) -> bool:
    """Return whether a rung is a linear head, fitted at a penalty, on a network that learned from no picture."""
    fitted = one.fitted
    whole = len(fitted.held_out) == len(one.rows["train"]) and fitted.looked_at is None
    return whole and isinstance(fitted.head, Head) and isinstance(fitted.details.get("penalty"), float)


def _members(champion: Candidate, tried: Sequence[Candidate]) -> list[Candidate]:
    """Return the models that the champion is made of."""
    told = champion.fitted.details.get("members")
    if not isinstance(told, list):
        return [champion]
    names = {(one["method"], one["backbone"]) for one in told}
    return [one for one in tried if (one.fitted.method, one.fitted.backbone) in names]


def _fit(
    run: Run,
    rungs: Rungs,
    student: Candidate,
    members: Sequence[Candidate],
    tried: Sequence[Candidate],
    ground: Ground,
) -> Steps[tuple[LinearFit, int]]:
    """Return the head that was taught, and how many pictures without a label it learned from."""
    frozen = [one for one in members if _is_frozen(one)] or [one for one in tried if _is_frozen(one)]
    train = rungs.pictures["train"].take(student.rows["train"])
    num_classes, seed = len(rungs.manifest.classes), run.recipe.seed
    weights = None if ground.weights is None else ground.weights[student.rows["train"]]
    fitted = student.fitted
    flip = bool(fitted.details.get("flip"))
    models = list({id(one): one for one in [*members, *frozen, student]}.values())
    unlabelled = yield from _without_label(run, rungs, models, len(train))
    seen: dict[int, FloatArray] = {}
    for one in models:
        seen[id(one)] = yield from _embedded(run, rungs, one, unlabelled)
    X, others = fitted.embeddings["train"], seen[id(student)]
    if flip:
        mirrored = yield from _embedded(run, rungs, student, train, flip=True)
        X = np.concatenate([X, mirrored])
        others = np.concatenate([others, (yield from _embedded(run, rungs, student, unlabelled, flip=True))])
    whole = _answers(frozen, student, seen, train.targets, weights)
    if any(not _is_frozen(one) for one in members):
        best = _answers(members, student, seen, train.targets, weights)
        rows = np.concatenate([best.rows, np.setdiff1d(whole.rows, best.rows)])
        rest = whole.logits[np.isin(whole.rows, best.rows, invert=True)]
        whole = Answers(rows, np.concatenate([best.logits, rest]), best.others)
    pool = [_frozen(one, student, seen[id(one)]) for one in frozen]
    parts = parts_to_ask(train.targets, train.groups, len(rungs.pictures["val"]), seed)

    def without(away: NDArray[np.bool_]) -> Steps[Answers]:
        return answers_without(pool, train.targets, train.groups, num_classes, away, weights, seed)

    penalty = fitted.details["penalty"]
    assert isinstance(penalty, float), "a student has one"
    views = 2 if flip else 1
    steps = taught(X, others, train.targets, num_classes, parts, whole, without, penalty, weights, views)
    return (yield from steps), len(unlabelled)


def _without_label(run: Run, rungs: Rungs, models: Sequence[Candidate], num_train: int) -> Steps[Pictures]:
    """Return the pictures of `unlabelled/`, as many of them as half of the time that is left pays for."""
    none = rungs.pictures["train"].take(np.empty(0, dtype=np.int64))
    found = unlabelled_pictures(rungs.manifest)
    if found is None or num_train >= MOST_TOGETHER:
        return none
    found = found.take(np.arange(min(len(found), MOST_TOGETHER - num_train), dtype=np.int64))
    seconds = 0.0
    for one in models:
        graph, preprocess = one.fitted.trunk, one.fitted.preprocess
        if absent := missing(graph, preprocess, found.digests, run.cache):
            files = [found.files[row] for row in absent[:_FEW]]
            seconds += len(absent) * (yield from measure_rate(graph, preprocess, files, rungs.threads))
    left = run.clock.left() - seconds_to_finish(len(rungs.pictures["train"]), run.recipe.budget_seconds)
    most = len(found) if not seconds else min(len(found), int(len(found) * max(0.0, _OTHERS_SHARE * left) / seconds))
    words = f"{len(found):,} unlabelled pictures, as many of them as half of the time that is left pays for"
    most = yield from decide("distill_without_label", most, words)
    return found.take(np.arange(most, dtype=np.int64))


def _embedded(run: Run, rungs: Rungs, one: Candidate, pictures: Pictures, flip: bool = False) -> Steps[FloatArray]:
    fitted = one.fitted
    steps = embed(
        fitted.trunk,
        fitted.preprocess,
        pictures.files,
        pictures.digests,
        run.cache,
        flip=flip,
        threads=rungs.threads,
    )
    return (yield from steps).reshape(len(pictures), fitted.head.shape[0])


def _frozen(one: Candidate, student: Candidate, others: FloatArray) -> Frozen:
    """Return a model as one that can be fitted anew, its pictures by their places among the student's."""
    _, ours, theirs = np.intersect1d(student.rows["train"], one.rows["train"], return_indices=True)
    penalty = one.fitted.details["penalty"]
    assert isinstance(penalty, float), "what is frozen has one"
    return Frozen(ours.astype(np.int64), one.fitted.embeddings["train"][theirs], others, penalty)


def _answers(
    models: Sequence[Candidate],
    student: Candidate,
    seen: dict[int, FloatArray],
    targets: IntArray,
    weights: NDArray[np.float64] | None,
) -> Answers:
    """Return what models together say out of fold of the student's pictures, and of those without a label."""
    rows = student.rows["train"]
    for one in models:
        rows = np.intersect1d(rows, one.out_of_fold_rows)
    places = np.searchsorted(student.rows["train"], rows)
    logits, others = [], []
    for one in models:
        order = np.argsort(one.out_of_fold_rows)
        found = order[np.searchsorted(one.out_of_fold_rows, rows, sorter=order)]
        logits.append(one.out_of_fold_logits()[found])
        others.append(one.fitted.head.logits(seen[id(one)]) / np.float32(one.temperature))
    each = None if weights is None else weights[places]
    return pooled(places.astype(np.int64), logits, others, targets[places], each)
