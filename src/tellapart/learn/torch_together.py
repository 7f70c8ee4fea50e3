"""What a network draws and what it norms a batch by, where each of several processes sees a share of the pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from tellapart.learn.torch_parcels import memory_format_of

__all__ = ["Summing", "Together"]


class Summing(Protocol):
    """Processes that add up tensors; `synced` is set once batch norm has asked for that."""

    synced: bool

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        ...


class Together(TorchFunctionMode):
    """While this is entered, functions of torch that look beyond one picture see all `count` pictures of all processes.

    This process has those at `mine`. Dropout and stochastic depth draw for all and use their share, so that a picture's
    draws do not depend on the number of processes; batch norm in training takes mean and variance over all, in float32.
    """

    def __init__(self, world: Summing, mine: slice, count: int) -> None:
        super().__init__()
        self._world, self._mine, self._count = world, mine, count
        self._own = len(range(*mine.indices(count)))

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Stand in for the functions that are meant; pass the others on."""
        if func is functional.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        if func is functional.dropout:
            return self._dropout(*args, **(kwargs or {}))
        if func is Tensor.bernoulli_ and self._is_of_pictures(args[0]):
            return args[0].copy_(self._drawn(args[0], *args[1:], **(kwargs or {})))
        return func(*args, **(kwargs or {}))

    def _is_of_pictures(self, x: Tensor) -> bool:
        return x.ndim > 0 and x.shape[0] == self._own

    def _drawn(self, like: Tensor, p: float, **options: Any) -> Tensor:
        whole = torch.empty((self._count, *like.shape[1:]), dtype=like.dtype, device=like.device)
        return whole.contiguous(memory_format=memory_format_of(like)).bernoulli_(p, **options)[self._mine]

    def _dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0.0 or p == 1.0 or not self._is_of_pictures(x):
            return functional.dropout(x, p, training, inplace)
        return x * self._drawn(x, 1.0 - p).div_(1.0 - p)

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        self._world.synced = True
        axes, shape = [axis for axis in range(x.ndim) if axis != 1], [1, -1, *[1] * (x.ndim - 2)]
        count = self._count * x.shape[2:].numel()
        values = x.float()
        mean = _summed(values.sum(axes), self._world) / count
        centred = values - mean.view(shape)
        var = _summed(centred.square().sum(axes), self._world) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((var * (count / max(1, count - 1))).to(running_var.dtype), momentum)
        scale = torch.rsqrt(var + eps)
        scale = scale if weight is None else scale * weight
        normed = centred * scale.view(shape)
        return (normed if bias is None else normed + bias.view(shape)).to(x.dtype)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, world: Summing) -> Tensor:
        ctx.world = world
        return world.total(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.world.total(gradient), None


def _summed(values: Tensor, world: Summing) -> Tensor:
    found: Tensor = _Sum.apply(values, world)
    return found
