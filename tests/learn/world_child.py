"""One of two processes that train together; what the one of rank 0 measures is printed as JSON.

Every scenario is a function of the world, run by both: rank 0 leads, the other follows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.driving import Signals
from tellapart.errors import InterruptedRunError, TellapartError
from tellapart.events import Decision, Event, Progress
from tellapart.learn.augmentation import Augment
from tellapart.learn.draws import picture_keys
from tellapart.learn.schedule import Horizon
from tellapart.learn.torch_batches import Held, Samples, Varied
from tellapart.learn.torch_crew import follow
from tellapart.learn.torch_loop import Learned, State, fit
from tellapart.learn.torch_mix import Mix
from tellapart.learn.torch_muon import Muon
from tellapart.learn.torch_optimizers import AdamW, Group, Optimizer
from tellapart.learn.torch_step import Choices
from tellapart.learn.torch_world import ALONE, World, detect

PLAIN = Choices(seed=1, batch_size=9, average=0.5, enough=2.0, label_smoothing=0.1)


class Net(nn.Module):
    """A convolution, dropout, stochastic depth, a linear layer; batch norm where `norm` says so.

    In training, call `bad_call` gives no numbers (`nan`), raises (`error`, `memory`) or has the process signalled
    (`signal`), in the process of `bad_rank` alone.
    """

    def __init__(self, norm: bool = False, noise: bool = True, bad: str = "", bad_call: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
            self.head = nn.Linear(8 * 36, 3)
        self.drop = nn.Dropout(0.3 if noise else 0.0)
        self.depth, self.bad, self.bad_call, self.calls = 0.8 if noise else 1.0, bad, bad_call, 0

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.norm(self.conv(pixels.permute(0, 3, 1, 2).float() / 255.0 - 0.5)).relu()
        if self.training:
            self.calls += 1
            x = x * x.new_empty((len(x), 1, 1, 1)).bernoulli_(self.depth)
            if self.calls == self.bad_call and os.environ["RANK"] == "1":
                if self.bad == "nan":
                    x = x * torch.nan
                if self.bad == "error":
                    raise ValueError("a fault of this process alone")
                if self.bad == "memory":
                    raise MemoryError
                if self.bad == "signal":
                    signal.raise_signal(signal.SIGTERM)
        logits: Tensor = self.head(self.drop(x.flatten(1)))
        return logits


def samples(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, count)
    pixels = rng.integers(0, 150, (count, 6, 6, 3))
    pixels[np.arange(count), :, :, targets] += 60
    keys = picture_keys([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels])
    source = Varied(Held(torch.from_numpy(pixels.astype(np.uint8))), Augment(True, 1, 0), torch.zeros(3).byte())
    return Samples(source, targets, keys, np.arange(count))


def adam(network: nn.Module) -> Optimizer:
    params = list(network.parameters())
    many, few = (tuple(p for p in params if (p.ndim > 1) == wide) for wide in (True, False))
    return AdamW([Group(many, 1e-3, 0.05), Group(few, 1e-3, 0.0)])


def muon(network: nn.Module) -> Optimizer:
    return Muon(network, filter_lr=0.05, lr=0.05)


def fitted(
    world: World,
    network: nn.Module,
    optimizer: Callable[[nn.Module], Optimizer],
    choices: Choices,
    steps: int = 20,
    see: Callable[[Event], BaseException | None] = lambda _: None,
    mix: Mix | None = None,
) -> tuple[Learned, list[dict[str, Tensor]], list[Event]]:
    """Return what was learned, the weights after each step (and `loss`, the epoch's mean so far), and the events."""
    seen: list[dict[str, Tensor]] = []

    def keep(state: State, at_once: bool) -> None:
        weights = {name: value.clone() for name, value in state.network.state_dict().items()}
        seen.append({**weights, "loss": torch.tensor(state.loss / state.seen, dtype=torch.float64)})

    state = State.of(network, optimizer(network), Horizon.of(steps), steps)
    events: list[Event] = []
    train = dataclasses.replace(samples(40, 0), mix=mix)
    run = fit(state, train, samples(20, 1), choices, lambda: 1e9, "fit", keep, world)
    try:
        event = next(run)
        while True:
            events.append(event)
            error = see(event)
            event = next(run) if error is None else run.throw(error)
    except StopIteration as end:
        return end.value, seen, events


def apart(one: list[dict[str, Tensor]], other: list[dict[str, Tensor]]) -> list[float]:
    """Return the largest difference of any weight, or of the loss, after each step."""
    assert len(one) == len(other)
    names = [name for name, value in one[0].items() if value.is_floating_point()]
    return [max(float((a[k] - b[k]).abs().max()) for k in names) for a, b in zip(one, other, strict=True)]


def both(
    world: World, make: Callable[[], nn.Module], optimizer: Any, mix: Mix | None = None, **changed: Any
) -> dict[str, Any]:
    """Return how far two processes are from one, after each step."""
    choices = dataclasses.replace(PLAIN, **changed)
    learned, together, _ = fitted(world, make(), optimizer, choices, mix=mix)
    alone, one, _ = fitted(ALONE, make(), optimizer, choices, mix=mix)
    moved = apart(one[:1], one[-1:])[0]
    same = (learned.best_step, learned.ended) == (alone.best_step, alone.ended)
    return {"apart": apart(together, one), "moved": moved, "same_choices": same}


def measured(world: World) -> dict[str, Any]:
    """Return what two processes give, scenario by scenario."""
    weights = torch.tensor([0.5, 1.0, 2.0])
    found = {
        "muon": both(world, Net, muon),
        "adam": both(world, Net, adam, clip=1.0, class_weights=weights),
        "micro": both(world, Net, muon, micro_batch=4, class_weights=weights),
        "mix": both(world, Net, muon, mix=Mix(3, 0.4, 0.4), micro_batch=6, log_priors=weights),
        "norm": both(world, lambda: Net(norm=True), muon),
        "norm_micro": both(world, lambda: Net(norm=True), muon, micro_batch=5),
    }
    for bad in ("nan", "memory"):
        learned, seen, events = fitted(world, Net(bad=bad, bad_call=12), muon, PLAIN)
        told = [dataclasses.asdict(event) for event in events if isinstance(event, Decision)]
        finite = all(bool(torch.isfinite(value).all()) for value in learned.state.values())
        found[bad] = {"told": told, "finite": finite, "ended": learned.ended, "steps": len(seen)}

    def stop(event: Event) -> BaseException | None:
        return InterruptedRunError(2) if event == Progress("fit", 9, 20, "steps") else None

    learned, _, _ = fitted(world, Net(), muon, PLAIN, see=stop)
    found["interrupted"] = {"ended": learned.ended, "best_step": learned.best_step}
    found["after"] = both(world, Net, muon)  # the others are there for the next fit
    return found


def broken(world: World) -> dict[str, Any]:
    """Return what rank 0 is told where the other process fails in the middle of a step."""
    told: list[Event] = []
    network = Net(norm=True, bad=sys.argv[2], bad_call=12)
    try:
        fitted(world, network, muon, PLAIN, see=lambda event: told.append(event) or None)  # type: ignore[func-returns-value]
    except TellapartError as error:
        steps = sum(isinstance(event, Progress) and event.stage == "fit" for event in told)
        return {**error.as_json(), "steps": steps}
    return {}


def signalled(world: World) -> dict[str, Any]:
    """Return at which step rank 0 gets the signal that only the other process was sent."""
    steps: list[int] = []
    with Signals() as signals:

        def see(event: Event) -> BaseException | None:
            number = signals.take()
            if isinstance(event, Progress) and event.stage == "fit":
                steps.append(event.done)
            return None if number is None else InterruptedRunError(number)

        learned, _, _ = fitted(world, Net(bad="signal", bad_call=12), muon, PLAIN, see=see)
    return {"ended": learned.ended, "steps": steps[-1]}


def main() -> None:
    torch.set_num_threads(1)
    world = detect("cpu")
    print("met", flush=True)
    if world.rank:
        with Signals() as signals:
            world.signalled = signals.take
            try:
                print(json.dumps({"word": follow(world)}))
            except (TellapartError, ValueError, MemoryError) as error:
                print(json.dumps({"error": repr(error)}))
        return
    found = {"measured": measured, "broken": broken, "signalled": signalled}[sys.argv[1]](world)
    if not world.lost:
        world.say("the end")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
