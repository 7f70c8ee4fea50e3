"""The optimizer: gradients of convolutions are made orthogonal before they are applied, the rest is Nesterov's.

Muon, by Keller Jordan and others (https://kellerjordan.github.io/posts/muon/, 2024), in the form of his `airbench`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["Muon"]

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # a quintic that pushes singular values towards one, fast rather than exact
_ROUNDS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class _Group:
    params: tuple[nn.Parameter, ...]
    peak: float
    momentum: float
    decay: float


class Muon:
    """Steps a network's trained parameters: filters (3 axes or more), matrices, and vectors (norms and biases).

    Filters keep a fixed norm, and each step turns them by an orthogonal matrix times the rate; weight decay would do
    nothing to them. Matrices and vectors follow Nesterov's momentum, matrices alone with `weight_decay`.
    A class of its own, since making any `torch.optim.Optimizer` loads torch's compiler, for six seconds.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        filter_lr: float = 0.24,
        lr: float = 0.1,
        filter_momentum: float = 0.6,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> None:
        """Take the highest rates: `filter_lr` and `lr`; `step` is told which share of them to use."""
        trained = [p for p in network.parameters() if p.requires_grad]
        self._groups = (
            _Group(tuple(p for p in trained if p.ndim > 2), filter_lr, filter_momentum, 0.0),
            _Group(tuple(p for p in trained if p.ndim == 2), lr, momentum, weight_decay),
            _Group(tuple(p for p in trained if p.ndim < 2), lr, momentum, 0.0),
        )
        self._past: dict[nn.Parameter, Tensor] = {}

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for group in self._groups:
            for p in group.params:
                p.grad = None

    def state_dict(self) -> dict[str, Tensor]:
        """Return the momentum of each parameter that has some, by its place."""
        places = [p for group in self._groups for p in group.params]
        return {str(place): self._past[p] for place, p in enumerate(places) if p in self._past}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` returned."""
        places = [p for group in self._groups for p in group.params]
        self._past = {places[int(at)]: value.to(places[int(at)].device, copy=True) for at, value in state.items()}

    def forget(self) -> None:
        """Drop all momentum."""
        self._past.clear()

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply the gradients at `rate` times the highest rates; parameters without a gradient stay as they are."""
        for group in self._groups:
            for p in group.params:
                if p.grad is None:
                    continue
                gradient = p.grad.add(p, alpha=group.decay)
                past = self._past.setdefault(p, torch.zeros_like(p))
                past.mul_(group.momentum).add_(gradient)
                update = gradient.add_(past, alpha=group.momentum)
                if p.ndim > 2:
                    p.mul_(len(p) ** 0.5 / (p.norm() + 1e-7))
                    update = _orthogonal(update.flatten(1)).view_as(p)
                p.add_(update, alpha=-rate * group.peak)


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix whose rows (or columns, if they are fewer) are orthonormal, by Newton-Schulz."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
