"""Where training pictures are varied: a batch decides, and what cannot do it is passed over.

There is no second device on most machines: `cpu:0` is torch's other name for the processor, and takes the same way.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tellapart.events import Decision, Event
from tellapart.learn.augmentation import preset
from tellapart.learn.draws import picture_keys
from tellapart.learn.torch_batches import Held, Samples, Varied
from tellapart.learn.torch_task import Task
from tellapart.learn.torch_where import varied_where_faster
from tellapart.learn.torch_world import World
from tests.learn.tasks import task_of


def task_on(device: str, size: int = 1) -> Task[nn.Module]:
    count = 48
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))
    keys = picture_keys([f"{number:064x}" for number in range(count)])
    source = Varied(Held(pixels), preset("strong", 16), torch.tensor([9, 8, 7], dtype=torch.uint8))
    rows = np.arange(count)
    train = Samples(source, rows % 3, keys, rows)
    task: Task[nn.Module] = task_of(train, train.at(np.empty(0, np.int64)), nn.Identity)
    return dataclasses.replace(task, world=World(size=size, device=device))


def placed(task: Task[nn.Module]) -> tuple[Task[nn.Module], list[Event]]:
    events: list[Event] = []
    steps = varied_where_faster(task)
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            found: Task[nn.Module] = end.value
            return found, events


def on(task: Task[Any]) -> str:
    assert isinstance(task.train.source, Varied)
    return task.train.source.on


def test_another_device_is_timed_and_gives_the_same_pictures_wherever_they_are_varied() -> None:
    task = task_on("cpu:0")
    found, events = placed(task)
    [told] = [event for event in events if isinstance(event, Decision)]
    assert told.name == "fit.augment_on"
    assert told.value == on(found)
    assert on(found) in ("cpu", "cpu:0")
    assert "a batch of 16 takes" in told.evidence
    batches = {}
    for where in ("cpu", "cpu:0"):
        assert isinstance(task.train.source, Varied)
        source = dataclasses.replace(task.train.source, on=where)
        epoch = dataclasses.replace(task.train, source=source).epoch(16, 1, 0)
        batches[where] = torch.cat([inputs for inputs, _ in epoch])
    assert torch.equal(batches["cpu"], batches["cpu:0"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_a_device_that_cannot_vary_pictures_leaves_it_to_the_processor() -> None:
    found, events = placed(task_on("cuda"))
    assert on(found) == "cpu"
    [told] = [event for event in events if isinstance(event, Decision)]
    assert told.evidence.startswith("cuda cannot vary pictures (")


def test_nothing_is_asked_where_there_is_no_choice() -> None:
    for task in (task_on("cpu"), task_on("cuda", size=2)):
        found, events = placed(task)
        assert on(found) == "cpu"
        assert not [event for event in events if isinstance(event, Decision)]
