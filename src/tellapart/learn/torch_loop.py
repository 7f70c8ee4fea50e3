"""The loop: forward, backward, step; an average of the weights; the best of them kept. It knows events, no more."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from tellapart.errors import InterruptedRunError, OutOfTimeError, TellapartError
from tellapart.events import Decision, Epoch, Note, Progress, Steps
from tellapart.learn.pace import Pace
from tellapart.learn.recalled import Before, decided_before
from tellapart.learn.schedule import Horizon, learning_rate
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_crew import go_back, led, tell_step
from tellapart.learn.torch_devices import let_go
from tellapart.learn.torch_norms import NORMS
from tellapart.learn.torch_optimizers import Optimizer
from tellapart.learn.torch_shards import Shards
from tellapart.learn.torch_step import Choices, half_as_many, is_sound, one_step
from tellapart.learn.torch_validate import Validation, validated
from tellapart.learn.torch_world import ALONE, World

__all__ = ["Learned", "State", "copied", "fit"]

_FALLS = 2  # how often a fit may fall back to its best weights before it is given up
_EXPLODED = 4.0  # times the loss of the first batch, or one nat where that is less: what is above has exploded
_UNEQUAL = "batch norm sees fewer pictures at a time now, so that the result is not that of more memory"


@dataclasses.dataclass
class State:
    """All that a fit changes. Between two steps it is whole: saved then and put back, the fit goes on to the same bits.

    `most` is how many steps the horizon may have at the most. A loss above `ceiling` has exploded. `batch` batches of
    the present epoch are done, with `loss` (a sum, in nats), `hits` of `seen` pictures and the rate `lr` so far; `due`
    says that it is over but for its validation;
    `micro_batch` pictures go through at a time (0: as was chosen).
    `best` holds the best weights, of `best_step`, with the validation loss `best_loss`; `falls` counts how often the
    fit fell back to them. `told` are the epochs and the decisions of the fit, in order. `ended` says why it ended:
    `done`, `early_stop`, `time`, `interrupted`, `diverged`, or is empty. `whole` says that it is between two steps now.
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
    due: bool = False
    loss: float = 0.0
    hits: int = 0
    seen: int = 0
    lr: float = 0.0
    seconds: float = 0.0
    micro_batch: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    epochs: tuple[Epoch, ...] = ()
    told: tuple[Epoch | Decision, ...] = ()
    ended: str = ""
    whole: bool = True

    @classmethod
    def of(cls, network: nn.Module, optimizer: Optimizer, horizon: Horizon, most: int) -> State:
        """Return the state before the first step; `network` itself is what will be trained."""
        return cls(network, optimizer, copy.deepcopy(network).eval(), copied(network), horizon, most)

    def next_epoch(self) -> None:
        """Begin the next epoch's sums."""
        self.batch, self.due, self.loss, self.hits, self.seen, self.seconds = 0, False, 0.0, 0, 0, 0.0

    def place(self) -> list[int]:
        """Return how far the fit has come: its step, how much it told but for want of memory, its best step."""
        told = [one for one in self.told if isinstance(one, Epoch) or not one.name.endswith(".micro_batch")]
        return [self.step, len(told), self.best_step]


Keep: TypeAlias = Callable[[State, bool], None]


@dataclasses.dataclass(frozen=True)
class Learned:
    """The best weights (`state`), the epochs run, and the steps that led to the best.

    `ended` is why it ended: `done`, `early_stop`, `time`, `interrupted` or `diverged`; there was memory for
    `micro_batch` pictures at a time.
    """

    state: dict[str, Tensor]
    epochs: tuple[Epoch, ...]
    best_step: int
    ended: str
    micro_batch: int


def fit(
    state: State,
    train: Samples,
    val: Samples,
    choices: Choices,
    left: Callable[[], float],
    stage: str = "fit",
    keep: Keep | None = None,
    world: World = ALONE,
) -> Steps[Learned]:
    """Train the network of `state` (inputs -> logits) along its horizon, until its end or until `left()` runs out.

    The rates of the optimizer are the highest; each step takes a share of them. After each epoch the averaged weights
    are validated; the best by validation loss (at the temperature that suits them, since what ships is calibrated) are
    returned, the last where `val` is empty. A loss that is not finite, or has exploded, takes the fit back to its best
    weights at a third of the rate, and so do averaged weights that are not finite where `val` is empty; where memory is
    too little, half as many pictures go through at a time. Yields Progress at each step, Epoch, Decision.
    InterruptedRunError ends the fit once there are weights worth having; before, it passes. Raises TellapartError:
    `diverged` where that does not help, `rank_lost` where a process is gone.

    A `state` that has come some way goes on from there, telling first what it told by then. `keep` is called with it
    between two steps and may save it; with True where the fit is interrupted, and should. What the clock had decided in
    an attempt that was cut off is decided again, at its step.
    The other processes of `world` take each step too, on their share of its batch.
    """
    state.micro_batch = state.micro_batch or choices.micro_batch
    try:
        for event in state.told:
            yield event
            yield from _warned(event, stage)
        before = yield from decided_before(stage)
        yield from before.cut(_passes(state, train, val, choices, left, before, stage, keep, world), state.place)
    except InterruptedRunError as error:
        if isinstance(error, OutOfTimeError):
            yield Decision(f"{stage}.cut_off", state.place(), "the rung's time was up at this step")
        elif keep is not None and state.whole and state.step:
            yield from _kept(state, keep)
        if not state.best_step:
            raise
        state.ended = "interrupted"
    if not state.best_step:
        raise TellapartError("diverged", f"The loss was not finite {state.falls} times over.", "Give a lower --lr.")
    return Learned(state.best, state.epochs, state.best_step, state.ended, state.micro_batch)


def _passes(
    state: State,
    train: Samples,
    val: Samples,
    choices: Choices,
    left: Callable[[], float],
    before: Before,
    stage: str,
    keep: Keep | None,
    world: World,
) -> Steps[None]:
    """Train pass after pass until the fit has ended, and say why it did."""
    pace, shards = Pace(left(), state.step), Shards(state.network, choices.shards)
    with led(world, state.network, state.optimizer, train, choices):
        while not state.ended or state.due:
            began, loss, number = time.perf_counter() - state.seconds, 0.0, len(state.epochs) + state.falls
            state.network.train()
            mine = choices.batch_size, choices.seed, number, state.batch, world.mine()
            for inputs, targets in () if state.due else train.epoch(*mine):
                progress = state.horizon.progress(state.step)
                rate = learning_rate(progress, choices.warmup, choices.stable, choices.decay) / (3**state.falls)
                batch = shards, inputs, targets, rate, number, choices.px_at(progress)
                loss, hits = yield from _stepped(state, batch, choices, world, before, stage)
                if not is_sound(loss, state.ceiling):
                    break
                if math.isinf(state.ceiling):
                    state.ceiling = _EXPLODED * max(1.0, loss)
                state.step, state.batch, state.lr = state.step + 1, state.batch + 1, rate
                _blend(state.average, state.network, min(choices.average, state.step / (state.step + 10)))
                state.loss, state.hits = state.loss + loss * len(targets), state.hits + hits
                state.seen, state.seconds = state.seen + len(targets), time.perf_counter() - began
                state.ended = yield from _hold_to_the_clock(state, pace, left(), before, choices, stage)
                state.due = bool(state.ended)
                yield Progress(stage, state.step, state.horizon.total, "steps")
                if state.ended:
                    break
                if keep is not None:
                    keep(state, False)

            state.due, looked = is_sound(loss, state.ceiling), left()
            found = (yield from validated(state.average, val, choices, stage)) if state.due else None
            pace.looked += looked - left()
            state.whole = False
            if wrong := _trouble(state, loss, found):
                yield from _fall_back(state, wrong, world, stage)
            else:
                yield from _told(state, _epoch_of(state, found, time.perf_counter() - began))
                _keep_the_best(state, found, choices)
                if state.hits >= choices.enough * state.seen:
                    yield from _end_early(state, stage)
                state.next_epoch()
            state.whole = True
    told = {event.name for event in state.told if isinstance(event, Decision)}
    if told.intersection((f"{stage}.time_up", f"{stage}.ended")):
        return
    if state.ended == "time":
        yield from _told(state, _time_up(state, stage))
    else:
        why = f"at step {state.step} of {state.horizon.total}; the best was step {state.best_step}"
        yield from _told(state, Decision(f"{stage}.ended", state.ended, why))


def _kept(state: State, keep: Keep) -> Steps[None]:
    """Save where an interrupted fit is; that it cannot be saved is no reason to lose what there is already."""
    try:
        keep(state, True)
    except (OSError, MemoryError, RuntimeError) as error:
        words = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        why = f"could not be saved at step {state.step} ({words})"
        yield Note("warning", f"The training {why}: --resume goes on from further back.")


def copied(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights and buffers."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _stepped(
    state: State,
    batch: tuple[Shards, Tensor, Tensor, float, int, int],
    choices: Choices,
    world: World,
    before: Before,
    stage: str,
) -> Steps[tuple[float, int]]:
    """Take a step, in all processes at once; where memory is too little, again with fewer pictures at a time."""
    shards, inputs, targets, rate, epoch, px = batch
    side_by_side = -(-len(targets) // choices.shards)
    for halved in before.halves.get(state.step, ()):
        if halved.value["pictures"] < state.micro_batch:
            state.micro_batch = halved.value["pictures"]
            yield from _told(state, halved)
            yield from _warned(halved, stage)
    while True:
        now = dataclasses.replace(choices, micro_batch=state.micro_batch)
        tell_step(world, state.step, rate, epoch, state.batch, state.ceiling, state.micro_batch, px)
        try:
            return one_step(shards, state.optimizer, inputs, targets, rate, state.step, now, state.ceiling, world, px)
        except (RuntimeError, MemoryError) as error:
            told, fewer = half_as_many(error, state.micro_batch, side_by_side, stage)
            if world.lost:
                raise
        state.optimizer.zero_grad()
        let_go(choices.device)
        state.micro_batch = fewer
        norms = any(isinstance(part, NORMS) and part.training for part in state.network.modules())
        why = f"{told.message} Batches and gradients are as before{'; but ' + _UNEQUAL if norms else ''}."
        value = {"at": state.step, "pictures": state.micro_batch, "equal": not norms}
        halved = Decision(f"{stage}.micro_batch", value, why)
        yield from _told(state, halved)
        yield from _warned(halved, stage)


def _warned(event: Epoch | Decision, stage: str) -> Steps[None]:
    """Warn where what was told, now or before the fit went on, makes the result another than with more memory."""
    if isinstance(event, Decision) and event.name == f"{stage}.micro_batch" and not event.value.get("equal", True):
        yield Note("warning", f"Memory was too little for {stage}: {_UNEQUAL}.")


def _trouble(state: State, loss: float, found: Validation | None) -> str:
    """Return what is wrong after an epoch or the step that ended it, or nothing.

    Where there is no validation, the averaged weights themselves are looked at: a gradient may be no number where the
    loss is one, and what it does to the weights would be seen at the next step alone, if there is one.
    """
    where = f"at step {state.step} (batch {state.batch + 1} of pass {len(state.epochs) + 1})"
    if not math.isfinite(loss):
        return f"the loss {where} was not a number"
    if not is_sound(loss, state.ceiling):
        return f"the loss {where} was {loss:.3g}, above {state.ceiling:.3g}"
    if found is not None and not math.isfinite(found.loss):
        return f"the validation loss after step {state.step} was not a number"
    if found is None and not _is_finite(state.average):
        return f"there were weights after step {state.step} that are not numbers"
    return ""


def _fall_back(state: State, what: str, world: World, stage: str) -> Steps[None]:
    """Go back to the best weights at a third of the rate, or end: that was done often enough, or no step is left."""
    over = bool(state.ended)
    state.falls += 1
    state.next_epoch()
    if state.falls > _FALLS or over:
        if state.ended == "time":
            yield from _told(state, _time_up(state, stage))
        state.ended = "diverged"
        when = "at the end" if over else f"and so {state.falls} times over"
        best = (
            f"the best weights, of step {state.best_step}, are kept" if state.best_step else "there are no better ones"
        )
        yield from _told(state, Decision(f"{stage}.ended", "diverged", f"{what}, {when}; {best}"))
        return
    state.network.load_state_dict(state.best)
    state.average.load_state_dict(state.best)
    state.optimizer.forget()
    go_back(world, state.best)
    why = f"{what}: back to the best weights, of step {state.best_step}, at a third of the rate"
    yield from _told(state, Decision(f"{stage}.lr_factor", 3.0**-state.falls, why))


def _epoch_of(state: State, found: Validation | None, seconds: float) -> Epoch:
    loss, accuracy = (found.loss, found.accuracy) if found else (None, None)
    shares = state.loss / state.seen, state.hits / state.seen
    epoch = Epoch(len(state.epochs), state.step, state.lr, *shares, loss, accuracy, seconds)
    state.epochs = (*state.epochs, epoch)
    return epoch


def _keep_the_best(state: State, found: Validation | None, choices: Choices) -> None:
    if found is None or found.tempered < state.best_loss:
        state.best, state.best_step = copied(state.average), state.step
        state.best_loss = found.tempered if found else math.inf
    elif not state.ended:
        since = max(state.horizon.progress(state.best_step), choices.smaller)  # small pictures say little of large ones
        waited = state.horizon.progress(state.step) - since
        state.ended = "early_stop" if waited > choices.patience else ""


def _end_early(state: State, stage: str) -> Steps[None]:
    """Let half as many steps again be the last, where there is little left to learn."""
    last = state.step + state.step // 2 + 1
    if state.horizon.total > last:
        state.most, state.horizon = last, state.horizon.moved(state.step, last)
        why = f"{state.hits / state.seen:.1%} of the training pictures of epoch {len(state.epochs)} were told right"
        yield from _told(state, Decision(f"{stage}.last_step", last, f"{why}, at step {state.step}"))


def _hold_to_the_clock(
    state: State, pace: Pace, seconds: float, before: Before, choices: Choices, stage: str
) -> Steps[str]:
    """Let the horizon end when the time does, and return why the fit ends, if so."""
    if choices.px_at(state.horizon.progress(state.step - 1)) != choices.px_at(state.horizon.progress(state.step)):
        pace.anew(seconds, state.step)
    if state.step in before.moves:
        state.horizon = state.horizon.moved(state.step, before.moves[state.step].value["total"])
        yield from _told(state, before.moves[state.step])
    elif not before.decided and state.step > max(before.moves, default=-1) and pace.is_due(seconds):
        yield from _move_the_horizon(state, pace, seconds, choices, stage)
    up = not before.decided and seconds <= 0 if before.last_step is None else state.step >= before.last_step
    return "done" if state.step >= state.horizon.total else "time" if up else ""


def _move_the_horizon(state: State, pace: Pace, seconds: float, choices: Choices, stage: str) -> Steps[None]:
    """Let the horizon end when the time does, but for a tenth of the rest."""
    step, horizon = state.step, state.horizon
    rate, fits = pace.steps_in(seconds, step, choices.pace_to_come(horizon.progress(step)))
    total = min(state.most, step + max(1, int(fits)))
    if abs(total - horizon.total) > 0.02 * horizon.total + 0.1 * (horizon.total - step):
        state.horizon = horizon.moved(step, total)
        why = f"{rate:.1f} steps a second and {seconds:.0f} s left"
        yield from _told(state, Decision(f"{stage}.horizon", {"at": step, "total": total}, why))


def _told(state: State, event: Epoch | Decision) -> Steps[None]:
    """Yield an event that is told again where the fit goes on from here in another process."""
    state.told = (*state.told, event)
    yield event


def _time_up(state: State, stage: str) -> Decision:
    return Decision(f"{stage}.time_up", state.step, f"the time was up at this step of {state.horizon.total}")


def _is_finite(network: nn.Module) -> bool:
    found = [torch.isfinite(value).all() for value in network.state_dict().values() if value.dtype.is_floating_point]
    return not found or bool(torch.stack(found).all())


@torch.no_grad()
def _blend(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move `average` towards `network`, buffers too: `keep` weighs what it is."""
    for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1.0 - keep)
        else:
            mean.copy_(now)
