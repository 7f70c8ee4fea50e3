"""The network that is tuned: the stages above a cut and a head, with batch norm as asked for."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from tellapart.errors import RecipeError
from tellapart.learn.cuts import EMBEDDING
from tellapart.learn.torch_export import Trunk
from tellapart.learn.torch_heads import GeneralisedMean
from tellapart.learn.torch_norms import NORMS
from tellapart.learn.torch_optimizers import AdamW, Group
from tellapart.learn.torch_stages import above, units
from tellapart.memory import out_of_memory

__all__ = ["BnPolicy", "Tuned", "blended", "check_pooling", "joined", "optimizer_for"]

BnPolicy = Literal["frozen", "eval_stats", "train"]

_LAYER_DECAY, _WEIGHT_DECAY = 0.8, 0.05


class Tuned(nn.Module):
    """What goes into the unit `cut` (pictures uint8 [N, S, S, 3] where that is None) to logits float [N, K].

    `bn` says what batch norm does above the cut: `frozen` keeps statistics and affine as they are, `eval_stats` the
    statistics alone, `train` normalises by each batch and keeps a running mean.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk, cut: str | None, head: nn.Module, bn: BnPolicy, gem: bool = False) -> None:
        super().__init__()
        self.cut, self.bn = cut, bn
        self.layout = torch.channels_last  # of maps in memory
        self.names = [unit.name for unit in units(trunk.model)]  # of the units, from the input on
        self.model = nn.Identity() if cut == EMBEDDING else above(trunk.model, cut)
        if gem:
            self.model.global_pool = GeneralisedMean()
        self.register_buffer("mean", trunk.mean.clone())
        self.register_buffer("std", trunk.std.clone())
        self.head = head
        if bn == "frozen":
            for norm in self._norms():
                norm.requires_grad_(False)
        self.train()

    def _norms(self) -> Iterator[nn.Module]:
        return (module for module in self.modules() if isinstance(module, NORMS))

    def train(self, mode: bool = True) -> Tuned:
        """Switch to training; batch norm whose statistics stay is left in inference mode."""
        super().train(mode)
        if self.bn != "train":
            for norm in self._norms():
                norm.eval()
        return self

    def embedding(self, x: Tensor) -> Tensor:
        """Return [N, D]."""
        if self.cut == EMBEDDING:
            return x
        if self.cut is None:
            x = (x.permute(0, 3, 1, 2).float() - self.mean) / self.std
        if x.ndim == 4:
            x = x.contiguous(memory_format=self.layout)
        features = self.model.forward_features(x)  # type: ignore[operator]
        found: Tensor = self.model.forward_head(features, pre_logits=True).flatten(1)  # type: ignore[operator]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, K]."""
        logits: Tensor = self.head(self.embedding(x))
        return logits


@torch.no_grad()
def check_pooling(trunk: Trunk, image_size: int, backbone: str) -> None:
    """See on one picture that a generalised mean put into `trunk` makes its embedding, as another power makes another.

    Some networks pool in another place, where what is put in is never called, and some take no module there. Raises
    RecipeError (`no_pooling`) for these; `backbone` is the name that it says.
    """
    image = torch.arange(3 * image_size**2, dtype=torch.int64).remainder(251).to(torch.uint8).view(1, image_size, -1, 3)
    network = Tuned(trunk, None, nn.Identity(), "frozen", gem=True).eval()
    try:
        one = network(image)
        network.model.global_pool.power.fill_(3.0)  # type: ignore[union-attr, operator]
        pools = one.shape == trunk(image)[0].shape and not torch.equal(one, network(image))
    except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        if out_of_memory(error, "--pooling gem") is not None:
            raise
        pools = False
    if not pools:
        raise RecipeError(
            "no_pooling",
            f"--pooling got 'gem', and {backbone} has no average that a generalised mean can take the place of: "
            "allowed for it is avg.",
            "Leave --pooling out, or choose another --backbone.",
        )


def optimizer_for(network: Tuned, lr: float) -> AdamW:
    """Return AdamW with the rate `lr` for the head and the last stage, less from stage to stage towards the input.

    Weights of two axes or more decay; norms, biases (tables of them too), scales and position embeddings do not, nor
    what the backbone itself exempts.
    """
    groups: list[Group] = []
    asked = getattr(network.model, "no_weight_decay", None)
    exempt = {f"model.{name}" for name in asked()} if callable(asked) else set()
    decaying = {
        id(p)
        for name, p in network.named_parameters()
        if name.endswith("weight") and sum(length > 1 for length in p.shape) > 1 and name not in exempt
    }

    def add(params: Iterable[nn.Parameter], peak: float) -> None:
        trained = [p for p in params if p.requires_grad]
        groups.append(Group(tuple(p for p in trained if id(p) in decaying), peak, _WEIGHT_DECAY))
        groups.append(Group(tuple(p for p in trained if id(p) not in decaying), peak, 0.0))

    add(network.head.parameters(), lr)
    names = [] if network.cut == EMBEDDING else network.names
    parts = [list(network.model.get_submodule(name).parameters()) for name in names]
    parts = [part for part in parts if part]
    taken = {id(p) for part in parts for p in part}
    parts.insert(0, [p for p in network.model.parameters() if id(p) not in taken])  # such as position embeddings
    for depth, part in enumerate(reversed(parts)):
        add(part, lr * _LAYER_DECAY**depth)
    return AdamW(groups)


@torch.no_grad()
def blended(network: nn.Module, start: dict[str, Tensor], end: dict[str, Tensor], share: float) -> None:
    """Give the network weights that lie `share` of the way from `start` to `end`, buffers too.

    Wortsman and others, "Robust fine-tuning of zero-shot models" (arXiv 2109.01903).
    """
    mixed = {
        name: torch.lerp(start[name].to(value.device), value, share) if value.dtype.is_floating_point else value
        for name, value in end.items()
    }
    network.load_state_dict(mixed)


def joined(trunk: Trunk, network: Tuned) -> Trunk:
    """Return a copy of the trunk with the tuned stages in their places, in evaluation mode."""
    whole = copy.deepcopy(trunk)
    if network.cut == EMBEDDING:
        return whole
    tuned = copy.deepcopy(network.model)
    if network.cut is None:
        whole.model = tuned
        return whole.eval()
    for path in network.names[network.names.index(network.cut) :]:
        parent, _, name = path.rpartition(".")
        setattr(whole.model.get_submodule(parent), name, tuned.get_submodule(path))
    return whole.eval()
