"""A few training pictures as a network saw them, to be looked at, and what varying them cost."""

from __future__ import annotations

import time
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.learn.augmentation import NOTHING, Augment
from tellapart.learn.draws import Bits, picture_keys
from tellapart.learn.rungs import IntArray, Pictures, Variations
from tellapart.learn.torch_augment import augmented
from tellapart.learn.torch_batches import Varied, epoch_batches
from tellapart.learn.torch_devices import synchronize
from tellapart.learn.torch_mix import Mix, mixed
from tellapart.learn.torch_task import Task

__all__ = ["shown_rows", "step_share", "variations"]

_SHOWN, _TIMES, _PX = 6, 6, 96

N = TypeVar("N", bound=nn.Module)


def shown_rows(pictures: Pictures) -> IntArray:
    """Return the rows of a few pictures, int64 [r]: of as many classes as there is room for, by content alone."""
    order = np.argsort(picture_keys(pictures.digests), kind="stable").astype(np.int64)
    turns: dict[int, int] = {}
    ranked = []
    for row in order.tolist():
        label = int(pictures.targets[row])
        turns[label] = turns.get(label, -1) + 1
        ranked.append((turns[label], row))
    return np.array([row for _, row in sorted(ranked, key=lambda one: one[0])[:_SHOWN]], dtype=np.int64)


def variations(
    pixels: Tensor,
    targets: IntArray,
    rows: IntArray,
    keys: Bits,
    seed: int,
    how: Augment,
    fill: Tensor | None,
    mix: Mix | None,
    share: float | None,
) -> Variations | None:
    """Return pictures uint8 [r, S, S, C] of the training `rows` as they are and as they were varied, if they were.

    `targets` and `keys` are those of these pictures; what is drawn is what was drawn in the first epochs of `seed`.
    """
    mixes = mix is not None and not mix.nothing
    if how == NOTHING and not mixes:
        return None
    seen = [pixels]
    for epoch in range(1, _TIMES + 1):
        varied = augmented(pixels, keys, seed, epoch, how, fill)
        if mix is not None and not mix.nothing:
            varied, _ = mixed(varied, torch.from_numpy(targets), keys, seed, epoch, mix)
        seen.append(varied)
    stack = torch.stack(seen, 1)
    stack = stack.expand(*stack.shape[:-1], 3)
    step = -(-stack.shape[2] // _PX)
    return Variations(how.words, share, rows, stack[:, :, ::step, ::step].contiguous().numpy())


def step_share(task: Task[N]) -> float | None:
    """Return the share in [0, 1] of a training step that varying a batch takes; None where activations are read."""
    train = task.learned_from
    if not isinstance(train.source, Varied) or not task.steps_a_second:
        return None
    rows, keys = epoch_batches(train, task.choices.batch_size, task.choices.seed, 0)[0]
    took = []
    pixels = next(train.source.pixels.batches([rows])).to(train.source.on)
    for epoch in range(3):
        began = time.perf_counter()
        found = augmented(pixels, keys, task.choices.seed, epoch, train.source.augment, train.source.fill)
        if train.mix is not None and not train.mix.nothing:
            mixed(found, torch.from_numpy(train.targets[rows]), keys, task.choices.seed, epoch, train.mix)
        synchronize(task.world.device)
        took.append(time.perf_counter() - began)
    return min(1.0, min(took) * task.steps_a_second)
