"""What a network says of pictures as they are, and how well."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.events import Progress, Steps
from tellapart.judge.calibrate import fit_temperature
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_devices import let_go
from tellapart.learn.torch_shards import side_by_side
from tellapart.learn.torch_step import Choices, computing
from tellapart.memory import out_of_memory

__all__ = ["Validation", "logits_of", "validated"]

_EVALUATE = 256  # pictures at a time


@dataclasses.dataclass(frozen=True, slots=True)
class Validation:
    """`tempered` is the loss at the temperature that suits best: confidence is set right later, and must not choose."""

    loss: float
    accuracy: float
    tempered: float


def logits_of(network: nn.Module, samples: Samples, choices: Choices, stage: str) -> Steps[Tensor]:
    """Return float32 [n, K] for the pictures as they are, in their order. `network` is left in evaluation mode.

    As many batches at once as a training step has parts side by side; the bits do not depend on how many.
    """
    network.eval()
    logits: list[Tensor] = []

    def answered(batch: tuple[Tensor, Tensor]) -> Tensor:
        return _answers(network, batch[0], choices).cpu()

    for found in side_by_side(answered, samples.in_order(_EVALUATE), choices.shards):
        logits.append(found)
        yield Progress(stage, min(len(logits) * _EVALUATE, len(samples)), len(samples))
    return torch.cat(logits)


def _answers(network: nn.Module, inputs: Tensor, choices: Choices) -> Tensor:
    """Return the logits of some pictures, computed half of them at a time where memory does not suffice."""
    try:
        with torch.inference_mode(), computing(choices):
            found: Tensor = network(inputs.to(choices.device)).float()
            return found
    except (RuntimeError, MemoryError) as error:
        if len(inputs) < 2 or out_of_memory(error, "") is None:
            raise
    let_go(choices.device)
    return torch.cat([_answers(network, half, choices) for half in torch.tensor_split(inputs, 2)])


def validated(network: nn.Module, val: Samples, choices: Choices, stage: str) -> Steps[Validation | None]:
    """Return what the pictures of `val` say of a network, or None where there are none."""
    if not len(val):
        return None
    logits = yield from logits_of(network, val, choices, f"{stage}.validate")
    targets = torch.from_numpy(val.targets[val.rows])
    weights = choices.class_weights if choices.val_weights is None else choices.val_weights
    weights = None if weights is None else weights.cpu()
    loss = float(functional.cross_entropy(logits, targets))
    accuracy = float((logits.argmax(1) == targets).float().mean())
    if not math.isfinite(loss):
        return Validation(loss, accuracy, loss)
    temperature = fit_temperature(logits.double().numpy(), targets.numpy())
    return Validation(loss, accuracy, float(functional.cross_entropy(logits / temperature, targets, weights)))
