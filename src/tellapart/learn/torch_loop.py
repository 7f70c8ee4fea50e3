"""The loop: forward, backward, step; an average of the weights; the best of them kept. It knows events, no more."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.errors import InterruptedRunError, TellapartError
from tellapart.events import Decision, Epoch, Progress, Recall, Steps
from tellapart.judge.calibrate import fit_temperature
from tellapart.learn.draws import bits
from tellapart.learn.schedule import Decay, Horizon, learning_rate
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_optimizers import Optimizer
from tellapart.learn.torch_shards import Draws, Shards

__all__ = ["Choices", "Learned", "State", "Validation", "copied", "fit", "logits_of", "one_step", "validated"]

_FALLS = 2  # how often a fit may fall back to its best weights before it is given up
_EXPLODED = 4.0  # times the loss of the first batch, or one nat where that is less: what is above has exploded
_EVALUATE = 256  # pictures at a time
_CHECKS = 20  # how often in a fit the horizon is held against the clock
_CHECK_SECONDS = 0.5  # and not more often than that
_NOISE = 200  # what a draw is for: dropout and the like


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """All that shapes a fit besides network, optimizer and pictures. Everything is a value: there are no switches.

    `warmup`, `stable` and `decay` are as `schedule.learning_rate` has them. `average` in [0, 1) weighs the past in the
    running mean of the weights (0: none); `clip` bounds the norm of the gradient (infinity: none); `micro_batch` is how
    many pictures go through the network at a time, the gradients of a batch being added up; `shards` is how many parts
    of a batch go through it side by side (see `Shards`); `dtype` is what the network computes in, float32 or bfloat16,
    on `device`; `class_weights`, float32 [K], weigh the losses; `log_priors`, float32 [K], are added to the logits in
    the loss, so that the network itself holds classes for equally frequent (Menon and others, "Long-tail learning via
    logit adjustment", ICLR 2021); `val_weights`, float32 [K], weigh the losses of validation, which `class_weights` do
    where these are None; `patience` is the share of the horizon that may pass without a better validation loss (1: all
    of it). The horizon is moved, up to its `most` steps, so that the rate is back at zero when the time is up; and once
    `enough`, a share, of an epoch's pictures were told right, so that half as many steps again are the last (above 1:
    never).
    """

    seed: int
    batch_size: int
    label_smoothing: float = 0.1
    warmup: float = 0.15
    stable: float = 0.0
    decay: Decay = "linear"
    average: float = 0.99
    clip: float = math.inf
    micro_batch: int = 1 << 30
    shards: int = 1
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    class_weights: Tensor | None = None
    log_priors: Tensor | None = None
    val_weights: Tensor | None = None
    patience: float = 0.35
    enough: float = 0.99


@dataclasses.dataclass
class State:
    """All that a fit changes. Between two steps it is whole: saved then and put back, the fit goes on to the same bits.

    `most` is how many steps the horizon may have at the most. A loss above `ceiling` has exploded. `batch` batches of
    the present epoch are done, with `loss` (a sum, in nats), `hits` of `seen` pictures and the rate `lr` so far.
    `best` holds the best weights, of `best_step`, with the validation loss `best_loss`; `falls` counts how often the
    fit fell back to them. `told` are the epochs and the decisions of the fit, in order. `ended` says why it ended:
    `done`, `early_stop`, `time`, `interrupted`, `diverged`, or is empty.
    """

    network: nn.Module
    optimizer: Optimizer
    average: nn.Module
    best: dict[str, Tensor]
    horizon: Horizon
    most: int
    step: int = 0
    falls: int = 0
    ceiling: float = math.inf
    batch: int = 0
    loss: float = 0.0
    hits: int = 0
    seen: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    best_step: int = 0
    best_loss: float = math.inf
    epochs: tuple[Epoch, ...] = ()
    told: tuple[Epoch | Decision, ...] = ()
    ended: str = ""

    @classmethod
    def of(cls, network: nn.Module, optimizer: Optimizer, horizon: Horizon, most: int) -> State:
        """Return the state before the first step; `network` itself is what will be trained."""
        return cls(network, optimizer, copy.deepcopy(network).eval(), copied(network), horizon, most)

    def next_epoch(self) -> None:
        """Begin the next epoch's sums."""
        self.batch, self.loss, self.hits, self.seen, self.seconds = 0, 0.0, 0, 0, 0.0


@dataclasses.dataclass(frozen=True)
class Learned:
    """The best weights (`state`), the epochs run, and the steps that led to the best.

    `ended` is why it ended: `done`, `early_stop`, `time`, `interrupted` or `diverged`.
    """

    state: dict[str, Tensor]
    epochs: tuple[Epoch, ...]
    best_step: int
    ended: str


@dataclasses.dataclass(frozen=True, slots=True)
class Validation:
    """`tempered` is the loss at the temperature that suits best: confidence is set right later, and must not choose."""

    loss: float
    accuracy: float
    tempered: float


def fit(
    state: State,
    train: Samples,
    val: Samples,
    choices: Choices,
    left: Callable[[], float],
    stage: str = "fit",
    keep: Callable[[State], None] | None = None,
) -> Steps[Learned]:
    """Train the network of `state` (inputs -> logits) along its horizon, until its end or until `left()` runs out.

    The rates of the optimizer are the highest; each step takes a share of them. After each epoch the averaged weights
    are validated; the best by validation loss (at the temperature that suits them, since what ships is calibrated) are
    returned, the last where `val` is empty. A loss that is not finite, or has exploded, takes the fit back to its best
    weights at a third of the rate. Yields Progress at each step, Epoch, Decision. InterruptedRunError ends the fit once
    there are weights worth having; before, it passes. Raises TellapartError (`diverged`) where that does not help.

    A `state` that has come some way goes on from there, telling first what it told by then. `keep` is called between
    two steps, and may save it. What the clock had decided in an attempt that was cut off is decided again, at its step.
    """
    yield from state.told
    moves = {one.value["at"]: one for one in (yield from _recalled(f"{stage}.horizon"))}
    last_step = next((one.value for one in (yield from _recalled(f"{stage}.time_up"))), None)
    pace = deque([(left(), state.step)], maxlen=5)
    shards = Shards(state.network, choices.shards)
    try:
        while not state.ended:
            began, sound, number = time.perf_counter() - state.seconds, True, len(state.epochs) + state.falls
            state.network.train()
            for inputs, targets in train.epoch(choices.batch_size, choices.seed, number, state.batch):
                rate = learning_rate(
                    state.horizon.progress(state.step), choices.warmup, choices.stable, choices.decay
                ) / (3**state.falls)
                loss, hits = one_step(
                    shards, state.optimizer, inputs, targets, rate, state.step, choices, state.ceiling
                )
                state.loss += loss * len(targets)
                sound = math.isfinite(loss)
                if not sound:
                    break
                if math.isinf(state.ceiling):
                    state.ceiling = _EXPLODED * max(1.0, loss)
                state.step, state.batch, state.lr = state.step + 1, state.batch + 1, rate
                _blend(state.average, state.network, min(choices.average, state.step / (state.step + 10)))
                state.hits, state.seen = state.hits + hits, state.seen + len(targets)
                state.seconds = time.perf_counter() - began
                yield Progress(stage, state.step, state.horizon.total, "steps")
                seconds_left = left()
                if state.step in moves:
                    state.horizon = state.horizon.moved(state.step, moves[state.step].value["total"])
                    yield from _told(state, moves[state.step])
                elif (
                    last_step is None
                    and state.step > max(moves, default=-1)
                    and pace[-1][0] - seconds_left > max(_CHECK_SECONDS, seconds_left / _CHECKS)
                ):
                    pace.append((seconds_left, state.step))
                    yield from _hold_to_the_clock(state, pace, stage)
                up = seconds_left <= 0 if last_step is None else state.step >= last_step
                state.ended = "done" if state.step >= state.horizon.total else "time" if up else ""
                if state.ended:
                    break
                if keep is not None:
                    keep(state)

            found = yield from validated(state.average, val, choices, stage)
            if not sound or (found and not math.isfinite(found.loss)):
                yield from _fall_back(state, stage)
                continue
            yield from _told(state, _epoch_of(state, found, time.perf_counter() - began))
            _keep_the_best(state, found, choices.patience)
            if state.hits >= choices.enough * state.seen:
                yield from _end_early(state, stage)
            state.next_epoch()
        if state.ended == "time":
            why = f"the time was up at this step of {state.horizon.total}"
            yield from _told(state, Decision(f"{stage}.time_up", state.step, why))
    except InterruptedRunError:
        if not state.best_step:
            raise
        state.ended = "interrupted"
    if not state.best_step:
        raise TellapartError("diverged", f"The loss was not finite {state.falls} times over.", "Report this as a bug.")
    return Learned(state.best, state.epochs, state.best_step, state.ended)


def one_step(
    shards: Shards,
    optimizer: Optimizer,
    inputs: Tensor,
    targets: Tensor,
    rate: float,
    step: int,
    choices: Choices,
    ceiling: float = math.inf,
) -> tuple[float, int]:
    """Take one step on a batch; return its mean loss in nats (without smoothing or weights) and the number right.

    `targets` are classes int64 [n] or the share of each, float32 [n, K], of which the largest counts as right.
    The loss comes back infinite, and nothing is stepped, where it is not finite or is above `ceiling`. What the network
    draws (dropout) is a function of (seed, step).
    """
    optimizer.zero_grad()
    pairs = list(zip(*(part.chunk(shards.count) for part in (inputs, targets)), strict=True))
    each = np.arange(1, len(pairs) + 1, dtype=np.uint64)
    draws = [int(value) >> 1 for value in bits(choices.seed, step, each, _NOISE)]

    def through(network: nn.Module, number: int) -> tuple[float, int]:
        loss, hits = 0.0, 0
        if number >= len(pairs):
            return loss, hits
        with Draws(torch.Generator().manual_seed(draws[number])) if shards.count > 1 else contextlib.nullcontext():
            for x, y in zip(*(torch.split(part, choices.micro_batch) for part in pairs[number]), strict=True):
                x, y = x.to(choices.device), y.to(choices.device)
                with torch.autocast(choices.device, torch.bfloat16, enabled=choices.dtype == torch.bfloat16):
                    logits = network(x).float()
                adjusted = logits if choices.log_priors is None else logits + choices.log_priors
                weights, smoothing = choices.class_weights, choices.label_smoothing
                part = functional.cross_entropy(adjusted, y, weights, label_smoothing=smoothing)
                plain = functional.cross_entropy(logits.detach(), y, reduction="sum")
                loss += float(plain) / len(targets)
                if not (math.isfinite(loss) and loss <= ceiling):
                    return math.inf, 0
                (part * (len(y) / len(targets))).backward()  # type: ignore[no-untyped-call]
                hits += int((logits.argmax(1) == (y if y.ndim == 1 else y.argmax(1))).sum())
        return loss, hits

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draws[0])
        found = shards.each(through)
    loss, hits = sum(one for one, _ in found), sum(two for _, two in found)
    if not loss <= ceiling or math.isinf(loss):
        return math.inf, 0
    if math.isfinite(choices.clip):
        nn.utils.clip_grad_norm_(shards.network.parameters(), choices.clip)
    optimizer.step(rate)
    return loss, hits


def logits_of(network: nn.Module, samples: Samples, choices: Choices, stage: str) -> Steps[Tensor]:
    """Return float32 [n, K] for the pictures as they are, in their order. `network` is left in evaluation mode."""
    network.eval()
    logits: list[Tensor] = []
    for inputs, _ in samples.in_order(_EVALUATE):
        with (
            torch.inference_mode(),
            torch.autocast(choices.device, torch.bfloat16, enabled=choices.dtype == torch.bfloat16),
        ):
            logits.append(network(inputs.to(choices.device)).float().cpu())
        yield Progress(stage, min(len(logits) * _EVALUATE, len(samples)), len(samples))
    return torch.cat(logits)


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


def copied(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights and buffers."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _fall_back(state: State, stage: str) -> Steps[None]:
    """Go back to the best weights at a third of the rate, or end where that was done often enough."""
    state.falls += 1
    state.next_epoch()
    if state.falls > _FALLS:
        state.ended = "diverged"
        why = f"not finite {state.falls} times over; the best weights, of step {state.best_step}, are kept"
        yield from _told(state, Decision(f"{stage}.ended", "diverged", f"the loss at step {state.step} was {why}"))
        return
    state.network.load_state_dict(state.best)
    state.average.load_state_dict(state.best)
    state.optimizer.forget()
    why = f"the loss at step {state.step} was not finite"
    yield from _told(state, Decision(f"{stage}.lr_factor", 3.0**-state.falls, why))


def _epoch_of(state: State, found: Validation | None, seconds: float) -> Epoch:
    loss, accuracy = (found.loss, found.accuracy) if found else (None, None)
    shares = state.loss / state.seen, state.hits / state.seen
    epoch = Epoch(len(state.epochs), state.step, state.lr, *shares, loss, accuracy, seconds)
    state.epochs = (*state.epochs, epoch)
    return epoch


def _keep_the_best(state: State, found: Validation | None, patience: float) -> None:
    if found is None or found.tempered < state.best_loss:
        state.best, state.best_step = copied(state.average), state.step
        state.best_loss = found.tempered if found else math.inf
    elif not state.ended:
        waited = state.horizon.progress(state.step) - state.horizon.progress(state.best_step)
        state.ended = "early_stop" if waited > patience else ""


def _end_early(state: State, stage: str) -> Steps[None]:
    """Let half as many steps again be the last, where there is little left to learn."""
    last = state.step + state.step // 2 + 1
    if state.horizon.total > last:
        state.most, state.horizon = last, state.horizon.moved(state.step, last)
        why = f"{state.hits / state.seen:.1%} of the training pictures of epoch {len(state.epochs)} were told right"
        yield from _told(state, Decision(f"{stage}.last_step", last, f"{why}, at step {state.step}"))


def _hold_to_the_clock(state: State, pace: deque[tuple[float, int]], stage: str) -> Steps[None]:
    """Let the horizon end when the time does, but for a tenth of the rest; `pace` holds (seconds left, step)."""
    (then, before), (seconds, step) = pace[0], pace[-1]
    rate, horizon = (step - before) / (then - seconds), state.horizon
    total = min(state.most, step + max(1, int(rate * seconds)))
    if abs(total - horizon.total) > 0.02 * horizon.total + 0.1 * (horizon.total - step):
        state.horizon = horizon.moved(step, total)
        why = f"{rate:.1f} steps a second and {seconds:.0f} s left"
        yield from _told(state, Decision(f"{stage}.horizon", {"at": step, "total": total}, why))


def _told(state: State, event: Epoch | Decision) -> Steps[None]:
    """Yield an event that is told again where the fit goes on from here in another process."""
    state.told = (*state.told, event)
    yield event


def _recalled(name: str) -> Steps[list[Decision]]:
    """Return all that an attempt that was cut off had decided under a name."""
    asked = Recall(name)
    yield asked
    return list(asked.decided)


@torch.no_grad()
def _blend(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move `average` towards `network`, buffers too: `keep` weighs what it is."""
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1.0 - keep)
        else:
            mean.copy_(now)
