"""What the loop asks of an optimizer, and AdamW with a rate of its own for each group of weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["AdamW", "Group", "Optimizer"]


class Optimizer(Protocol):
    """Steps the weights that it was made for. A class of our own, since `torch.optim` loads torch's compiler."""

    def zero_grad(self) -> None:
        """Drop all gradients."""
        ...

    def step(self, rate: float) -> None:
        """Apply the gradients at `rate` times the highest rates."""
        ...

    def forget(self) -> None:
        """Drop what was remembered of earlier gradients."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return what was remembered, as tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Weights with the highest rate `peak` and the weight `decay`, which is taken in shares of the rate."""

    params: tuple[nn.Parameter, ...]
    peak: float
    decay: float


class AdamW:
    """Loshchilov and Hutter, "Decoupled weight decay regularization" (arXiv 1711.05101), all of a group at a time."""

    def __init__(self, groups: Sequence[Group], betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self._groups = [dataclasses.replace(group, params=tuple(group.params)) for group in groups if group.params]
        self._betas, self._eps = betas, eps
        self.forget()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self._groups:
            for p in group.params:
                p.grad = None

    def forget(self) -> None:
        """Drop both moments."""
        self._steps = 0
        self._first = [[torch.zeros_like(p) for p in group.params] for group in self._groups]
        self._second = [[torch.zeros_like(p) for p in group.params] for group in self._groups]

    def state_dict(self) -> dict[str, Tensor]:
        """Return both moments of each parameter, by its place, and the number of steps."""
        found = {"steps": torch.tensor(self._steps)}
        for name, moments in (("first", self._first), ("second", self._second)):
            for group, values in enumerate(moments):
                found.update({f"{name}.{group}.{place}": value for place, value in enumerate(values)})
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned."""
        self._steps = int(state["steps"])
        for name, moments in (("first", self._first), ("second", self._second)):
            for group, values in enumerate(moments):
                for place, value in enumerate(values):
                    value.copy_(state[f"{name}.{group}.{place}"])

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply the gradients at `rate` times the highest rates; every weight has to have one."""
        self._steps += 1
        (b1, b2), n = self._betas, self._steps
        for group, first, second in zip(self._groups, self._first, self._second, strict=True):
            params: list[Tensor] = list(group.params)
            lr = rate * group.peak
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
            torch._foreach_lerp_(first, gradients, 1.0 - b1)
            torch._foreach_mul_(second, b2)
            torch._foreach_addcmul_(second, gradients, gradients, 1.0 - b2)
            scale = torch._foreach_sqrt(second)
            torch._foreach_div_(scale, math.sqrt(1.0 - b2**n))
            torch._foreach_add_(scale, self._eps)
            if group.decay:
                torch._foreach_mul_(params, 1.0 - lr * group.decay)
            torch._foreach_addcdiv_(params, first, scale, -lr / (1.0 - b1**n))
