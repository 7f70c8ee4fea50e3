"""Averaged weights get statistics of their own, unless validation says that those averaged are better."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tellapart.events import Decision
from tellapart.learn.draws import picture_keys
from tellapart.learn.torch_batches import Held, Samples, Varied
from tellapart.learn.torch_last import statistics_anew
from tellapart.learn.torch_loop import copied
from tellapart.learn.torch_norms import reestimated_on
from tellapart.learn.torch_task import Task
from tests.learn.tasks import task_of


class Normed(nn.Module):
    """The brightest of three colours, each of which is normed by what is known of it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, pixels: Tensor) -> Tensor:
        maps = pixels.permute(0, 3, 1, 2).float() / 255.0
        logits: Tensor = 4.0 * self.norm(maps).mean((2, 3))
        return logits


def samples(count: int, seed: int, tint: int = 0) -> Samples:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, count)
    pixels = rng.integers(0, 100, (count, 4, 4, 3))
    pixels[np.arange(count), :, :, targets] += 30
    pixels[..., 0] += tint * (targets == 1)[:, None, None]
    keys = picture_keys([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels])
    return Samples(Varied(Held(torch.from_numpy(pixels.astype(np.uint8)))), targets, keys, np.arange(count))


def decided(task: Task[Normed], network: Normed) -> Decision:
    (decision,) = [event for event in statistics_anew(task, network) if isinstance(event, Decision)]
    assert not network.training
    return decision


def normed(means: Tensor, variances: Tensor) -> Normed:
    network = Normed()
    network.norm.running_mean, network.norm.running_var = means, variances
    return network


def statistics(train: Samples) -> tuple[Tensor, Tensor]:
    """Return the means and variances of colours, over all pictures; those of batches are nearly the same."""
    maps = torch.cat([pixels for pixels, _ in train.in_order(64)]).float() / 255.0
    return maps.mean((0, 1, 2)), maps.var((0, 1, 2))


def test_statistics_that_tell_colours_apart_worse_are_replaced_by_those_of_training_pictures() -> None:
    train = samples(64, 0)
    network = normed(torch.tensor([0.1, 0.9, 0.1]), torch.ones(3))
    decision = decided(task_of(train, samples(60, 1), Normed), network)
    assert decision.value == "anew"
    assert "validation loss" in decision.evidence
    means, variances = statistics(train)
    assert network.norm.running_mean is not None
    assert network.norm.running_var is not None
    assert torch.allclose(network.norm.running_mean, means, atol=1e-5)
    assert torch.allclose(network.norm.running_var, variances, rtol=0.05)
    assert network.norm.momentum == 0.1


def test_statistics_that_are_better_on_validation_stay() -> None:
    """Training pictures of one class are tinted, those of validation are not: what they say of a colour misleads."""
    train, val = samples(64, 0, tint=120), samples(60, 1)
    network = normed(*statistics(val))
    before = copied(network)
    assert decided(task_of(train, val, Normed), network).value == "averaged"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_without_validation_they_are_taken_anew() -> None:
    train = samples(64, 0)
    network = normed(torch.tensor([0.1, 0.9, 0.1]), torch.ones(3))
    decision = decided(task_of(train, samples(60, 1).at(np.empty(0, np.int64)), Normed), network)
    assert (decision.value, "no validation" in decision.evidence) == ("anew", True)
    assert network.norm.running_mean is not None
    assert torch.allclose(network.norm.running_mean, statistics(train)[0], atol=1e-5)


def looked_at_by(most: int, micro_batch: int) -> tuple[Normed, list[int]]:
    """Return a network whose statistics are taken anew, and how many pictures it was shown at a time.

    There is memory for `most` at a time.
    """
    network, shown = Normed(), list[int]()

    def see(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > most:
            raise MemoryError
        shown.append(len(inputs[0]))

    network.norm.register_forward_pre_hook(see)
    choices = dataclasses.replace(task_of(samples(64, 0), samples(60, 1), Normed).choices, micro_batch=micro_batch)
    reestimated_on(network, samples(64, 0), choices)
    return network, shown


def test_as_many_pictures_go_through_at_a_time_as_in_a_step() -> None:
    assert looked_at_by(99, 99)[1] == [16] * 4
    assert looked_at_by(99, 4)[1] == [4] * 16
    network, _ = looked_at_by(4, 4)
    means, variances = statistics(samples(64, 0))
    assert network.norm.running_mean is not None
    assert network.norm.running_var is not None
    assert torch.allclose(network.norm.running_mean, means, atol=1e-5)
    assert torch.allclose(network.norm.running_var, variances, rtol=0.1)
    with pytest.raises(MemoryError):
        looked_at_by(5, 99)


def test_where_memory_is_too_little_for_it_the_network_is_as_it_was() -> None:
    train = samples(64, 0)
    network = normed(torch.tensor([0.1, 0.9, 0.1]), torch.ones(3))
    before = copied(network)

    def full(norm: nn.Module, _: object) -> None:
        if norm.training and next(calls) == 1:  # in the midst of it
            raise MemoryError

    calls = itertools.count()
    network.norm.register_forward_pre_hook(full)
    decision = decided(task_of(train, samples(60, 1), Normed), network)
    assert decision.value == "averaged"
    assert "memory" in decision.evidence
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not network.norm.training
    assert network.norm.momentum == 0.1
