"""The rung `scratch`: a small network of our own, trained from nothing in the time there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tellapart.errors import InterruptedRunError
from tellapart.events import Decision, Epoch, Progress, Steps, follow
from tellapart.images import Preprocess, at_least_for, default_threads, map_ordered
from tellapart.learn.draws import bits, picture_keys
from tellapart.learn.folds import make_folds
from tellapart.learn.mirroring import mirroring
from tellapart.learn.rungs import Fitted, FloatArray, Head, IntArray, OutOfFold, Pictures
from tellapart.learn.schedule import batch_size_for, epochs_for, image_size_for
from tellapart.learn.torch_batches import Augment, Samples, Varied, decode_all
from tellapart.learn.torch_loop import Choices, Learned, logits_of
from tellapart.learn.torch_networks import Network, export, shape_for
from tellapart.learn.torch_task import Clock, Task, measured, seconds_to_finish, trained
from tellapart.recipe import Recipe
from tellapart.runtime.session import Session

__all__ = ["scratch"]

_ENOUGH_VAL = 500  # validation pictures; with as many, a slice of the training pictures is enough to calibrate on
_MAX_SLICE = 1000
_FOLDS = 3
_MAIN_SHARE = 0.45  # of the time, where models of folds are trained besides
_FOLD_LEAST = 0.6  # of the steps that a fold's fit should have, to count as a model of the same kind
_FOLD_RATE = 0.1  # of the highest rate: a fold's fit that ends above it was cut short, and does not count
_SAMPLE = 1000  # pictures, for the mean colour, the whitening and the question of mirroring

T = TypeVar("T")


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
) -> Steps[Fitted]:
    """Train a network on `train`, stopped early on `val`, within `left()` seconds of wall time.

    `preprocess` says how pictures are decoded and made square; size, mean and deviation are set here. `shorter_px` is
    the median of the pictures' shorter sides; `grey` says that all pictures are grey, so that one channel is enough;
    `num_later` pictures will be embedded afterwards, which takes some of the time too.

    Out-of-fold logits: with 500 validation pictures or more, a tenth of the training pictures (at most 1,000) is held
    out of the fit, and these are `held_out`. With fewer, models of three folds predict what they did not see, as many
    as there is time for; the network that ships learned from all, and `held_out` is empty: the embeddings of `val` are
    then the only ones that it never learned from. InterruptedRunError ends training, and what was best by then is
    returned, `details["interrupted"]` being true, with the out-of-fold rows there are; before there is anything, it
    passes. Raises PictureError, TellapartError (`diverged`).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.fit.threads or default_threads())
    try:
        task = yield from _prepared(train, val, num_classes, preprocess, recipe, left, shorter_px, grey)
        return (yield from _climbed(task, left, num_later))
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
) -> Steps[Task]:
    size = recipe.model.image_size or image_size_for(shorter_px, len(train), left())
    preprocess = dataclasses.replace(preprocess, image_size=size, at_least_px=at_least_for(size))
    why = "--image-size" if recipe.model.image_size else f"the median of the pictures' shorter sides is {shorter_px} px"
    yield Decision("scratch.image_size", size, why)
    channels, threads = (1 if grey else 3), torch.get_num_threads()
    samples, sources = [], []
    for pictures in (train, val):
        pixels = yield from decode_all(pictures.files, preprocess, channels, threads)
        rows = np.arange(len(pictures), dtype=np.int64)
        sources.append(Varied(pixels))
        samples.append(Samples(sources[-1], pictures.targets, picture_keys(pictures.digests), rows))
    folds, held_out = _parts(train, len(val), recipe.seed)
    learned_from = samples[0].at(np.setdiff1d(samples[0].rows, held_out))

    drawn = np.argsort(bits(recipe.seed, 0, learned_from.keys[learned_from.rows], purpose=100), kind="stable")
    seen = learned_from.at(learned_from.rows[drawn[:_SAMPLE]])
    sample = torch.cat([pixels for pixels, _ in seen.in_order(256)])
    flip = yield from _flip(recipe, sample, train.targets[seen.rows])
    mean, std = _colours(sample)
    mean_rgb, std_rgb = (tuple(value.expand(3).tolist()) for value in (mean, std))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = Network(shape_for(size, channels, num_classes, len(learned_from)), mean, std)
    network.fit_whitening(sample)
    network = network.to(memory_format=torch.channels_last)
    batch_size = batch_size_for(len(learned_from))
    epochs = recipe.fit.epochs or epochs_for(len(learned_from))
    augment = Augment(flip=flip, shift_px=max(1, round(size / 8)), cut_px=size * 5 // 16)
    varied = dataclasses.replace(sources[0], augment=augment, fill=(mean * 255.0).round().to(torch.uint8))
    task = Task(
        train=dataclasses.replace(samples[0], source=varied),
        val=samples[1],
        folds=folds,
        held_out=held_out,
        network=network,
        max_steps=epochs * max(1, round(len(learned_from) / batch_size)),
        choices=Choices(seed=recipe.seed, batch_size=batch_size),
        steps_a_second=0.0,
        preprocess=dataclasses.replace(preprocess, mean=mean_rgb, std=std_rgb),
        threads=threads,
    )
    return (yield from measured(task, left()))


def _climbed(task: Task, left: Clock, num_later: int) -> Steps[Fitted]:
    reserve = seconds_to_finish(task, num_later)
    share = 1.0 if len(task.held_out) else _MAIN_SHARE
    kept_back = reserve + (1.0 - share) * max(0.0, left() - reserve)
    fits = max(1, int(0.9 * task.steps_a_second * (left() - kept_back)))
    enough = task.max_steps
    total = min(enough, fits)
    why = f"{enough:,} are enough for {len(task.learned_from):,} pictures; there is time for {fits:,}"
    yield Decision("scratch.steps", total, why)

    network, learned = yield from trained(
        task, task.learned_from, task.val, total, _less(left, kept_back), "scratch", most=enough
    )
    interrupted = learned.ended == "interrupted"
    if len(task.held_out):
        logits = yield from _deaf(logits_of(network, task.train.at(task.held_out), _exact(task.choices), "predict"))
        out_of_fold = OutOfFold(task.held_out, logits.numpy())
    elif interrupted:
        out_of_fold = OutOfFold(np.empty(0, np.int64), np.empty((0, task.network.shape.num_classes), np.float32))
    else:
        out_of_fold, interrupted = yield from _out_of_fold(task, learned, _less(left, reserve))

    trunk = export(network)
    width = network.head.in_features
    embeddings = {
        "train": (yield from _deaf(_embedded(trunk, task.train, width, task.threads))),
        "val": (yield from _deaf(_embedded(trunk, task.val, width, task.threads))),
    }
    return Fitted(
        method="scratch",
        trunk=trunk,
        head=Head(network.head.weight.detach().T.numpy().copy(), network.head.bias.detach().numpy().copy()),
        preprocess=task.preprocess,
        out_of_fold=out_of_fold,
        embeddings=embeddings,
        held_out=task.held_out,
        epochs=learned.epochs,
        details={
            "interrupted": interrupted,
            "ended": learned.ended,
            "num_parameters": sum(p.numel() for p in network.parameters()),
            "widths": list(network.shape.widths),
            "channels": network.shape.channels,
        },
    )


def _parts(train: Pictures, num_val: int, seed: int) -> tuple[IntArray, IntArray]:
    """Return (the fold of each training picture, the rows held out): one of the two is in use, the other empty."""
    none = np.full(len(train), -1, dtype=np.int64)
    if num_val < _ENOUGH_VAL:
        return make_folds(train.targets, train.groups, _FOLDS, seed), np.empty(0, np.int64)
    slices = max(10, -(-len(train) // _MAX_SLICE))
    return none, np.flatnonzero(make_folds(train.targets, train.groups, slices, seed) == 0).astype(np.int64)


def _colours(sample: Tensor) -> tuple[Tensor, Tensor]:
    """Return (mean, standard deviation), float [C], of `pixels / 255` over uint8 [N, S, S, C]."""
    total = torch.zeros(2, sample.shape[-1], dtype=torch.float64)
    for pixels in torch.split(sample, 64):  # so that the numbers of all pictures are never in memory at once
        levels = pixels.flatten(0, 2).double() / 255.0
        total += torch.stack([levels.sum(0), levels.square().sum(0)])
    mean, square = total / sample[..., 0].numel()
    return mean.float(), (square - mean.square()).clamp(min=1e-4).sqrt().float()


def _flip(recipe: Recipe, sample: Tensor, targets: IntArray) -> Steps[bool]:
    if recipe.augment.flip != "auto":
        yield Decision("scratch.flip", recipe.augment.flip == "on", "--flip")
        return recipe.augment.flip == "on"
    found = mirroring(sample.numpy(), targets)
    yield Decision("scratch.flip", found.helps, found.words)
    return found.helps


def _out_of_fold(task: Task, learned: Learned, left: Clock) -> Steps[tuple[OutOfFold, bool]]:
    """Return the logits of models of the folds, each for what it did not see, and whether that was interrupted.

    They are trained for as many steps as led to the best of the main fit, with no look at what they did not see.
    """
    rows = [np.empty(0, np.int64)]
    logits = [np.empty((0, task.network.shape.num_classes), np.float32)]
    num_folds, interrupted = int(task.folds.max()) + 1, False
    steps_a_second = learned.epochs[-1].step / max(1e-3, sum(epoch.seconds for epoch in learned.epochs))
    try:
        for fold in range(num_folds):
            seen, unseen = (task.train.at(np.flatnonzero(part)) for part in (task.folds != fold, task.folds == fold))
            wanted = max(1, round(learned.best_step * len(seen) / len(task.train)))
            fits = int(0.9 * steps_a_second * left())
            ahead = min(num_folds - fold, int(fits / (_FOLD_LEAST * wanted)))
            if ahead < 1:
                yield Decision("scratch.folds", fold, f"there is no time for the others of {num_folds}")
                break
            total, until = min(wanted, fits // ahead), left() * (1.0 - 1.0 / ahead)
            clock, stage = _less(left, until), f"scratch.fold{fold + 1}"
            fold_fit = trained(task, seen, task.nothing, total, clock, stage, enough=2.0)
            network, fitted = yield from _without_epochs(fold_fit)
            interrupted = fitted.ended == "interrupted"
            if interrupted or fitted.epochs[-1].lr > _FOLD_RATE:
                break
            rows.append(unseen.rows)
            logits.append((yield from logits_of(network, unseen, _exact(task.choices), "predict")).numpy())
    except InterruptedRunError:
        interrupted = True
    return OutOfFold(np.concatenate(rows), np.concatenate(logits)), interrupted


def _exact(choices: Choices) -> Choices:
    return dataclasses.replace(choices, dtype=torch.float32)


def _less(left: Clock, kept_back: float) -> Clock:
    return lambda: left() - kept_back


def _embedded(trunk: bytes, samples: Samples, width: int, threads: int) -> Steps[FloatArray]:
    """Return float32 [n, D] from the runtime that ships: one picture a run, so that its neighbours never matter."""
    session = Session(trunk)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for pixels, _ in samples.in_order(64):
            for picture in pixels.numpy():
                yield np.repeat(picture, 3 // picture.shape[-1], axis=-1)[None]

    found: list[FloatArray] = []
    for value in map_ordered(lambda image: session.run(image, ["embedding"])["embedding"][0], pictures(), threads):
        found.append(value)
        if len(found) % 64 == 0 or len(found) == len(samples):
            yield Progress("embed", len(found), len(samples))
    return np.stack(found) if found else np.empty((0, width), np.float32)


def _without_epochs(steps: Steps[T]) -> Steps[T]:
    """Pass on what `steps` yields but for its epochs, which are not those of the network that ships."""
    event = next(steps)
    try:
        while True:
            if isinstance(event, Epoch):
                event = next(steps)
                continue
            try:
                yield event
            except InterruptedRunError as error:
                event = steps.throw(error)
            else:
                event = next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


def _deaf(steps: Steps[T]) -> Steps[T]:
    """Pass on what `steps` yields and let an interruption go by: what is begun here is ended in a moment."""
    return (yield from follow(steps, lambda _: None, deaf=True))
