"""The rung `finetune`: the probe's head first, then as much of the backbone as the time allows, trained further."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tellapart.errors import InterruptedRunError, TellapartError
from tellapart.events import Decision, Epoch, Note, Steps, decide, without
from tellapart.learn.cuts import Cut
from tellapart.learn.embed import checked_picture, embed, measure_rate
from tellapart.learn.memory import keep_large_blocks
from tellapart.learn.range_test import Rates
from tellapart.learn.rungs import Fitted, FloatArray, IntArray, Later, OutOfFold, Pictures, Variations
from tellapart.learn.torch_activations import VIEWS
from tellapart.learn.torch_batches import Samples, Varied
from tellapart.learn.torch_checkpoint import Checkpoints
from tellapart.learn.torch_devices import device_of
from tellapart.learn.torch_export import export
from tellapart.learn.torch_folds import deaf, out_of_fold
from tellapart.learn.torch_heads import shipped
from tellapart.learn.torch_last import curve_words
from tellapart.learn.torch_loop import Learned, copied
from tellapart.learn.torch_mix import Mix
from tellapart.learn.torch_norms import reestimated_on
from tellapart.learn.torch_rate import peak_rate
from tellapart.learn.torch_soup import Pot, nothing, souped
from tellapart.learn.torch_task import Clock, Task, less, trained, within_memory
from tellapart.learn.torch_tuned import Tuned, blended, joined, optimizer_for
from tellapart.learn.torch_tuning import Ground, head_of, loaded, prepared
from tellapart.learn.torch_validate import logits_of, validated
from tellapart.learn.torch_variations import shown_rows, step_share, variations
from tellapart.learn.torch_world import World
from tellapart.memory import out_of_memory
from tellapart.recipe import Recipe

__all__ = ["finetune"]

_MAIN_SHARE = 0.6  # of the time, where models of folds are trained besides
_BLENDS = (0.0, 0.25, 0.5, 0.75, 1.0)
_EXPORT_SECONDS, _MARGIN = 6.0, 1.3
_RATES, _RANGE_TEST = Rates(1e-5, 0.1, 3e-4, within=4.0), 0.06  # of the time
_OVERFITTED = 0.75  # of the steps: where validation is best before, the rest was learned by heart
_MIXUP, _LONGER = 0.5, 2.0  # the share of pictures mixed when tried again, and how many of the best's steps it has
_SOON = 4.0  # seconds in which an interrupted run still ships what it has


def finetune(
    probe: Fitted,
    folder: Path,
    train: Pictures,
    val: Pictures,
    num_classes: int,
    recipe: Recipe,
    cache: Path,
    left: Clock,
    threads: int,
    num_later: int = 0,
    checkpoints: Checkpoints | None = None,
    world: World | None = None,
    later: Later | None = None,
) -> Steps[Fitted]:
    """Tune the backbone of `probe`, whose weights lie in `folder`, on `train`, within `left()` seconds of wall time.

    `train` and `val` are the pictures that the probe saw, in the same order. The stages below a cut stay as they are:
    they run once for each picture and a few views of it, and what they give is cached. The head starts as the probe's,
    fitted anew where pictures are left out. `num_later` pictures will be embedded afterwards, which takes time too. The
    other processes of `world` take each step as well.

    Out-of-fold logits are as `scratch` has them: from a slice that is held out where there are 500 validation pictures
    or more, else from models of three folds, as many as there is time for. `later` is told how to go on to a soup.
    Raises OutOfTimeError where not even the head could be tuned in the time; InterruptedRunError where what there is
    by then cannot be shipped at once; DataError, TellapartError (`diverged`, `export_failed`).
    """
    before = torch.get_num_threads()
    keep_large_blocks()
    torch.set_num_threads(threads)
    try:
        cost = yield from measure_rate(probe.trunk, probe.preprocess, train.files[:8], threads)
        ground = Ground(
            loaded(folder, probe.preprocess.image_size),
            probe,
            folder,
            train,
            val,
            num_classes,
            recipe,
            cache,
            threads,
            cost,
            world or World(device=device_of(recipe.fit.device)),
        )
        reserve = _EXPORT_SECONDS + _MARGIN * cost * (len(train) + len(val) + num_later)
        task, cut = yield from prepared(ground, less(left, reserve))
        task = dataclasses.replace(task, checkpoints=checkpoints)
        return (yield from _climbed(ground, task, cut, left, reserve, later))
    finally:
        torch.set_num_threads(before)


def _blend(task: Task[Tuned], network: Tuned, rows: IntArray, stage: str) -> Steps[tuple[float, float]]:
    """Leave `network` at the mix of where it started and where it ended that validation finds best.

    Return its share and its loss. Without validation pictures it stays where it ended, and the loss is zero.
    """
    start, end = copied(task.start(rows)), copied(network)
    losses: dict[float, float] = {}
    for share in _BLENDS if len(task.val) else ():
        _mix(task, network, start, end, share, rows)
        found = yield from validated(network, task.val, task.exact, "finetune.blend")
        losses[share] = found.tempered if found is not None else 0.0
    best = min(losses, key=lambda share: (losses[share], -share)) if losses else 1.0
    _mix(task, network, start, end, best, rows)
    said = ", ".join(f"{share:g}: {loss:.3f}" for share, loss in losses.items())
    words = f"validation loss by share of the tuned weights, {said}" if said else "there are no validation pictures"
    yield Decision(f"{stage}.blend", best, words)
    return best, losses.get(best, 0.0)


def _mix(
    task: Task[Tuned],
    network: Tuned,
    start: dict[str, Tensor],
    end: dict[str, Tensor],
    share: float,
    rows: IntArray,
) -> None:
    blended(network, start, end, share)
    if share > 0.0:
        reestimated_on(network, task.train.at(rows), task.choices)
    network.eval()


def _out_of_fold(
    ground: Ground,
    task: Task[Tuned],
    learned: Learned,
    blend: float,
    left: Clock,
    kept: dict[str, dict[str, Tensor]] | None,
) -> Steps[tuple[OutOfFold, bool]]:
    """Return what models of folds say of what they did not see; their weights go to `kept`, by the fold's name.

    The probe's head says of the same pictures what it does when fitted on the same rest: all of its own folds learn
    from more.
    """
    before: list[FloatArray] = []
    embeddings = ground.probe.embeddings["train"]

    def fitted(seen: Samples, total: int, clock: Clock, stage: str) -> Steps[tuple[Tuned, Learned]]:
        network, found = yield from trained(task, seen, task.nothing, total, clock, stage, enough=2.0)
        _mix(task, network, copied(task.start(seen.rows)), copied(network), blend, seen.rows)
        if kept is not None:
            kept[stage.rpartition(".")[2]] = copied(network)
        return network, found

    def predicted(network: Tuned, unseen: Samples) -> Steps[Tensor]:
        logits = yield from logits_of(network, unseen, task.exact, "predict")
        seen = np.setdiff1d(task.train.rows, unseen.rows)
        before.append(head_of(ground, seen).logits(embeddings[unseen.rows]))
        return logits

    steps = out_of_fold(task.train, task.folds, task.num_classes, learned, fitted, predicted, left, task.name)
    found, interrupted = yield from steps
    if before:
        found = dataclasses.replace(found, before=np.concatenate(before))
    return found, interrupted


@dataclasses.dataclass(frozen=True)
class _Fit:
    """A network that was tuned and blended, with its validation loss; `interrupted` says that the run is to end."""

    task: Task[Tuned]
    network: Tuned
    learned: Learned
    blend: float
    loss: float
    interrupted: bool


def _again(ground: Ground, first: _Fit, left: Clock, all_folds: bool) -> Steps[_Fit]:
    """Return the better by validation: `first`, or where it overfitted and time is left, a fit on mixed pictures too.

    What is above the cut sees the same few views again and again; mixing them two by two makes new ones at no cost.
    Time is kept for a model of a fold, or where `all_folds`, of each. What goes wrong in the second fit costs nothing.
    """
    name, task, learned = "finetune.mixed", first.task, first.learned
    last, best = learned.epochs[-1], learned.best_step
    asked = ground.recipe.augment.augment != "auto" or not len(task.val)
    by_heart = best <= _OVERFITTED * last.step or last.train_accuracy >= task.choices.enough
    if asked or first.interrupted or not by_heart:
        return first
    total, num_folds = min(task.max_steps, max(1, round(_LONGER * best))), max(1, int(task.folds.max()) + 1)
    seconds = _MARGIN * total / (last.step / max(1e-3, sum(epoch.seconds for epoch in learned.epochs)))
    for_folds = (num_folds - 1 if all_folds else 1.0 - 1.0 / num_folds) * seconds
    words = f"validation was best at step {best} of {last.step}, with {last.train_accuracy:.1%} right at the end"
    words = f"{words}; another fit and folds take {seconds + for_folds:.0f} s of {max(0.0, left()):.0f} that are left"
    total = yield from decide(f"{name}.steps", total if seconds + for_folds <= left() else 0, words)
    if not total:
        return first
    task = dataclasses.replace(task, train=dataclasses.replace(task.train, mix=Mix(task.num_classes, _MIXUP)))
    steps = trained(task, task.learned_from, task.val, total, less(left, for_folds), name)
    try:
        network, learned = yield from without(steps, Epoch)
    except InterruptedRunError:
        return dataclasses.replace(first, interrupted=True)
    except (TellapartError, MemoryError, RuntimeError) as error:
        told = out_of_memory(error, name) or error
        if not isinstance(told, TellapartError) or told.code == "rank_lost":
            raise
        yield Note("warning", f"A second fit, on mixed pictures, gave nothing: {told.message}")
        return first
    blend, loss = yield from deaf(_blend(task, network, task.learned_from.rows, name))
    second = _Fit(task, network, learned, blend, loss, learned.ended == "interrupted")
    kept = second if loss < first.loss else dataclasses.replace(first, interrupted=second.interrupted)
    words = f"validation loss {loss:.3f} with half of the pictures mixed with another, {first.loss:.3f} without"
    yield Decision("finetune.mixup", _mixup_of(kept.task), words)
    return kept


def _ends_soon(ground: Ground, interrupted: bool) -> None:
    """Raise InterruptedRunError where a run that is to end would take too long to ship what was tuned."""
    if interrupted and ground.embed_seconds * (len(ground.train) + len(ground.val)) > _SOON:
        raise InterruptedRunError(2)


def _mixup_of(task: Task[Tuned]) -> float:
    return task.train.mix.mixup if task.train.mix is not None else 0.0


def _climbed(
    ground: Ground, task: Task[Tuned], cut: Cut, left: Clock, reserve: float, later: Later | None
) -> Steps[Fitted]:
    share = 1.0 if len(task.held_out) else _MAIN_SHARE
    lr = yield from peak_rate(task, ground.recipe.fit.lr, _RATES, _RANGE_TEST * share * (left() - reserve))
    task = dataclasses.replace(task, optimizer=lambda network: optimizer_for(network, lr))
    kept_back = reserve + (1.0 - share) * max(0.0, left() - reserve)
    fits = max(1, int(0.9 * task.steps_a_second * (left() - kept_back)))
    total = min(task.max_steps, fits)
    words = f"{task.max_steps:,} are enough; there is time for {fits:,}"
    total = yield from decide("finetune.steps", total, words)
    seen = task.learned_from
    main = trained(task, seen, task.val, total, less(left, kept_back), "finetune", most=task.max_steps)
    network, learned = yield from main
    task, interrupted = within_memory(task, learned), learned.ended == "interrupted"
    _ends_soon(ground, interrupted)
    blend, loss = yield from deaf(_blend(task, network, seen.rows, "finetune"))
    fit = _Fit(task, network, learned, blend, loss, interrupted)
    fit = yield from _again(ground, fit, less(left, reserve), all_folds=later is not None)
    _ends_soon(ground, fit.interrupted)
    task, network, learned, blend, interrupted = fit.task, fit.network, fit.learned, fit.blend, fit.interrupted
    folds: dict[str, dict[str, Tensor]] | None = None if later is None else {}
    if len(task.held_out):
        logits = yield from deaf(logits_of(network, task.train.at(task.held_out), task.exact, "predict"))
        found = OutOfFold(task.held_out, logits.numpy())
    elif interrupted:
        found = OutOfFold(np.empty(0, np.int64), np.empty((0, task.num_classes), np.float32))
    else:
        found, interrupted = yield from _out_of_fold(ground, task, learned, blend, less(left, reserve), folds)
    how = {"interrupted": interrupted, "ended": learned.ended, "lr": lr, "blend": blend}
    if later is not None and blend == 0.0:
        later.soup = functools.partial(
            nothing, "validation kept the probe's own weights, and they have no other draws."
        )
    elif later is not None and not interrupted:

        def done(made: Tuned, rows: IntArray) -> None:
            _mix(task, made, copied(task.start(rows)), copied(made), blend, rows)

        pot = Pot.of(
            network,
            task=task,
            learned=learned,
            folds=folds or {},
            steps=learned.epochs[-1].step,
            again=False,
            done=done,
            ship=lambda made, told: _finished(ground, task, cut, made, learned, told, how),
            predicted=len(found.rows),
            reserve=reserve,
        )
        later.soup = functools.partial(souped, pot)
    return (yield from _finished(ground, task, cut, network, learned, found, how))


def _finished(
    ground: Ground,
    task: Task[Tuned],
    cut: Cut,
    network: Tuned,
    learned: Learned,
    found: OutOfFold,
    how: Mapping[str, object],
) -> Steps[Fitted]:
    """Return the rung with this network, its embeddings from the graph that ships."""
    network = network.cpu()
    graph, exporter = export(joined(ground.trunk, network), task.preprocess.image_size)
    embeddings: dict[str, FloatArray] = {}
    head = shipped(network.head)
    for split, pictures in (("train", ground.train), ("val", ground.val)):
        steps = embed(graph, task.preprocess, pictures.files, pictures.digests, ground.cache, threads=ground.threads)
        embeddings[split] = (yield from steps).reshape(len(pictures), head.shape[0])  # of no pictures it knows no width
    return Fitted(
        method="finetune",
        trunk=graph,
        head=head,
        preprocess=task.preprocess,
        out_of_fold=found,
        embeddings=embeddings,
        held_out=task.held_out,
        backbone=ground.probe.backbone,
        licence=ground.probe.licence,
        epochs=learned.epochs,
        notes=curve_words(task, learned, head, embeddings["train"], np.arange(len(ground.train), dtype=np.int64)),
        details={
            **how,
            "tuned_from": cut.name or "input",
            "views": cut.num_views,
            "mixup": _mixup_of(task),
            "bn_policy": network.bn,
            "head": ground.recipe.model.head,
            "pooling": ground.recipe.model.pooling,
            "dropout": ground.trunk.drops.get("drop_rate", 0.0),
            "drop_path": ground.trunk.drops.get("drop_path_rate", 0.0),
            "exporter": exporter,
        },
        variations=_shown(ground, task),
    )


def _shown(ground: Ground, task: Task[Tuned]) -> Variations | None:
    """Return some training pictures as the backbone saw them: as views, or where it is tuned whole as they were varied.

    What is mixed above the cut cannot be looked at, and is not shown.
    """
    rows, preprocess = shown_rows(ground.train), task.preprocess
    keys, targets = task.train.keys[rows], ground.train.targets[rows]
    files = [(ground.train.files[row], ground.train.digests[row]) for row in rows.tolist()]
    squares = torch.from_numpy(np.stack([checked_picture(file, digest, preprocess) for file, digest in files]))
    whole = isinstance(task.train.source, Varied)
    seed, mix = (task.choices.seed, task.train.mix) if whole else (VIEWS, None)
    return variations(squares, targets, rows, keys, seed, task.augment, None, mix, step_share(task))
