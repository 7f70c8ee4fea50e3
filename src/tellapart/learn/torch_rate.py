"""The peak learning rate of a task: as asked for, or by a few steps at rising rates."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import TypeVar

from torch import Tensor, nn

from tellapart.events import Decision, Progress, RangeTest, Steps, decide
from tellapart.learn.range_test import Rates, rate_at, rate_from
from tellapart.learn.torch_devices import let_go
from tellapart.learn.torch_optimizers import Optimizer
from tellapart.learn.torch_shards import Shards
from tellapart.learn.torch_step import Choices, half_as_many, one_step
from tellapart.learn.torch_task import Task, laid_out

__all__ = ["peak_rate"]

_MOST_STEPS, _FEWEST_STEPS = 40, 12

N = TypeVar("N", bound=nn.Module)


def peak_rate(task: Task[N], wish: float | None, rates: Rates, seconds: float) -> Steps[float]:
    """Return the peak rate for the fit of a task whose optimizer was made for a rate of 1, in `seconds` at the most.

    Steps are taken on a network of their own, which is then dropped. Where memory is too little for one, half as many
    pictures go through at a time, as in a fit. Where there is no time for twelve steps, it is the usual of `rates`.
    Yields Progress, RangeTest, Decision. Raises what `one_step` does where one picture is too much.
    """
    name = f"{task.name}.lr"
    if wish is not None:
        yield Decision(name, wish, "--lr")
        return wish
    total = min(_MOST_STEPS, int(max(0.0, seconds) * task.steps_a_second))
    words = f"at rising rates, for which there is time; fewer than {_FEWEST_STEPS} say nothing, and are not taken"
    total = yield from decide(f"{name}.steps", total, words)
    if total < _FEWEST_STEPS:
        usual: float = yield from decide(name, rates.usual, "what is usual: there is no time for a range test")
        return usual
    network = laid_out(task.start(task.learned_from.rows), task.choices.layout).to(task.choices.device)
    optimizer = task.optimizer(network)
    network.train()
    shards, choices = Shards(network, task.choices.shards), task.choices
    lrs: list[float] = []
    losses: list[float] = []
    for step, (inputs, targets) in enumerate(itertools.islice(_batches(task), total)):
        rate = rate_at(step, total, rates)
        loss, choices = _stepped(shards, optimizer, inputs, targets, rate, step, choices, name)
        if not math.isfinite(loss):
            if not lrs:  # it is not the rate: the fit itself will tell of it
                first: float = yield from decide(name, rates.usual, "what is usual: no loss was finite in a range test")
                return first
            break
        lrs.append(rate)
        losses.append(loss)
        yield Progress(name, step + 1, total, "steps")
    seen, words = rate_from(lrs, losses, rates.below)
    found = rates.held(seen)
    if found != seen:
        words = f"{seen:.2g} is {words}, held within {rates.within:g} times the usual {rates.usual:.2g}"
    if choices.micro_batch < task.choices.micro_batch:
        words += f"; there was memory for {choices.micro_batch} pictures at a time"
    lr: float = yield from decide(name, found, words)
    yield RangeTest(tuple(lrs), tuple(losses), lr)
    return lr


def _stepped(
    shards: Shards,
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    rate: float,
    step: int,
    choices: Choices,
    name: str,
) -> tuple[float, Choices]:
    """Take a step; return its loss, and the choices with as many pictures at a time as there was memory for."""
    side_by_side = -(-len(targets) // choices.shards)
    while True:
        try:
            return one_step(shards, optimizer, inputs, targets, rate, step, choices, px=choices.px_at(0.0))[0], choices
        except (RuntimeError, MemoryError) as error:
            _, fewer = half_as_many(error, choices.micro_batch, side_by_side, name)
        optimizer.zero_grad()
        let_go(choices.device)
        choices = dataclasses.replace(choices, micro_batch=fewer)


def _batches(task: Task[N]) -> Iterator[tuple[Tensor, Tensor]]:
    for number in itertools.count():
        yield from task.learned_from.epoch(task.choices.batch_size, task.choices.seed, number)
