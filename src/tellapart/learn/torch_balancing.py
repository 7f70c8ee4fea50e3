"""How a network is made to count uneven classes alike: in its loss, or in the pictures that it is shown."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from tellapart.learn.balancing import class_weights_of, log_priors_of
from tellapart.learn.rungs import IntArray
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_step import Choices

__all__ = ["balanced"]


def balanced(
    choices: Choices, train: Samples, kind: str, targets: IntArray, num_classes: int
) -> tuple[Choices, Samples]:
    """Return choices and training samples for `none`, `weights`, `sampler` or `logit`.

    `targets` int64 [n] are those of all training pictures. Whatever the way, validation weighs classes alike then.
    """
    if kind == "none":
        return choices, train
    weights = torch.from_numpy(class_weights_of(targets, num_classes).astype(np.float32))
    choices = dataclasses.replace(choices, val_weights=weights)
    if kind == "sampler":
        return choices, dataclasses.replace(train, evenly=True)
    if kind == "logit":
        return dataclasses.replace(choices, log_priors=torch.from_numpy(log_priors_of(targets, num_classes))), train
    return dataclasses.replace(choices, class_weights=weights), train
