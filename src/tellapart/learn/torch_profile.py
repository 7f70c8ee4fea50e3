"""What the stages of a network cost on this machine: one step of training, watched."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tellapart.events import Progress, Steps
from tellapart.learn.cuts import EMBEDDING, Place
from tellapart.learn.torch_devices import synchronize
from tellapart.learn.torch_export import Trunk
from tellapart.learn.torch_shards import Shards
from tellapart.learn.torch_stages import blocks, units
from tellapart.learn.torch_tuned import Tuned

__all__ = ["profiled"]

_PICTURES = 8
_STEPS = 5  # of which the fastest counts: the first warms up, and other programs disturb
_SHARE = 0.1  # of the time that is left, for steps after the second
_HALF_BYTES = 2


def profiled(
    trunk: Trunk, image_size: int, threads: int = 1, device: str = "cpu", seconds_left: float = math.inf
) -> Steps[tuple[list[Place], float]]:
    """Return the places where the network may be cut, from the input on, and the seconds to train on one picture.

    Both on one thread, which other programs disturb least; the seconds are fewer where parts of a batch go faster side
    by side on `threads`. The last place is `EMBEDDING`. A share of the time is that of a forward pass; the backward
    pass has much the same. A tenth of `seconds_left` may be spent on it, beyond what two steps take.
    """
    ends = time.perf_counter() + _SHARE * seconds_left
    places, seconds = yield from _profiled(trunk, image_size, device, ends)
    if threads > 1 and time.perf_counter() < ends:
        seconds = min(seconds, (yield from _side_by_side(trunk, image_size, threads, ends)))
    return places, seconds


def _steps(ends: float) -> Iterator[Progress]:
    """Count steps until there are enough of them, and until `ends` after the first two; one thread for each of them."""
    for step in range(_STEPS):
        if step > 1 and time.perf_counter() > ends:
            return
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield Progress("finetune.profile", step, _STEPS)
        finally:
            torch.set_num_threads(before)


def _side_by_side(trunk: Trunk, image_size: int, threads: int, ends: float) -> Steps[float]:
    """Return the seconds that a picture takes where each thread has as many of them."""
    network = Tuned(trunk, None, nn.Identity(), "train").to(memory_format=torch.channels_last)
    shards = Shards(network, threads)
    image = torch.zeros(_PICTURES, image_size, image_size, 3, dtype=torch.uint8)
    took = []
    for step in _steps(ends):
        began = time.perf_counter()
        shards.each(lambda part, _: part(image).sum().backward())
        took.append((time.perf_counter() - began) / (threads * _PICTURES))
        network.zero_grad()
        yield step
    return min(took)


def _profiled(trunk: Trunk, image_size: int, device: str, ends: float) -> Steps[tuple[list[Place], float]]:
    network = Tuned(trunk, None, nn.Identity(), "train").to(device).to(memory_format=torch.channels_last)
    image = torch.zeros(_PICTURES, image_size, image_size, 3, dtype=torch.uint8, device=device)
    reached: dict[str, tuple[float, int]] = {}

    def watch(name: str) -> Any:
        def see(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], torch.Tensor):
                synchronize(device)
                reached.setdefault(name, (time.perf_counter(), inputs[0][0].numel()))

        return see

    hooks = [unit.module.register_forward_pre_hook(watch(unit.name)) for unit in units(network.model)]
    fastest: tuple[float, float, list[tuple[str, float, int]]] = (float("inf"), 1.0, [])
    try:
        for step in _steps(ends):
            reached.clear()
            began = time.perf_counter()
            embedding = network(image)
            synchronize(device)
            forward = time.perf_counter() - began
            embedding.sum().backward()
            synchronize(device)
            seconds = (time.perf_counter() - began) / _PICTURES
            network.zero_grad()
            seen = [(name, at - began, numbers) for name, (at, numbers) in reached.items()]
            fastest = min(fastest, (seconds, forward, seen), key=lambda found: found[0])
            yield step
    finally:
        for hook in hooks:
            hook.remove()
    seconds, forward, seen = fastest
    places = [Place(None, 0.0, 0)]
    last = next(reversed(blocks(network.model)), None)
    for name, after, numbers in seen:
        places.append(Place(name, after / forward, _HALF_BYTES * numbers))
        if name == last:
            break
    places.append(Place(EMBEDDING, 1.0, _HALF_BYTES * int(embedding.shape[1])))
    return places, seconds
