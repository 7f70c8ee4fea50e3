"""Where training pictures are varied: on the processor, or on the device that trains, whichever takes less time."""

from __future__ import annotations

import dataclasses
import time
from typing import TypeVar

from torch import Tensor, nn

from tellapart.events import Steps, decide
from tellapart.learn.torch_augment import augmented
from tellapart.learn.torch_batches import Varied, epoch_batches
from tellapart.learn.torch_devices import synchronize
from tellapart.learn.torch_task import Task

__all__ = ["varied_where_faster"]

_TIMES = 4  # of which the fastest counts: the first warms up
_ALIKE = 0.999  # the share of numbers that are the same but for rounding; devices add up in their own order

N = TypeVar("N", bound=nn.Module)


def varied_where_faster(task: Task[N]) -> Steps[Task[N]]:
    """Return the task with its pictures varied on its device where a batch shows that to be faster, and the same.

    On the processor where that is the device, where several processes take part, and where the device cannot do it.
    """
    source, device = task.train.source, task.world.device
    if device == "cpu" or task.world.size > 1 or not isinstance(source, Varied):
        return task
    rows, keys = epoch_batches(task.learned_from, task.choices.batch_size, task.choices.seed, 0)[0]
    pixels = next(source.pixels.batches([rows]))

    def tried(on: str) -> tuple[Tensor, float]:
        took = []
        for epoch in range(_TIMES):
            began = time.perf_counter()
            found = augmented(pixels.to(on), keys, task.choices.seed, epoch, source.augment, source.fill).to(device)
            synchronize(device)
            took.append(time.perf_counter() - began)
        return found.cpu(), min(took)

    try:
        here, seconds = tried("cpu")
        there, faster = tried(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        on, words = "cpu", f"{device} cannot vary pictures ({str(error).splitlines()[0][:120]})"
    else:
        alike = float(((here.int() - there.int()).abs() <= 1).float().mean()) >= _ALIKE
        on = device if faster < seconds and alike else "cpu"
        words = (
            f"a batch of {len(rows):,} takes {1e3 * seconds:.1f} ms on the processor, {1e3 * faster:.1f} on {device}"
        )
        words += "" if alike else ", where it is not the same"
    on = yield from decide(f"{task.name}.augment_on", on, words)
    varied = dataclasses.replace(source, on=on)
    return dataclasses.replace(task, train=dataclasses.replace(task.train, source=varied))
