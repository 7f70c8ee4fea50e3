"""Batch norm's statistics, taken anew from training pictures: an average of weights has others than what it is of."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_step import Choices

__all__ = ["MOST_BATCHES", "NORMS", "reestimated", "reestimated_on"]

NORMS = (nn.modules.batchnorm._BatchNorm,)

MOST_BATCHES = 20


@torch.no_grad()
def reestimated(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of batch norm that is trained to the mean over `batches`; all is in evaluation mode then."""
    network.train()
    norms = [norm for norm in network.modules() if isinstance(norm, NORMS) and norm.training]
    network.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean of all batches
        norm.train()
    try:
        for inputs in batches:
            network(inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.eval()


def reestimated_on(network: nn.Module, samples: Samples, choices: Choices, most: int = MOST_BATCHES) -> None:
    """Do so on at most `most` batches of `samples`, varied as in the first epoch of training, and not mixed.

    As many pictures go through at a time as in a step. Raises MemoryError, or what torch raises for it.
    """
    batches = dataclasses.replace(samples, mix=None).epoch(choices.batch_size, choices.seed, 0)
    reestimated(network, _in_parts(itertools.islice(batches, most), choices.micro_batch, choices.device))


def _in_parts(batches: Iterable[tuple[Tensor, Tensor]], most: int, device: str) -> Iterator[Tensor]:
    for inputs, _ in batches:
        for part in torch.tensor_split(inputs, max(1, -(-len(inputs) // most))):
            yield part.to(device)
