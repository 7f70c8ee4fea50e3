"""One step: a batch forward, its loss back, the weights moved. And what shapes it, as values."""

from __future__ import annotations

import contextlib
import dataclasses
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.errors import InputError
from tellapart.learn.draws import bits
from tellapart.learn.schedule import Decay
from tellapart.learn.torch_devices import seeded
from tellapart.learn.torch_optimizers import Optimizer
from tellapart.learn.torch_shards import Draws, Shards
from tellapart.learn.torch_world import ALONE, Tally, World
from tellapart.memory import out_of_memory

__all__ = ["Choices", "computing", "half_as_many", "is_sound", "one_step", "parts_of"]

_NOISE = 200  # what a draw is for: dropout and the like


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """All that shapes a fit besides network, optimizer and pictures. Everything is a value: there are no switches.

    `warmup`, `stable` and `decay` are as `schedule.learning_rate` has them. `average` in [0, 1) weighs the past in the
    running mean of the weights (0: none); `clip` bounds the norm of the gradient (infinity: none); `micro_batch` is how
    many pictures go through the network at a time, the gradients of a batch being added up; `shards` is how many parts
    of a batch go through it side by side (see `Shards`); `dtype` is what the network computes in, float32 or bfloat16,
    on `device`, and `layout` how its maps lie in memory; `class_weights`, float32 [K], weigh the losses; `log_priors`,
    float32 [K], are added to the logits in the loss, so that the network itself holds classes for equally frequent
    (Menon and others, "Long-tail learning via logit adjustment", ICLR 2021); `val_weights`, float32 [K], weigh the
    losses of validation, which `class_weights` do where these are None; `patience` is the share of the horizon that may
    pass without a better validation loss (1: all of it). The horizon is moved, up to its `most` steps, so that the rate
    is back at zero when the time is up; and once `enough`, a share, of an epoch's pictures were told right, so that
    half as many steps again are the last (above 1: never). For `smaller`, a share of the horizon, pictures are first
    brought to `smaller_px` a side, a step takes `smaller_cost` times as long as later, and `patience` has not begun.
    """

    seed: int
    batch_size: int
    label_smoothing: float = 0.1
    warmup: float = 0.15
    stable: float = 0.0
    decay: Decay = "linear"
    average: float = 0.99
    clip: float = math.inf
    micro_batch: int = 1 << 30
    shards: int = 1
    dtype: torch.dtype = torch.float32
    layout: torch.memory_format = torch.channels_last
    device: str = "cpu"
    class_weights: Tensor | None = None
    log_priors: Tensor | None = None
    val_weights: Tensor | None = None
    patience: float = 0.35
    enough: float = 0.99
    smaller: float = 0.0
    smaller_px: int = 0
    smaller_cost: float = 1.0

    def px_at(self, progress: float) -> int:
        """Return the side to which pictures are brought at `progress`; 0 where they stay as they are."""
        return self.smaller_px if progress < self.smaller else 0

    def pace_to_come(self, progress: float) -> float:
        """Return how many steps, per second, are to be expected from `progress` on, where there is one a second now."""
        if progress >= self.smaller or progress >= 1.0:
            return 1.0
        rest = (self.smaller - progress) * self.smaller_cost + (1.0 - self.smaller)
        return self.smaller_cost * (1.0 - progress) / rest


def one_step(
    shards: Shards,
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    rate: float,
    step: int,
    choices: Choices,
    ceiling: float = math.inf,
    world: World = ALONE,
    px: int = 0,
) -> tuple[float, int]:
    """Take one step on a batch; return its mean loss in nats (without smoothing or weights) and the number right.

    Pictures are brought to `px` a side first, where that is not 0.
    `targets` are classes int64 [n] or the share of each, float32 [n, K], of which the largest counts as right. Of
    several processes, each is given its share of the `inputs` and all `targets`, and has one shard; gradients, loss and
    hits are added up. Nothing is stepped where the loss is not finite or is above `ceiling`. What the network draws
    (dropout) is a function of (seed, step). Raises MemoryError, or what torch raises for it; statistics of batch norm
    are then those of before, for the step is taken again; InputError (`out_of_memory`) where the optimizer ran short.
    """
    optimizer.zero_grad()
    buffers: list[tuple[Tensor, Tensor]] = []
    pairs = list(zip(*(part.chunk(shards.count) for part in (inputs, targets)), strict=True))
    each = np.arange(1, len(pairs) + 1, dtype=np.uint64)
    draws = [int(value) >> 1 for value in bits(choices.seed, step, each, _NOISE)]
    held = (choices.class_weights, choices.log_priors)
    weights, priors = (None if value is None else value.to(choices.device) for value in held)
    total = float(len(targets))  # of the batch, not of a part of it
    if weights is not None and targets.ndim == 1:
        total = float(weights[targets.to(choices.device)].sum())

    def through(network: nn.Module, number: int) -> Tally:
        tally = Tally()
        if number >= len(pairs):
            return tally
        left, told = pairs[number]
        with Draws(torch.Generator().manual_seed(draws[number])) if shards.count > 1 else contextlib.nullcontext():
            for start, part in parts_of(told.to(choices.device), choices.micro_batch):
                mine = world.mine(start)
                y = part[mine]
                x, left = left[: len(y)].to(choices.device), left[len(y) :]
                with computing(choices), world.together(mine, len(part)):
                    logits = network(_smaller(x, px) if px else x).float()
                adjusted, smoothing = logits if priors is None else logits + priors, choices.label_smoothing
                loss = functional.cross_entropy(adjusted, y, weights, label_smoothing=smoothing, reduction="sum")
                (loss / total).backward()  # type: ignore[no-untyped-call]
                plain = functional.cross_entropy(logits.detach(), y, reduction="sum")
                tally.loss += float(plain) / len(targets)
                tally.hits += int((logits.argmax(1) == (y if y.ndim == 1 else y.argmax(1))).sum())
        return tally

    try:
        with world.step(shards.network) as tally, seeded(choices.device, draws[0]):
            buffers += [(buffer, buffer.clone()) for buffer in shards.network.buffers()]
            for found in shards.each(through):
                tally.loss, tally.hits = tally.loss + found.loss, tally.hits + found.hits
    except BaseException:
        for buffer, before in buffers:
            buffer.copy_(before)
        raise
    if is_sound(tally.loss, ceiling):
        _move(shards.network, optimizer, rate, choices.clip)
    return tally.loss, tally.hits


def _move(network: nn.Module, optimizer: Optimizer, rate: float, clip: float) -> None:
    """Clip the gradients and move the weights. Where memory fails here, no step is taken again: half of it was done."""
    try:
        if math.isfinite(clip):
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step(rate)
    except (RuntimeError, MemoryError) as error:
        if (told := out_of_memory(error, "The optimizer")) is None:
            raise
        raise told from error


def _smaller(pixels: Tensor, px: int) -> Tensor:
    """Return float [n, px, px, C] for pixels [n, S, S, C]."""
    planes = pixels.permute(0, 3, 1, 2).float()
    return functional.interpolate(planes, (px, px), mode="bilinear", antialias=True).permute(0, 2, 3, 1)


def half_as_many(error: BaseException, micro_batch: int, side_by_side: int, what: str) -> tuple[InputError, int]:
    """Return `error` as the sentence on memory that it is, and how many pictures are to go through at a time instead.

    `micro_batch` were to, of the `side_by_side` that a shard has; `what` asked for the memory. Raises `error` where it
    is another one, or where but one picture went through. Call it while `error` is handled.
    """
    told = out_of_memory(error, what)
    tried = min(micro_batch, side_by_side)
    if told is None or tried < 2:
        raise error
    return told, -(-tried // 2)


def parts_of(targets: Tensor, most: int) -> list[tuple[int, Tensor]]:
    """Return a batch in parts of like size, `most` at the most: where each begins, and its targets."""
    parts = torch.tensor_split(targets, max(1, -(-len(targets) // most)))
    starts = np.cumsum([0, *map(len, parts)])
    return [(int(start), part) for start, part in zip(starts, parts, strict=False)]


def is_sound(loss: float, ceiling: float) -> bool:
    """Return whether a loss is a number, and has not exploded."""
    return math.isfinite(loss) and loss <= ceiling


def computing(choices: Choices) -> torch.autocast:
    """Return what a network computes in while entered."""
    kind = torch.device(choices.device).type
    return torch.autocast(kind, torch.bfloat16, enabled=choices.dtype == torch.bfloat16)
