"""A backbone cut in two: what is below a cut stays as it is and runs once a picture, what is above is trained."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from tellapart.learn.torch_export import Trunk, stripped, traced

__all__ = ["Below", "Unit", "above", "blocks", "exported_below", "is_sound", "units"]


@dataclasses.dataclass(frozen=True, slots=True)
class Unit:
    """A part of a backbone that runs after the one before it; `name` is its path in the network."""

    name: str
    module: nn.Module


def units(model: nn.Module) -> list[Unit]:
    """Return the parts of a timm network from input to output: its children, sequences of blocks taken apart."""
    found: list[Unit] = []
    for name, child in model.named_children():
        inner = list(child.named_children()) if isinstance(child, nn.Sequential | nn.ModuleList) else []
        if len(inner) > 1 and all(list(part.children()) for _, part in inner):
            found += [Unit(f"{name}.{place}", part) for place, part in inner]
        else:
            found.append(Unit(name, child))
    return found


def blocks(model: nn.Module) -> list[str]:
    """Return the names of the units, from input to output, that have filters or matrices, not norms alone."""
    return [unit.name for unit in units(model) if any(p.ndim > 1 for p in unit.module.parameters())]


class Below(nn.Module):
    """Pictures uint8 [N, S, S, 3] to what goes into the unit `cut`, float32 [N, ...]: the network stops there."""

    def __init__(self, trunk: Trunk, cut: str) -> None:
        super().__init__()
        self.trunk, self.cut = trunk, cut

    def forward(self, image: Tensor) -> Tensor:
        """Return the activations."""
        module = self.trunk.model.get_submodule(self.cut)

        def stop(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            raise _ReachedError(inputs[0])

        hook = module.register_forward_pre_hook(stop)
        try:
            self.trunk(image)
        except _ReachedError as reached:
            return reached.activations
        finally:
            hook.remove()
        raise ValueError(f"{self.cut} takes no part")


class _ReachedError(Exception):
    def __init__(self, activations: Tensor) -> None:
        super().__init__()
        self.activations = activations


def above(model: nn.Module, cut: str | None) -> nn.Module:
    """Return a copy of a timm network that takes what goes into the unit `cut` for a picture; all of it for None.

    Whether the copy does what the network does above the cut is for `is_sound` to find out.
    """
    top = copy.deepcopy(model)
    if cut is None:
        return top
    for unit in units(top):
        if unit.name == cut:
            break
        parent, _, name = unit.name.rpartition(".")
        setattr(top.get_submodule(parent), name, nn.Identity())
    if hasattr(top, "_pos_embed"):  # what networks of tokens add between units is in the activations already
        top._pos_embed = _as_it_is  # type: ignore[assignment]
    return top


def exported_below(trunk: Trunk, cut: str, image_size: int) -> bytes:
    """Return the ONNX graph of `Below`: `image` uint8 [N, S, S, 3] to `activations` float32 [N, ...]."""
    return stripped(traced(Below(trunk, cut).eval(), image_size, ["activations"]))


def _as_it_is(x: Tensor) -> Tensor:
    return x


@torch.inference_mode()
def is_sound(trunk: Trunk, cut: str, image_size: int) -> bool:
    """Return whether cutting at a unit changes no bit of the embedding of a picture."""
    image = torch.arange(3 * image_size**2, dtype=torch.int64).remainder(251).to(torch.uint8).view(1, image_size, -1, 3)
    expected = trunk(image)[0]
    try:
        top = above(trunk.model, cut).eval()
        features = top.forward_features(Below(trunk, cut)(image))  # type: ignore[operator]
        given = top.forward_head(features, pre_logits=True).flatten(1)  # type: ignore[operator]
    except (ValueError, RuntimeError, TypeError, AttributeError, IndexError):
        return False
    return bool(given.shape == expected.shape and torch.equal(given, expected))
