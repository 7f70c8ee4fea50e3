"""Which network of the family is trained, and how, so that there is time for enough passes: by steps taken here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from tellapart.events import Steps, decide
from tellapart.learn.schedule import smaller_side
from tellapart.learn.torch_batches import Varied
from tellapart.learn.torch_networks import Network
from tellapart.learn.torch_task import Task, paced

__all__ = ["sized"]

_PASSES = 6.0  # over the training pictures that there has to be time for, where a narrower network would get more
_MANY_PASSES = 20.0  # from here on it is not time that a network lacks; with fewer, more variation costs accuracy
_SMALLER = 0.5  # of the horizon, at fewer pixels


def sized(
    task: Task[Network],
    family: Sequence[tuple[int, ...]],
    begun: Callable[[tuple[int, ...]], Callable[[], Network]],
    seconds: float,
    varies: bool,
) -> Steps[Task[Network]]:
    """Return a measured task with the widest network of the `family` that there are `seconds` to pass enough with.

    `family` are widths from narrow to wide, those of the task's network among them; `begun` gives what makes one. Where
    there is time for few passes, pictures are small in the first half of them and, where `varies`, varied less.
    """
    rates = {task.start(task.train.rows).shape.widths: task.steps_a_second}
    steps_a_pass = max(1.0, len(task.learned_from) / task.choices.batch_size)
    best = next(iter(rates))

    def passes(widths: tuple[int, ...]) -> float:
        return rates[widths] * seconds / steps_a_pass

    def measured(widths: tuple[int, ...]) -> Steps[None]:
        made = begun(widths)
        rates[widths] = yield from paced(dataclasses.replace(task, start=lambda _: made()))

    at = list(family).index(best)
    while passes(family[at]) < _PASSES and at > 0:
        at -= 1
        yield from measured(family[at])
    while passes(family[at]) >= 1.5 * _PASSES and at + 1 < len(family):
        yield from measured(family[at + 1])
        if passes(family[at + 1]) < _PASSES:
            break
        at += 1
    tried = ", ".join(f"{'-'.join(map(str, one))}: {passes(one):.1f}" for one in rates)
    words = f"passes over {len(task.learned_from):,} pictures that there is time for, by widths: {tried}"
    widths = tuple((yield from decide(f"{task.name}.widths", list(family[at]), words)))
    made = begun(widths)
    rate = rates.get(widths, task.steps_a_second)
    task = dataclasses.replace(task, start=lambda _: made(), steps_a_second=rate)
    return (yield from _hurried(task, rate * seconds / steps_a_pass, varies))


def _hurried(task: Task[Network], passes: float, varies: bool) -> Steps[Task[Network]]:
    name, side = task.name, task.preprocess.image_size
    px = smaller_side(side)
    words = f"there is time for {passes:.1f} passes, and from {_MANY_PASSES:.0f} on there is no hurry"
    hurry = yield from decide(f"{name}.hurry", passes < _MANY_PASSES, words)
    if not hurry:
        return task
    if varies:
        task = _varied_less(task, side)
    if not px:
        return task
    small = dataclasses.replace(task.choices, smaller=1.0, smaller_px=px)
    rate = yield from paced(dataclasses.replace(task, choices=small))
    cost = round(min(1.0, task.steps_a_second / rate), 3)
    words = f"the first half of the passes is at {px} px instead of {side}, where a step takes {cost:.2f} times as long"
    cost = yield from decide(f"{name}.smaller", cost, words)
    choices = dataclasses.replace(task.choices, smaller=_SMALLER, smaller_px=px, smaller_cost=cost)
    mean = _SMALLER * cost + (1.0 - _SMALLER)
    return dataclasses.replace(task, choices=choices, steps_a_second=task.steps_a_second / mean)


def _varied_less(task: Task[Network], side: int) -> Task[Network]:
    """Return the task with pictures moved by half as much and nothing erased."""
    source = task.train.source
    assert isinstance(source, Varied)
    shift_px = min(source.augment.shift_px, max(1, round(side / 16)))
    augment = dataclasses.replace(source.augment, shift_px=shift_px, cut_px=0)
    train = dataclasses.replace(task.train, source=dataclasses.replace(source, augment=augment))
    return dataclasses.replace(task, train=train, augment=augment)
