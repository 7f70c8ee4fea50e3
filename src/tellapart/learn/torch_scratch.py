"""The rung `scratch`: a small network of our own, trained from nothing in the time there is."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from tellapart import judge
from tellapart.events import Steps, decide
from tellapart.images import Preprocess, at_least_for, default_threads
from tellapart.learn.augmentation import preset
from tellapart.learn.balanced_head import decided_balance
from tellapart.learn.draws import bits, picture_keys
from tellapart.learn.folds import make_folds, parts
from tellapart.learn.linear import stratified
from tellapart.learn.mirroring import small_features
from tellapart.learn.range_test import Rates
from tellapart.learn.rungs import Fitted, Head, IntArray, Later, OutOfFold, Pictures, Variations
from tellapart.learn.schedule import batch_size_for, epochs_for, image_size_for, shape_of
from tellapart.learn.torch_balancing import balanced
from tellapart.learn.torch_batches import Samples, Varied, decode_all
from tellapart.learn.torch_checkpoint import Checkpoints
from tellapart.learn.torch_devices import device_of
from tellapart.learn.torch_family import sized
from tellapart.learn.torch_folds import deaf, out_of_fold
from tellapart.learn.torch_last import (
    compared_on,
    curve_words,
    embedded,
    mirrored_too,
    seconds_for_statistics,
    seconds_to_finish,
    statistics_anew,
    with_embeddings,
)
from tellapart.learn.torch_loop import Learned, copied
from tellapart.learn.torch_mix import Mix
from tellapart.learn.torch_muon import Muon
from tellapart.learn.torch_networks import Network, export, family_of, shape_for
from tellapart.learn.torch_norms import reestimated_on
from tellapart.learn.torch_rate import peak_rate
from tellapart.learn.torch_soup import Pot, souped
from tellapart.learn.torch_step import Choices
from tellapart.learn.torch_survey import chosen
from tellapart.learn.torch_task import Clock, Task, less, measured, trained, within_memory
from tellapart.learn.torch_validate import logits_of
from tellapart.learn.torch_variations import shown_rows, step_share, variations
from tellapart.learn.torch_where import varied_where_faster
from tellapart.learn.torch_world import World
from tellapart.recipe import Recipe

__all__ = ["scratch"]

_MAIN_SHARE = 0.45  # of the time, where models of folds are trained besides
_AGAIN, _AGAIN_STEPS = 0.6, 0.5  # of the usual rates and of the steps, where training goes on for a soup
_USED = 0.9  # of the time that is left, about, goes into training
_RANGE_TEST, _BELOW, _WITHIN = 0.02, 2.0, 1.5  # of the time; see `Rates`
_STABLE = 0.2  # of the steps, at the peak rate, where the schedule is not a cosine
_AUTO = "light"  # the preset that is the start of --augment auto
_COMPARED_ON = 2000  # pictures, for the question how to balance classes
_SAMPLE = 1000  # pictures, for the mean colour, the whitening and the question of mirroring


def scratch(
    train: Pictures,
    val: Pictures,
    num_classes: int,
    preprocess: Preprocess,
    recipe: Recipe,
    left: Clock,
    *,
    shorter_px: int,
    grey: bool = False,
    num_later: int = 0,
    checkpoints: Checkpoints | None = None,
    world: World | None = None,
    later: Later | None = None,
) -> Steps[Fitted]:
    """Train a network on `train`, stopped early on `val`, within `left()` seconds of wall time.

    `preprocess` says how pictures are decoded and made square; size, mean and deviation are set here. `shorter_px` is
    the median of the pictures' shorter sides; `grey` says that all pictures are grey, so that one channel is enough;
    `num_later` pictures will be embedded afterwards, which takes some of the time too. The other processes of `world`
    take each step as well.

    Out-of-fold logits: with 500 validation pictures or more, a tenth of the training pictures (at most 1,000) is held
    out of the fit, and these are `held_out`. With fewer, models of three folds predict what they did not see, as many
    as there is time for; the network that ships learned from all, and `held_out` is empty: the embeddings of `val` are
    then the only ones that it never learned from. InterruptedRunError ends training, and what was best by then is
    returned, `details["interrupted"]` being true, with the out-of-fold rows there are; before there is anything, it
    passes. `later` is told how to go on to a soup. Raises PictureError, TellapartError (`diverged`).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.fit.threads or default_threads())
    try:
        world = world or World(device=device_of(recipe.fit.device))
        task = yield from _prepared(train, val, num_classes, preprocess, recipe, left, shorter_px, grey, world)
        task = dataclasses.replace(task, checkpoints=checkpoints)
        return (yield from _climbed(task, train, recipe.fit.lr, left, num_later, later))
    finally:
        torch.set_num_threads(before)


def _prepared(
    train: Pictures,
    val: Pictures,
    num_classes: int,
    preprocess: Preprocess,
    recipe: Recipe,
    left: Clock,
    shorter_px: int,
    grey: bool,
    world: World,
) -> Steps[Task[Network]]:
    size = recipe.model.image_size or image_size_for(shorter_px, len(train), left())
    why = "--image-size" if recipe.model.image_size else f"the median of the pictures' shorter sides is {shorter_px} px"
    size = yield from decide("scratch.image_size", size, why)
    preprocess = dataclasses.replace(preprocess, image_size=size, at_least_px=at_least_for(size))
    channels, threads = (1 if grey else 3), torch.get_num_threads()
    samples, sources = [], []
    for pictures in (train, val):
        pixels = yield from decode_all(pictures.files, preprocess, channels, threads)
        rows = np.arange(len(pictures), dtype=np.int64)
        sources.append(Varied(pixels))
        samples.append(Samples(sources[-1], pictures.targets, picture_keys(pictures.digests), rows))
    folds, held_out = parts(train.targets, train.groups, len(val), recipe.seed, recipe.data.folds)
    learned_from = samples[0].at(np.setdiff1d(samples[0].rows, held_out))

    drawn = np.argsort(bits(recipe.seed, 0, learned_from.keys[learned_from.rows], purpose=100), kind="stable")
    seen = learned_from.at(learned_from.rows[drawn[:_SAMPLE]])
    sample = torch.cat([pixels for pixels, _ in seen.in_order(256)])
    base = preset(_AUTO, size).less(["hue", "grey"] if channels == 1 else [])
    asked = sample.numpy(), train.targets[seen.rows]
    augment = yield from chosen(recipe.augment, base, size, "scratch", *asked, None)
    mean, std = _colours(sample)
    mean_rgb, std_rgb = (tuple(value.expand(3).tolist()) for value in (mean, std))

    shape = shape_for(size, channels, num_classes, len(learned_from))

    def begun(widths: tuple[int, ...]) -> Callable[[], Network]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network = Network(dataclasses.replace(shape, widths=widths), mean, std)
        network.fit_whitening(sample)
        network = network.to(memory_format=torch.channels_last)
        return lambda: copy.deepcopy(network)

    first = begun(shape.widths)
    batch_size = batch_size_for(len(learned_from))
    epochs = recipe.fit.epochs or epochs_for(len(learned_from))
    stable, decay = shape_of(recipe.fit.schedule, _STABLE)
    varied = dataclasses.replace(sources[0], augment=augment, fill=(mean * 255.0).round().to(torch.uint8))
    task = Task(
        name="scratch",
        train=dataclasses.replace(samples[0], source=varied),
        val=samples[1],
        folds=folds,
        held_out=held_out,
        num_classes=num_classes,
        start=lambda _: first(),
        optimizer=lambda made: _optimizer(made, batch_size, _usual_rate(batch_size)),
        max_steps=epochs * max(1, round(len(learned_from) / batch_size)),
        choices=Choices(
            seed=recipe.seed,
            batch_size=batch_size,
            stable=stable,
            decay=decay,
            device=world.device,
        ),
        preprocess=dataclasses.replace(preprocess, mean=mean_rgb, std=std_rgb),
        threads=threads,
        augment=augment,
        world=world,
    )
    mix = Mix(num_classes, augment.mixup, augment.cutmix)
    task = dataclasses.replace(task, train=dataclasses.replace(task.train, mix=mix))
    kind = yield from _balance(learned_from, train.groups, num_classes, recipe)
    choices, shown = balanced(task.choices, task.train, kind, train.targets, num_classes)
    task = yield from varied_where_faster(dataclasses.replace(task, choices=choices, train=shown))
    task = yield from measured(task, left())
    share = _USED * (1.0 if len(held_out) else _MAIN_SHARE)
    family, varies = family_of(shape, len(learned_from)), recipe.augment.augment == "auto"
    return (yield from sized(task, family, begun, share * left(), varies))


def _balance(seen: Samples, groups: Sequence[str], num_classes: int, recipe: Recipe) -> Steps[str]:
    """Decide how uneven classes are balanced, where that is to be found out by a linear model of small pictures."""
    wish, targets = recipe.fit.balance, seen.targets[seen.rows]
    few = seen.at(seen.rows[stratified(targets, _COMPARED_ON, recipe.seed)])
    truth = few.targets[few.rows]
    features, folds = np.empty((len(few), 0), np.float32), np.full(len(few), -1, np.int64)
    if wish == "auto" and judge.is_unbalanced(np.bincount(targets, minlength=num_classes)):
        folds = make_folds(truth, [groups[row] for row in few.rows.tolist()], seed=recipe.seed)
        parts_of = [small_features(pixels.numpy()).astype(np.float32) for pixels, _ in few.in_order(256)]
        features = np.concatenate(parts_of)
    kind, _ = yield from decided_balance(
        features, truth, num_classes, folds, wish, recipe.seed, "scratch.balance", targets
    )
    return kind


def _climbed(
    task: Task[Network], train: Pictures, wish: float | None, left: Clock, num_later: int, later: Later | None
) -> Steps[Fitted]:
    batch_size, usual = task.choices.batch_size, _usual_rate(task.choices.batch_size)
    tested = dataclasses.replace(task, optimizer=lambda made: _optimizer(made, batch_size, 1.0))
    lr = yield from peak_rate(tested, wish, Rates.around(usual, _BELOW, _WITHIN), _RANGE_TEST * left())
    task = dataclasses.replace(task, optimizer=lambda made: _optimizer(made, batch_size, lr))
    looked_at = with_embeddings(train.targets, task.held_out, task.choices.seed)
    reserve = seconds_to_finish(task, len(looked_at), num_later) + seconds_for_statistics(task)
    share = 1.0 if len(task.held_out) else _MAIN_SHARE
    kept_back = reserve + (1.0 - share) * max(0.0, left() - reserve)
    fits = max(1, int(0.9 * task.steps_a_second * (left() - kept_back)))
    enough = task.max_steps
    total = min(enough, fits)
    why = f"{enough:,} are enough for {len(task.learned_from):,} pictures; there is time for {fits:,}"
    total = yield from decide("scratch.steps", total, why)

    val = compared_on(task.val, task.choices.seed)  # after each pass; to look at all would take a tenth of the time
    network, learned = yield from trained(
        task, task.learned_from, val, total, less(left, kept_back), "scratch", most=enough
    )
    task, interrupted = within_memory(task, learned), learned.ended == "interrupted"
    anew = not interrupted and (yield from deaf(statistics_anew(task, network)))
    network.mirrors = yield from deaf(mirrored_too(task, network))
    folds: dict[str, dict[str, Tensor]] | None = None if later is None else {}
    if len(task.held_out):
        logits = yield from deaf(logits_of(network, task.train.at(task.held_out), task.exact, "predict"))
        out_of_fold = OutOfFold(task.held_out, logits.numpy())
    elif interrupted:
        out_of_fold = OutOfFold(np.empty(0, np.int64), np.empty((0, task.num_classes), np.float32))
    else:
        out_of_fold, interrupted = yield from _out_of_fold(
            task, learned, network.mirrors, anew, less(left, reserve), folds
        )

    def done(made: Network, rows: IntArray) -> None:
        if anew:
            reestimated_on(made, task.train.at(rows), task.choices)

    if later is not None and not interrupted:
        whole = dataclasses.replace(task.choices, smaller=0.0)
        pot = Pot.of(
            network,
            task=dataclasses.replace(
                task, optimizer=lambda made: _optimizer(made, batch_size, _AGAIN * lr), choices=whole
            ),
            learned=learned,
            folds=folds or {},
            steps=max(1, round(_AGAIN_STEPS * learned.epochs[-1].step)),
            again=True,
            done=done,
            ship=lambda made, found: _finished(task, train, made, learned, found, looked_at, False, lr),
            predicted=len(out_of_fold.rows),
            reserve=reserve,
        )
        later.soup = functools.partial(souped, pot)
    return (yield from _finished(task, train, network, learned, out_of_fold, looked_at, interrupted, lr))


def _finished(
    task: Task[Network],
    train: Pictures,
    network: Network,
    learned: Learned,
    out_of_fold: OutOfFold,
    looked_at: IntArray,
    interrupted: bool,
    lr: float,
) -> Steps[Fitted]:
    """Return the rung with this network; `out_of_fold` has rows of all training pictures."""
    network = network.cpu()
    trunk = export(network)
    width = network.head.in_features
    embeddings = {
        "train": (yield from deaf(embedded(trunk, task.train.at(looked_at), width, task.threads))),
        "val": (yield from deaf(embedded(trunk, task.val, width, task.threads))),
    }
    shown = _shown(task, train, looked_at)
    head = Head(network.head.weight.detach().T.numpy().copy(), network.head.bias.detach().numpy().copy())
    return Fitted(
        method="scratch",
        trunk=trunk,
        head=head,
        preprocess=task.preprocess,
        out_of_fold=OutOfFold(np.searchsorted(looked_at, out_of_fold.rows), out_of_fold.logits),
        embeddings=embeddings,
        held_out=np.searchsorted(looked_at, task.held_out),
        looked_at=None if len(looked_at) == len(train) else looked_at,
        epochs=learned.epochs,
        notes=curve_words(task, learned, head, embeddings["train"], looked_at),
        details={
            "interrupted": interrupted,
            "ended": learned.ended,
            "lr": lr,
            "num_parameters": sum(p.numel() for p in network.parameters()),
            "widths": list(network.shape.widths),
            "channels": network.shape.channels,
            "mirrored_too": network.mirrors,
            **({} if shown is None or shown.share is None else {"augment_share": shown.share}),
        },
        variations=shown,
    )


def _usual_rate(batch_size: int) -> float:
    """Return the usual peak rate: smaller batches are noisier, and noise adds up as its root."""
    return 0.125 * math.sqrt(batch_size / 128)


def _optimizer(network: Network, batch_size: int, lr: float) -> Muon:
    """Return the optimizer for a network: `lr` is the rate of all but filters, which turn in proportion to it."""
    return Muon(network, filter_lr=1.2 * lr * min(1.0, math.sqrt(128 / batch_size)), lr=lr)


def _shown(task: Task[Network], pictures: Pictures, looked_at: IntArray) -> Variations | None:
    """Return some training pictures, of those `looked_at`, as they were varied."""
    source, train = task.train.source, task.train
    assert isinstance(source, Varied)
    places = shown_rows(pictures.take(looked_at))
    rows = looked_at[places]
    return variations(
        next(source.batches([rows])),
        train.targets[rows],
        places,
        train.keys[rows],
        task.choices.seed,
        source.augment,
        source.fill,
        train.mix,
        step_share(task),
    )


def _colours(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mean, standard deviation), float [C], of `pixels / 255` over uint8 [N, S, S, C]."""
    total = torch.zeros(2, sample.shape[-1], dtype=torch.float64)
    for pixels in torch.split(sample, 64):  # so that the numbers of all pictures are never in memory at once
        levels = pixels.flatten(0, 2).double() / 255.0
        total += torch.stack([levels.sum(0), levels.square().sum(0)])
    mean, square = total / sample[..., 0].numel()
    return mean.float(), (square - mean.square()).clamp(min=1e-4).sqrt().float()


def _out_of_fold(
    task: Task[Network],
    learned: Learned,
    mirrors: bool,
    anew: bool,
    left: Clock,
    kept: dict[str, dict[str, Tensor]] | None,
) -> Steps[tuple[OutOfFold, bool]]:
    """Return what models of folds say of what they did not see; their weights go to `kept`, by the fold's name."""

    def fitted(seen: Samples, total: int, clock: Clock, stage: str) -> Steps[tuple[Network, Learned]]:
        network, found = yield from trained(task, seen, task.nothing, total, clock, stage, enough=2.0)
        if anew and found.ended != "interrupted":
            reestimated_on(network, seen, task.choices)
        if kept is not None:
            kept[stage.rpartition(".")[2]] = copied(network)
        return network, found

    def predicted(network: Network, unseen: Samples) -> Steps[Tensor]:
        network.mirrors = mirrors
        return logits_of(network, unseen, task.exact, "predict")

    return out_of_fold(task.train, task.folds, task.num_classes, learned, fitted, predicted, left, "scratch")
