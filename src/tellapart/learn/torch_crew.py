"""A fit in which several processes take the same steps: rank 0 decides each of them, the others follow.

A process that follows holds the same network, optimizer and pictures, and takes each step on its share of the batch. It
knows no clock, no validation and no checkpoint: what is decided, is decided once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tellapart.learn.torch_batches import Held, Samples, Varied
from tellapart.learn.torch_optimizers import Optimizer
from tellapart.learn.torch_shards import Shards
from tellapart.learn.torch_step import Choices, one_step
from tellapart.learn.torch_world import World

__all__ = ["Job", "follow", "go_back", "led", "tell_step"]

_STEP, _BACK, _END = range(3)
_NUMBERS = 8
_SENT = Varied(Held(torch.empty(0)))  # stands for pictures that were sent before


@dataclasses.dataclass(frozen=True)
class Job:
    """What a process needs to take part in a fit; `known` says that the pictures are those of the last fit."""

    network: nn.Module
    optimizer: Optimizer
    train: Samples
    known: bool
    choices: Choices
    threads: int


@contextlib.contextmanager
def led(world: World, network: nn.Module, optimizer: Optimizer, train: Samples, choices: Choices) -> Iterator[None]:
    """Let the others take part in a fit until this is left."""
    if world.size == 1:
        yield
        return
    known = world.source is train.source
    world.source = train.source
    sent = dataclasses.replace(train, source=_SENT) if known else train
    world.say(Job(network, optimizer, sent, known, choices, torch.get_num_threads()))
    try:
        yield
    finally:
        world.tell(_END, *[0.0] * (_NUMBERS - 1))


def tell_step(
    world: World, step: int, rate: float, epoch: int, batch: int, ceiling: float, micro_batch: int, px: int
) -> None:
    """Tell the others of the next step: they take it at the same time."""
    world.tell(_STEP, step, rate, epoch, batch, ceiling, micro_batch, px)


def go_back(world: World, weights: dict[str, Tensor]) -> None:
    """Give the others other weights, with nothing remembered of earlier gradients."""
    world.tell(_BACK, *[0.0] * (_NUMBERS - 1))
    world.say(weights)


def follow(world: World) -> Any:
    """Take part in whatever rank 0 begins, until it says something else, which is returned.

    Raises TellapartError (`rank_lost`) where another process is gone.
    """
    try:
        while isinstance(word := world.hear(), Job):
            world.source = world.source if word.known else word.train.source
            _take_part(dataclasses.replace(word, train=dataclasses.replace(word.train, source=world.source)), world)
    except BaseException as error:
        world.leave(error)
        raise
    return word


def _take_part(job: Job, world: World) -> None:
    torch.set_num_threads(job.threads)
    network, optimizer, at, shards = job.network, job.optimizer, (-1, -1), Shards(job.network)
    batches: Iterator[tuple[Tensor, Tensor]] = iter(())
    inputs = targets = torch.empty(0)
    choices = dataclasses.replace(job.choices, device=world.device)
    network.train()
    while True:
        kind, step, rate, *place, ceiling, micro_batch, px = world.told(_NUMBERS)
        if kind == _END:
            return
        if kind == _BACK:
            network.load_state_dict(world.hear())
            optimizer.forget()
            continue
        epoch, batch = map(int, place)
        if (epoch, batch) != at:
            if (epoch, batch) != (at[0], at[1] + 1):
                batches = job.train.epoch(choices.batch_size, choices.seed, epoch, batch, world.mine())
            (inputs, targets), at = next(batches), (epoch, batch)
        now = dataclasses.replace(choices, micro_batch=int(micro_batch))
        try:
            one_step(shards, optimizer, inputs, targets, rate, int(step), now, ceiling, world, int(px))
        except MemoryError:
            if world.lost:
                raise
