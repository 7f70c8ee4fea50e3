"""The climb: scan, plan, each rung in turn, the best kept; then the winner ships and is reported.

Nothing here trains or measures by itself: it says what happens in which order, within the time there is.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from importlib.util import find_spec

import numpy as np

from tellapart import files, judge
from tellapart.data import resize_policy, scan
from tellapart.data.disk import check_unchanged
from tellapart.data.listing import quoted
from tellapart.data.manifest import Manifest, Split
from tellapart.data.policy import decode_policy
from tellapart.errors import (
    GateError,
    InterruptedRunError,
    MissingExtraError,
    OutOfTimeError,
    RecipeError,
    TellapartError,
)
from tellapart.events import Decision, Event, Note, Progress, Recall, RungEnded, Steps, decide, follow
from tellapart.images import Preprocess, default_threads
from tellapart.ladder.audited import first_look
from tellapart.ladder.choose import Candidate, Ground, always_one_class, beats, candidate
from tellapart.ladder.crossed import crossed
from tellapart.ladder.deliver import deliver, earlier_stands, earlier_was_interrupted, resolved
from tellapart.ladder.distil import distil
from tellapart.ladder.early import told_why_early
from tellapart.ladder.ensemble import ensembled
from tellapart.ladder.finish import Climbed, finish, seconds_to_finish
from tellapart.ladder.plan import Facts, Plan, Rung, plan
from tellapart.ladder.rows import row_of, with_crossed
from tellapart.ladder.run import OUT_OF_TIME, Heard, Run, count_files, out_of_time, pictures_of, stage, why_ended
from tellapart.ladder.rungs import Made, Rungs
from tellapart.ladder.soup import soup
from tellapart.ladder.space import check_room
from tellapart.ladder.unheeded import told_unheeded
from tellapart.learn.backbones import Weights, default_backbone, names_at_hand, smallest_backbone, why_no_weights
from tellapart.learn.backbones_export import Export, fetch_weights, start_export
from tellapart.learn.rungs import Pictures
from tellapart.memory import out_of_memory
from tellapart.report import LadderRow, Summary
from tellapart.runtime.bundle import Bundle

__all__ = ["attempt", "climb"]

_ASSEMBLE_SECONDS = 5e-5  # a picture: what the scan does after its last one, groups and splits
_MOST_BACKBONES = 3
_CUTS = ("too_many_blocks", "no_cut", "no_room_for_views")
_OF_A_RUNG = ("diverged", "export_failed", "out_of_memory", "rank_lost", *_CUTS)  # errors that end a rung, and no more
_UNTUNED = "untuned"  # where a decision says that the probe stands for its tuning


def climb(run: Run) -> Steps[Summary | None]:
    """Climb the ladder on `run.data`, return what was found; None where a resumed run's earlier result is no worse.

    An interruption during the scan leaves nothing to keep and passes through; later, the best so far stays. Raises
    RecipeError (`budget_too_short`) when the budget ends before the pictures are read.
    """
    heard = Heard()
    return (yield from follow(_climb(run, heard), heard.see))


def _climb(run: Run, heard: Heard) -> Steps[Summary | None]:
    if find_spec("onnx") is None:
        raise MissingExtraError("train", "Training")  # before the pictures are read, which may take long
    _check_device(run)
    weights = yield from _weights(run)
    export = start_export(weights, run.recipe.model.image_size, run.cache) if weights is not None else None
    try:
        manifest = yield from _scanned(run)
        check_room(run, len(manifest.rows))
        yield from check_unchanged(manifest)
        manifest.write(run.folder / "manifest.jsonl")
        folds = yield from _folds(manifest)
        chosen = plan(_facts(run, manifest, weights, export))
        climbed_before = yield from decide("ladder", list(chosen.climbed), _reasons(chosen))
        chosen = chosen.limited_to(climbed_before)
        preprocess = yield from _preprocess(run, manifest)
        threads = run.recipe.fit.threads or default_threads()
        looked = yield from first_look(run, manifest, threads)
        share = 0.5 if {"finetune", "scratch"} <= set(chosen.climbed) else 1.0
        rungs = Rungs(run, manifest, pictures_of(manifest), preprocess, export, threads, share)
        climbed = yield from _best(run, rungs, chosen)
        if climbed is not None and folds:
            left_out = yield from crossed(rungs, climbed.winner, folds, climbed.ground.balanced)
            ladder = with_crossed(climbed.ladder, left_out, climbed.ground)
            climbed = dataclasses.replace(climbed, crossed=left_out, ladder=ladder)
    finally:
        if export is not None:
            export.close()
    if climbed is None:
        return None
    climbed = dataclasses.replace(climbed, looked=looked)
    yield from follow(told_why_early(run, climbed, chosen), lambda _: None, deaf=True)
    yield from follow(told_unheeded(run, climbed.ladder), lambda _: None, deaf=True)
    files.write_json(run.folder / "resolved.json", resolved(run, climbed.winner))
    return (yield from follow(finish(run, climbed, heard), lambda _: None, deaf=True))


def attempt(run: Run, manifest: Manifest, pictures: Mapping[Split, Pictures]) -> Steps[Climbed]:
    """Climb the ladder on pictures that were scanned before; ship nothing, and leave the test split closed.

    Raises what a rung raises where not even one is climbed.
    """
    _check_device(run)
    weights = yield from _weights(run)
    export = start_export(weights, run.recipe.model.image_size, run.cache) if weights is not None else None
    try:
        chosen = plan(_facts(run, manifest, weights, export))
        preprocess = yield from _preprocess(run, manifest)
        threads = run.recipe.fit.threads or default_threads()
        share = 0.5 if {"finetune", "scratch"} <= set(chosen.climbed) else 1.0
        rungs = Rungs(run, manifest, pictures, preprocess, export, threads, share)
        climbed = yield from _best(run, rungs, chosen, ship=False)
    finally:
        if export is not None:
            export.close()
    assert climbed is not None, "there is no earlier result"
    return climbed


def _folds(manifest: Manifest) -> Steps[int]:
    """Tell whether folds stand in for a split, and return how many; 0 where they do not."""
    told = manifest.facts.get("folds")
    if not isinstance(told, Mapping):
        return 0
    count = int(told["count"])
    yield Decision("folds", count, str(told["why"]))
    return count


def _check_device(run: Run) -> None:
    """Refuse a device that is not there, before the pictures are read, rather than quietly use another."""
    device = run.recipe.fit.device
    if device in ("auto", "cpu"):
        return
    if find_spec("torch") is None:
        raise MissingExtraError("train", f"--device {device}")
    from tellapart.learn.torch_devices import device_of

    device_of(device)


def _scanned(run: Run) -> Steps[Manifest]:
    """Scan within the budget: a run that could only read its pictures is refused while there is time to say so."""
    last = Progress("scan", 0, None)

    def see(event: Event) -> OutOfTimeError | None:
        nonlocal last
        last = event if isinstance(event, Progress) and event.stage == "scan" else last
        total = last.total or last.done
        kept = seconds_to_finish(total, run.recipe.budget_seconds) + _ASSEMBLE_SECONDS * total
        return OutOfTimeError() if run.clock.left() < kept else None

    try:
        return (yield from follow(scan(run.data, run.recipe, run.cache), see))
    except OutOfTimeError:
        read = f"{last.done:,} of {last.total:,}" if last.total else f"{last.done:,}"
        raise RecipeError(
            "budget_too_short",
            f"--budget {run.recipe.budget_seconds:g}s is too short to read these pictures ({read} read in time).",
            "Give a longer --budget; what was read is kept and will not be read again.",
        ) from None


def _weights(run: Run) -> Steps[Weights | None]:
    """Find the backbone's weights, before the scan, so that they can be exported meanwhile."""
    if run.recipe.model.method not in ("auto", "probe", "finetune"):
        return None
    seconds = run.clock.left() / 2
    name = run.recipe.model.backbone or default_backbone(count_files(run.data), seconds)
    if name is None:
        why = why_no_weights(None)
        yield Note("info", f"Without pretrained weights: {why}; --backbone NAME fetches one from the hub.")
        return None
    if run.recipe.model.backbone is None:
        name = str((yield from decide("backbone", name, "the largest at hand that can look at these pictures in time")))
    return (yield from fetch_weights(name))


def _facts(run: Run, manifest: Manifest, weights: Weights | None, export: Export | None) -> Facts:
    counts = manifest.counts
    sides = manifest.facts.get("shorter_side")
    return Facts(
        num_train=counts["train"],
        num_classes=len(manifest.classes),
        median_side_px=int(sides[-1]) if isinstance(sides, list | tuple) else 0,
        seconds_left=run.clock.left() - seconds_to_finish(counts["used"], run.recipe.budget_seconds),
        method=run.recipe.model.method,
        effort=run.recipe.fit.effort,
        weights=weights.name if weights is not None else None,
        no_weights=why_no_weights(run.recipe.model.backbone),
        graph_cached=export is not None and export.cached,
        can_train_networks=find_spec("torch") is not None,
        can_train_classical=find_spec("sklearn") is not None and find_spec("onnx") is not None,
        exporting_seconds=0.0 if export is None else export.seconds,
    )


def _reasons(chosen: Plan) -> str:
    return "; ".join(f"{rung.method}{'' if rung.climb else ' left out'}: {rung.why}" for rung in chosen.rungs)


def _preprocess(run: Run, manifest: Manifest) -> Steps[Preprocess]:
    """Decide how a picture becomes square; each rung sets the size, the mean and the deviation."""
    options = run.recipe.data
    policy, why = resize_policy(manifest) if options.resize == "auto" else (options.resize, "asked for by --resize")
    yield Decision("resize_policy", policy, why)
    scale = manifest.facts.get("sixteen_bit_scale")
    decode = decode_policy(run.recipe)
    if isinstance(scale, int):
        decode = dataclasses.replace(decode, sixteen_bit_scale=scale)
    return Preprocess(image_size=224, resize_policy=policy, decode=decode)


def _best(run: Run, rungs: Rungs, chosen: Plan, ship: bool = True) -> Steps[Climbed | None]:
    """Climb each rung within the time, the best so far shipped at once, unless nothing is to be shipped at all.

    None when a resumed run has nothing better.
    """
    train, val = rungs.pictures["train"], rungs.pictures["val"]
    counts = np.bincount(train.targets, minlength=len(rungs.manifest.classes))
    balanced = judge.counts_alike(counts, run.recipe.fit.balance)
    metric = "macro log loss, each class counting equally" if balanced else "log loss"
    asked = "" if run.recipe.fit.balance == "auto" else "; asked for by --balance"
    words = f"training pictures in a class: {counts.min():,} to {counts.max():,}{asked}"
    yield Decision("selection_metric", metric, words)
    ground = Ground(train.targets, val.targets, balanced, train.groups, val.groups)
    champion: Candidate | None = None
    bundle: Bundle | None = None
    rows: list[LadderRow] = []
    tried: list[Candidate] = []  # with what they know of each picture, which takes memory: only where it is of use
    ended = False
    for rung, backbone in _steps(run, chosen):
        if not rung.climb or ended:
            row = LadderRow(rung.method, skipped=rung.why if not rung.climb else why_ended(run))
            rows.append(row)
            yield RungEnded(row.method, 0.0, skipped=row.skipped)
            continue
        began = time.monotonic()
        try:
            made = yield from stage(rung.method, _within(run, rungs, rung.method, backbone))
        except InterruptedRunError as error:
            out_of_time = isinstance(error, OutOfTimeError)
            ended = not out_of_time
            if champion is None:
                raise
            why = OUT_OF_TIME if out_of_time else why_ended(run)
            rows.append(LadderRow(rung.method, backbone, seconds=time.monotonic() - began, skipped=why))
            yield RungEnded(rung.method, time.monotonic() - began, skipped=why)
            continue
        except (TellapartError, MemoryError, RuntimeError) as error:
            told = out_of_memory(error, rung.method) or error
            if not isinstance(told, TellapartError):
                raise
            if champion is None or not (told.code in _OF_A_RUNG or isinstance(told, GateError)):
                raise told from (None if told is error else error)
            rows.append(LadderRow(rung.method, backbone, seconds=time.monotonic() - began, skipped=told.message))
            yield Note("warning", f"{rung.method} gave no model: {told.message}")
            yield RungEnded(rung.method, time.monotonic() - began, skipped=told.message)
            continue
        ended = bool(made.fitted.details.get("interrupted"))
        found = candidate(made.fitted, ground, made.rows, time.monotonic() - began, made.seconds_per_picture)
        if (collapsed := always_one_class(found, ground)) is not None:
            label = rungs.manifest.classes[collapsed]
            yield Note(
                "warning", f"{found.name} calls every validation picture {quoted(label)}: it tells nothing apart."
            )
        tried += [found] if run.recipe.fit.effort == "best" else []
        better, words = True, rung.why
        if champion is not None:
            comparison = beats(found, champion, ground)
            better, words = comparison.better, comparison.words
            yield Decision("choose", (found if better else champion).name, words)
        if better:
            new = ship and found.fitted.method != "majority" and not earlier_stands(run, rungs.manifest, found, ground)
            try:
                bundle = (yield from _delivered(run, rungs, found)) if new else None
                champion = found
            except GateError as error:
                if champion is None:
                    raise
                better, words = False, f"{words} {error.message}"
                yield Note("warning", f"{found.name} does not ship: {error.message}")
        row = row_of(found, ground, better, words)
        rows = [dataclasses.replace(old, chosen=old.chosen and not better) for old in rows] + [row]
        yield RungEnded(row.method, row.seconds, row.accuracy, row.log_loss, row.n, better, left_out=row.left_out)
        if made.soup is not None and not ended:
            souped = yield from soup(run, made, found, champion or found, ground)
            best, shipped = yield from _joined(run, rungs, *souped, rows, ground, ship)
            champion, bundle = (champion, bundle) if best is None else (best, shipped)
            tried = tried if best is None else [*tried[:-1], best]
            ended = run.clock.interrupted
    assert champion is not None, "majority is always climbed"
    if len(tried) > 2 and not ended:
        together = yield from ensembled(run, rungs, tried, champion, ground)
        best, shipped = yield from _joined(run, rungs, *together, rows, ground, ship)
        champion, bundle = (champion, bundle) if best is None else (best, shipped)
    if run.recipe.fit.distill and not ended:
        taught = yield from distil(run, rungs, tried, champion, ground)
        best, shipped = yield from _joined(run, rungs, *taught, rows, ground, ship)
        champion, bundle = (champion, bundle) if best is None else (best, shipped)
    if not ship:
        return Climbed(rungs.manifest, rungs.pictures, ground, champion, None, tuple(rows), rungs.threads)
    whole = run.goes_on and not ended and all(row.skipped != OUT_OF_TIME for row in rows)
    anew = whole and earlier_was_interrupted(run)  # what that ended with was but the best until then
    if not anew and earlier_stands(run, rungs.manifest, champion, ground):
        yield Note("info", "The earlier result of this run is kept: nothing better was found on validation.")
        return None
    if bundle is None and champion.fitted.method == "majority":
        made = yield from follow(rungs.majority_to_ship(), lambda _: None, deaf=True)
        champion = candidate(made.fitted, ground, made.rows, champion.seconds)
    bundle = bundle or (yield from _delivered(run, rungs, champion))
    return Climbed(rungs.manifest, rungs.pictures, ground, champion, bundle, tuple(rows), rungs.threads)


def _joined(
    run: Run,
    rungs: Rungs,
    row: LadderRow,
    best: Candidate | None,
    rows: list[LadderRow],
    ground: Ground,
    ship: bool,
) -> Steps[tuple[Candidate | None, Bundle | None]]:
    """Add the row of what was made of rungs to `rows`; return the candidate, where there is one that ships."""
    bundle = None
    if best is not None and ship and not earlier_stands(run, rungs.manifest, best, ground):
        try:
            bundle = yield from _delivered(run, rungs, best)
        except GateError as error:
            yield Note("warning", f"The {row.method} does not ship: {error.message}")
            row, best = dataclasses.replace(row, chosen=False, words=f"{row.words} {error.message}"), None
    if best is not None:
        same = [(old.method, old.backbone) == (best.fitted.method, best.fitted.backbone) for old in rows]
        stays = None if row.chosen else same.index(True)
        rows[:] = [dataclasses.replace(old, chosen=place == stays) for place, old in enumerate(rows)]
    rows.append(row)
    told = row.method, row.seconds, row.accuracy, row.log_loss, row.n, row.chosen, row.skipped, row.left_out
    yield RungEnded(*told)
    return best, bundle


def _delivered(run: Run, rungs: Rungs, found: Candidate) -> Steps[Bundle]:
    steps = stage("ship", deliver(run, rungs.manifest, rungs.pictures, found, rungs.threads))
    return (yield from follow(steps, lambda _: None, deaf=True))


def _steps(run: Run, chosen: Plan) -> list[tuple[Rung, str | None]]:
    """Return the rungs with the backbone each is to use (None: the run's own); `best` tries a few backbones."""
    others: list[str] = []
    if run.recipe.fit.effort == "best" and run.recipe.model.backbone is None and "probe" in chosen.climbed:
        first = default_backbone(count_files(run.data), run.recipe.budget_seconds / 2)
        others = [name for name in names_at_hand() if name != first]
        if run.recipe.fit.distill:  # the smallest is the one to teach
            others.sort(key=lambda name: name != smallest_backbone())
        others = others[: _MOST_BACKBONES - 1]
    steps: list[tuple[Rung, str | None]] = []
    for rung in chosen.rungs:
        steps.append((rung, None))
        if rung.method == "probe":
            steps += [(rung, name) for name in others]
    return steps


def _within(run: Run, rungs: Rungs, method: str, backbone: str | None) -> Steps[Made]:
    """Climb one rung, cut short when only what the end needs is left; `majority` is always ended."""
    if method == "majority":
        return (yield from rungs.climb(method, backbone))
    reserve = seconds_to_finish(len(rungs.pictures["train"]), run.recipe.budget_seconds)
    name = f"{method}{'' if backbone is None else '.' + backbone}.out_of_time"
    yield (before := Recall(name))
    told = before.decided.popleft() if before.decided else None
    if told is not None and told.value != _UNTUNED:
        yield dataclasses.replace(told, again=True)
        raise OutOfTimeError()
    steps = rungs.climb(method, backbone, tuned=told is None)
    try:
        made = yield from follow(steps, out_of_time(run.clock, lambda: reserve))
    except OutOfTimeError:
        yield Decision(name, True, "what is left of the budget is kept for the end of the run")
        raise
    if made.untuned:
        why, more = "there is no time to tune the backbone", "a longer --budget tunes it"
        if run.clock.interrupted and told is None:
            why, more = "the run was asked to end before a tuned backbone was ready", "--resume goes on with it"
        words = f"{why}: the head on it as it is stands; {more}"
        yield Decision(name, _UNTUNED, words, again=told is not None)
        yield Note("warning", f"{words[0].upper()}{words[1:]}.")
    return made
