"""A batch on several cores: each takes a part of it through a network of its own that shares the weights.

One operation on two cores waits for both at its end, some hundred times a step; a part of the batch on each waits once.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["Draws", "Shards", "side_by_side"]

T = TypeVar("T")
U = TypeVar("U")


class Draws(TorchFunctionMode):
    """While it is entered, what networks draw in this thread (dropout, stochastic depth) comes from `generator`."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.dropout:
            return self._dropout(*args, **kwargs)
        if func is Tensor.bernoulli_:
            kwargs = {**kwargs, "generator": self._generator}
        return func(*args, **kwargs)

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0.0:
            return x
        return x * x.new_empty(x.shape).bernoulli_(1.0 - p, generator=self._generator).div_(1.0 - p)


class Shards:
    """A network and copies of it that share its weights, `count` of them, each with gradients and buffers of its own.

    Batch norm normalises by the part of the batch that a copy sees; afterwards the statistics of all are averaged.
    What is computed hangs on `count`, never on how threads are scheduled. The network itself is the first of them.
    """

    def __init__(self, network: nn.Module, count: int = 1) -> None:
        self.network, self.count = network, count
        self._parts = [network, *(_sharing(network) for _ in range(count - 1))]
        self._params = [[p for p in part.parameters() if p.requires_grad] for part in self._parts]
        self._buffers = [list(part.buffers()) for part in self._parts]
        threads = torch.get_num_threads()
        self._pool = (
            ThreadPoolExecutor(count - 1, "shard", initializer=torch.set_num_threads, initargs=(threads,))
            if count > 1
            else None
        )

    def each(self, work: Callable[[nn.Module, int], T]) -> list[T]:
        """Return what `work(network, number)` gives for each; gradients and buffers are then those of all together."""
        if self._pool is None:
            return [work(self.network, 0)]
        for part, buffers, params in zip(self._parts[1:], self._buffers[1:], self._params[1:], strict=True):
            part.train(self.network.training)
            for mine, its in zip(buffers, self._buffers[0], strict=True):
                mine.copy_(its)
            for p in params:
                p.grad = None
        later = [self._pool.submit(work, part, number) for number, part in enumerate(self._parts) if number]
        try:
            first = work(self.network, 0)
        finally:
            wait(later)  # for all, before one that failed is heard: none works on when the step is taken again
        found = [one.result() for one in later]
        self._gather()
        return [first, *found]

    @torch.no_grad()
    def _gather(self) -> None:
        for p, *others in zip(*self._params, strict=True):
            for other in others:
                if other.grad is not None:
                    p.grad = other.grad if p.grad is None else p.grad.add_(other.grad)
        for mine, *others in zip(*self._buffers, strict=True):
            if mine.dtype.is_floating_point:  # by differences: where all are the same (frozen), no bit is moved
                apart = (torch.where(other == mine, 0.0, other - mine) for other in others)
                mine.add_(sum(apart, torch.zeros_like(mine)).div_(self.count))


def side_by_side(work: Callable[[T], U], items: Iterable[T], count: int) -> Iterator[U]:
    """Yield `work(item)` for each item, in order, `count` at a time, each on as many threads as torch now has here."""
    if count == 1:
        yield from map(work, items)
        return
    threads, ahead = torch.get_num_threads(), deque[Future[U]]()
    with ThreadPoolExecutor(count, "shard", initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _sharing(network: nn.Module) -> nn.Module:
    made = copy.deepcopy(network)
    for mine, its in zip(made.parameters(), network.parameters(), strict=True):
        mine.data = its.data
    return made
