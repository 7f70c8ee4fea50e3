"""The loop: forward, backward, step; an average of the weights; the best of them kept. It knows events, no more."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.errors import InterruptedRunError, TellapartError
from tellapart.events import Decision, Epoch, Progress, Steps
from tellapart.judge.calibrate import fit_temperature
from tellapart.learn.schedule import Horizon, learning_rate
from tellapart.learn.torch_batches import Augment, Samples, augmented, epoch_batches
from tellapart.learn.torch_muon import Muon

__all__ = ["Choices", "Learned", "fit", "logits_of"]

_FALLS = 2  # how often a fit may fall back to its best weights before it is given up
_EVALUATE = 256  # pictures at a time
_CHECKS = 20  # how often in a fit the horizon is held against the clock
_CHECK_SECONDS = 0.5  # and not more often than that


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """All that shapes a fit besides network, optimizer and pictures. Everything is a value: there are no switches.

    `average` in [0, 1) weighs the past in the running mean of the weights (0: none); `clip` bounds the norm of the
    gradient (infinity: none); `dtype` is what the network computes in, float32 or bfloat16; `patience` is the share of
    the horizon that may pass without a better validation loss (1: all of it). The horizon is moved, up to `max_steps`,
    so that the rate is back at zero when the time is up; and once `enough`, a share, of an epoch's pictures were told
    right, so that half as many steps again are the last (above 1: never).
    """

    seed: int
    batch_size: int
    augment: Augment
    max_steps: int
    label_smoothing: float = 0.1
    warmup: float = 0.15
    average: float = 0.99
    clip: float = math.inf
    dtype: torch.dtype = torch.float32
    patience: float = 0.35
    enough: float = 0.99


@dataclasses.dataclass(frozen=True)
class Learned:
    """The best weights (`state`), the epochs run, and the steps that led to the best.

    `ended` is why it ended: `done`, `early_stop`, `time` or `interrupted`.
    """

    state: dict[str, Tensor]
    epochs: tuple[Epoch, ...]
    best_step: int
    ended: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Validation:
    """`tempered` is the loss at the temperature that suits best: confidence is set right later, and must not choose."""

    loss: float
    accuracy: float
    tempered: float


def fit(
    network: nn.Module,
    optimizer: Muon,
    train: Samples,
    val: Samples,
    horizon: Horizon,
    choices: Choices,
    fill: Tensor,
    left: Callable[[], float],
    stage: str = "fit",
) -> Steps[Learned]:
    """Train `network` (uint8 [n, S, S, C] -> logits) along `horizon`, until its end or until `left()` is not positive.

    The rates of `optimizer` are the highest; each step takes a share of them. After each epoch the averaged weights are
    validated; the best by validation loss (at the temperature that suits them, since what ships is calibrated) are
    returned, the last where `val` is empty. A loss that is not finite takes
    the fit back to its best weights at a third of the rate. `fill` uint8 [C] is the mean colour. Yields Progress at
    each step, Epoch, Decision. InterruptedRunError ends the fit once there are weights worth having; before, it
    passes. Raises TellapartError (`diverged`) when the loss stays not finite.
    """
    average = copy.deepcopy(network).eval()
    best = Learned(_copied(network), (), 0, "")
    best_loss, falls, step, most, ended = math.inf, 0, 0, choices.max_steps, ""
    epochs: list[Epoch] = []
    pace = deque([(left(), 0)], maxlen=5)
    try:
        while not ended:
            began, lr, losses, hits, seen = time.perf_counter(), 0.0, 0.0, 0, 0
            parts = epoch_batches(train, choices.batch_size, choices.seed, len(epochs) + falls)
            network.train()
            for part, pixels in zip(parts, train.pixels.batches(parts), strict=True):
                x = augmented(pixels, train.keys[part], choices.seed, len(epochs) + falls, choices.augment, fill)
                y = torch.from_numpy(train.targets[part])
                with torch.autocast("cpu", torch.bfloat16, enabled=choices.dtype == torch.bfloat16):
                    logits = network(x).float()
                loss = functional.cross_entropy(logits, y, label_smoothing=choices.label_smoothing)
                losses += float(functional.cross_entropy(logits.detach(), y, reduction="sum"))
                if not math.isfinite(losses):
                    break
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), choices.clip)
                lr = learning_rate(horizon.progress(step), choices.warmup) / 3**falls
                optimizer.step(lr)
                step += 1
                _blend(average, network, min(choices.average, step / (step + 10)))
                hits, seen = hits + int((logits.argmax(1) == y).sum()), seen + len(part)
                yield Progress(stage, step, horizon.total, "steps")
                seconds_left = left()
                if pace[-1][0] - seconds_left > max(_CHECK_SECONDS, seconds_left / _CHECKS):
                    pace.append((seconds_left, step))
                    horizon = yield from _held_to_the_clock(horizon, pace, most, stage)
                ended = "done" if step >= horizon.total else "time" if seconds_left <= 0 else ""
                if ended:
                    break

            found = yield from _validated(average, val, choices.dtype, stage)
            if not math.isfinite(losses) or (found and not math.isfinite(found.loss)):
                falls += 1
                if falls > _FALLS:
                    why = f"not finite {falls} times over; the best weights, of step {best.best_step}, are kept"
                    yield Decision(f"{stage}.ended", "diverged", f"the loss at step {step} was {why}")
                    break
                network.load_state_dict(best.state)
                average.load_state_dict(best.state)
                optimizer.forget()
                yield Decision(f"{stage}.lr_factor", 3.0**-falls, f"the loss at step {step} was not finite")
                continue
            seconds = time.perf_counter() - began
            val_loss, val_accuracy = (found.loss, found.accuracy) if found else (None, None)
            epochs.append(Epoch(len(epochs), step, lr, losses / seen, hits / seen, val_loss, val_accuracy, seconds))
            yield epochs[-1]
            if found is None or found.tempered < best_loss:
                best, best_loss = Learned(_copied(average), (), step, ""), found.tempered if found else math.inf
            elif not ended and horizon.progress(step) - horizon.progress(best.best_step) > choices.patience:
                ended = "early_stop"
            if hits >= choices.enough * seen and horizon.total > step + step // 2 + 1:
                most = step + step // 2 + 1
                horizon = horizon.moved(step, most)
                why = f"{hits / seen:.1%} of the training pictures of epoch {len(epochs)} were told right"
                yield Decision(f"{stage}.steps", horizon.total, why)
    except InterruptedRunError:
        if not best.best_step:
            raise
        ended = "interrupted"
    if not best.best_step:
        raise TellapartError("diverged", f"The loss was not finite {falls} times over.", "Report this as a bug.")
    return dataclasses.replace(best, epochs=tuple(epochs), ended=ended or "diverged")


def logits_of(network: nn.Module, samples: Samples, dtype: torch.dtype, stage: str) -> Steps[Tensor]:
    """Return float32 [n, K] for the pictures as they are, in their order. `network` is left in evaluation mode."""
    network.eval()
    logits: list[Tensor] = []
    for pixels, _ in samples.in_order(_EVALUATE):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits.append(network(pixels).float())
        yield Progress(stage, min(len(logits) * _EVALUATE, len(samples)), len(samples))
    return torch.cat(logits)


def _validated(network: nn.Module, val: Samples, dtype: torch.dtype, stage: str) -> Steps[_Validation | None]:
    if not len(val):
        return None
    logits = yield from logits_of(network, val, dtype, f"{stage}.validate")
    targets = torch.from_numpy(val.targets[val.rows])
    loss = float(functional.cross_entropy(logits, targets))
    accuracy = float((logits.argmax(1) == targets).float().mean())
    if not math.isfinite(loss):
        return _Validation(loss, accuracy, loss)
    temperature = fit_temperature(logits.double().numpy(), targets.numpy())
    return _Validation(loss, accuracy, float(functional.cross_entropy(logits / temperature, targets)))


def _held_to_the_clock(horizon: Horizon, pace: deque[tuple[float, int]], most: int, stage: str) -> Steps[Horizon]:
    """Return a horizon that ends when the time does, but for a tenth of the rest; `pace` holds (seconds left, step)."""
    (then, before), (seconds, step) = pace[0], pace[-1]
    rate = (step - before) / (then - seconds)
    total = min(most, step + max(1, int(rate * seconds)))
    if abs(total - horizon.total) <= 0.02 * horizon.total + 0.1 * (horizon.total - step):
        return horizon
    yield Decision(f"{stage}.steps", total, f"{rate:.1f} steps a second and {seconds:.0f} s left, at step {step}")
    return horizon.moved(step, total)


@torch.no_grad()
def _blend(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move `average` towards `network`, buffers too: `keep` weighs what it is."""
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1.0 - keep)
        else:
            mean.copy_(now)


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
