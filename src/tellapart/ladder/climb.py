"""The climb: scan, plan, each rung in turn, the best kept; then the winner ships and is reported.

Nothing here trains or measures by itself: it says what happens in which order, within the time there is.
"""

from __future__ import annotations

import dataclasses
import os
import time
from importlib.util import find_spec
from typing import Any

import numpy as np

from tellapart import files, judge
from tellapart.data import resize_policy, scan
from tellapart.data.manifest import Manifest
from tellapart.errors import InterruptedRunError, OutOfTimeError
from tellapart.events import Decision, Note, RungEnded, Steps, follow
from tellapart.images import DecodePolicy, Preprocess, default_threads
from tellapart.ladder.choose import Candidate, Ground, beats, candidate, is_unbalanced
from tellapart.ladder.finish import Climbed, finish, seconds_to_finish
from tellapart.ladder.plan import Facts, Plan, plan
from tellapart.ladder.run import Heard, Run, out_of_time, pictures_of, stage
from tellapart.ladder.rungs import Made, Rungs
from tellapart.learn.backbones import Weights, default_backbone, why_no_weights
from tellapart.learn.backbones_export import Export, fetch_weights, start_export
from tellapart.report import LadderRow, Summary

__all__ = ["climb"]


def climb(run: Run) -> Steps[Summary]:
    """Climb the ladder on `run.data` and return the summary of what was found.

    An interruption during the scan leaves nothing to keep and passes through; later, the best so far ships.
    """
    heard = Heard()
    return (yield from follow(_climb(run, heard), heard.see))


def _climb(run: Run, heard: Heard) -> Steps[Summary]:
    weights = yield from _weights(run)
    export = start_export(weights, run.recipe.model.image_size, run.cache) if weights is not None else None
    try:
        manifest = yield from scan(run.data, run.recipe, run.cache)
        manifest.write(run.folder / "manifest.jsonl")
        chosen = plan(_facts(run, manifest, weights, export))
        yield Decision("ladder", list(chosen.climbed), _reasons(chosen))
        preprocess = yield from _preprocess(run, manifest)
        threads = run.recipe.fit.threads or default_threads()
        rungs = Rungs(run, manifest, pictures_of(manifest), preprocess, export, threads)
        climbed = yield from _best(run, rungs, chosen)
    finally:
        if export is not None:
            export.close()
    files.write_json(run.folder / "resolved.json", climbed.resolved)
    return (yield from follow(finish(run, climbed, heard), lambda _: None, deaf=True))


def _weights(run: Run) -> Steps[Weights | None]:
    """Find the backbone's weights, before the scan, so that they can be exported meanwhile."""
    if run.recipe.model.method not in ("auto", "probe"):
        return None
    seconds = run.clock.left() / 2
    name = run.recipe.model.backbone or default_backbone(_count_files(run), seconds)
    if name is None:
        why = why_no_weights(None)
        yield Note("info", f"Without pretrained weights: {why}; --backbone NAME fetches one from the hub.")
        return None
    weights = yield from fetch_weights(name)
    if weights is not None and run.recipe.model.backbone is None:
        yield Decision("backbone", weights.name, "the largest at hand that can look at these pictures in time")
    return weights


def _count_files(run: Run) -> int | None:
    if not run.data.is_dir():
        return None
    return sum(len(names) for _, _, names in os.walk(run.data))


def _facts(run: Run, manifest: Manifest, weights: Weights | None, export: Export | None) -> Facts:
    counts = manifest.counts
    sides = manifest.facts.get("shorter_side")
    return Facts(
        num_train=counts["train"],
        num_classes=len(manifest.classes),
        median_side_px=int(sides[-1]) if isinstance(sides, list | tuple) else 0,
        seconds_left=run.clock.left() - seconds_to_finish(counts["used"]),
        method=run.recipe.model.method,
        effort=run.recipe.fit.effort,
        weights=weights.name if weights is not None else None,
        no_weights=why_no_weights(run.recipe.model.backbone),
        graph_cached=export is not None and export.cached,
        can_train_networks=find_spec("torch") is not None,
    )


def _reasons(chosen: Plan) -> str:
    return "; ".join(f"{rung.method}{'' if rung.climb else ' left out'}: {rung.why}" for rung in chosen.rungs)


def _preprocess(run: Run, manifest: Manifest) -> Steps[Preprocess]:
    """Decide how a picture becomes square; each rung sets the size, the mean and the deviation."""
    options = run.recipe.data
    policy, why = resize_policy(manifest) if options.resize == "auto" else (options.resize, "asked for by --resize")
    yield Decision("resize_policy", policy, why)
    scale = manifest.facts.get("sixteen_bit_scale", 65535)
    decode = DecodePolicy(
        background=options.background,
        sixteen_bit_scale=int(scale) if isinstance(scale, int) else 65535,
        max_pixels=options.max_pixels,
        min_side_px=options.min_side,
    )
    return Preprocess(image_size=224, resize_policy=policy, decode=decode)


def _best(run: Run, rungs: Rungs, chosen: Plan) -> Steps[Climbed]:
    """Climb each rung within the time; return the winner and a row for each."""
    train, val = rungs.pictures["train"], rungs.pictures["val"]
    counts = np.bincount(train.targets, minlength=len(rungs.manifest.classes))
    balanced = is_unbalanced(counts)
    metric = "macro log loss, each class counting equally" if balanced else "log loss"
    words = f"training pictures in a class: {counts.min():,} to {counts.max():,}"
    yield Decision("selection_metric", metric, words)
    ground = Ground(train.targets, val.targets, balanced)
    champion: Candidate | None = None
    rows: list[LadderRow] = []
    ended = False
    for rung in chosen.rungs:
        if not rung.climb or ended:
            row = LadderRow(rung.method, skipped=rung.why if not rung.climb else "the run was asked to end")
            rows.append(row)
            yield RungEnded(row.method, 0.0, skipped=row.skipped)
            continue
        began = time.monotonic()
        try:
            made = yield from stage(rung.method, _within(run, rungs, rung.method))
        except OutOfTimeError:
            rows.append(LadderRow(rung.method, seconds=time.monotonic() - began, skipped="the budget was used up"))
            yield RungEnded(rung.method, time.monotonic() - began, skipped="the budget was used up")
            continue
        except InterruptedRunError:
            ended = True
            if champion is None:
                raise
            rows.append(LadderRow(rung.method, seconds=time.monotonic() - began, skipped="the run was asked to end"))
            continue
        ended = bool(made.fitted.details.get("interrupted"))
        found = candidate(made.fitted, ground, made.rows, time.monotonic() - began, made.seconds_per_picture)
        better, words = True, rung.why
        if champion is not None:
            comparison = beats(found, champion, ground)
            better, words = comparison.better, comparison.words
            name = f"{champion.fitted.method} or {found.fitted.method}"
            yield Decision(f"choose: {name}", found.fitted.method if better else champion.fitted.method, words)
        champion = found if better or champion is None else champion
        row = _row(found, ground, better, words)
        rows = [dataclasses.replace(old, chosen=old.chosen and not better) for old in rows] + [row]
        yield RungEnded(row.method, row.seconds, row.accuracy, row.log_loss, row.n, better)
    assert champion is not None, "majority is always climbed"
    if champion.fitted.method == "majority":
        made = yield from follow(rungs.majority_to_ship(), lambda _: None, deaf=True)
        champion = candidate(made.fitted, ground, made.rows, champion.seconds)
    resolved = _resolved(run, champion)
    return Climbed(rungs.manifest, rungs.pictures, ground, champion, tuple(rows), resolved, rungs.threads)


def _within(run: Run, rungs: Rungs, method: str) -> Steps[Made]:
    """Climb one rung, cut short when only what the end needs is left; `majority` is always ended."""
    steps = rungs.climb(method)
    if method == "majority":
        return (yield from steps)
    reserve = seconds_to_finish(len(rungs.pictures["train"]))
    return (yield from follow(steps, out_of_time(run.clock, lambda: reserve)))


def _row(found: Candidate, ground: Ground, chosen: bool, words: str) -> LadderRow:
    """Return a rung's row: on validation, or out of fold where there is no validation split."""
    rows = found.rows["val"]
    targets, probs = ground.val_targets[rows], found.val_probs
    if not len(rows):
        targets, probs = ground.train_targets[found.out_of_fold_rows], found.out_of_fold_probs()
    numbers = judge.metrics(targets, probs)
    return LadderRow(
        method=found.fitted.method,
        backbone=found.fitted.backbone,
        seconds=found.seconds,
        n=numbers.n,
        accuracy=numbers.accuracy,
        log_loss=numbers.log_loss,
        chosen=chosen,
        words=words,
    )


def _resolved(run: Run, winner: Candidate) -> dict[str, Any]:
    """Return the recipe with every choice that was left to evidence filled in by what was chosen."""
    fitted = winner.fitted
    nested: dict[str, Any] = run.recipe.model_dump(mode="json")
    nested["data"]["resize"] = fitted.preprocess.resize_policy
    nested["model"] = {
        "method": fitted.method,
        "backbone": fitted.backbone,
        "image_size": fitted.preprocess.image_size,
    }
    nested["fit"]["budget"] = run.recipe.budget_seconds
    nested["details"] = dict(fitted.details)
    return nested
