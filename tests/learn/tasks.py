"""A task as small as can be, for tests of what surrounds a fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from torch import nn

from tellapart.images import Preprocess
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_muon import Muon
from tellapart.learn.torch_step import Choices
from tellapart.learn.torch_task import Task

N = TypeVar("N", bound=nn.Module)


def task_of(train: Samples, val: Samples, start: Callable[[], N]) -> Task[N]:
    """Return a task of three classes, in batches of 16, without folds and with nothing held out."""
    return Task(
        name="fit",
        train=train,
        val=val,
        folds=np.full(len(train), -1, np.int64),
        held_out=np.empty(0, np.int64),
        num_classes=3,
        start=lambda _: start(),
        optimizer=Muon,
        max_steps=1,
        choices=Choices(seed=0, batch_size=16),
        preprocess=Preprocess(image_size=8),
        threads=1,
    )
