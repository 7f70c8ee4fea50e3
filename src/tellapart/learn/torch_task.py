"""What is fixed before a network is trained, and what a few steps of it cost on this machine."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import torch
from torch import nn

from tellapart.cache import digest_of
from tellapart.events import Decision, Progress, Steps, decide
from tellapart.images import Preprocess
from tellapart.learn.augmentation import NOTHING, Augment
from tellapart.learn.rungs import IntArray
from tellapart.learn.schedule import Horizon
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_checkpoint import Checkpoints
from tellapart.learn.torch_devices import told_device
from tellapart.learn.torch_loop import Learned, State, fit
from tellapart.learn.torch_optimizers import Optimizer
from tellapart.learn.torch_step import Choices
from tellapart.learn.torch_world import ALONE, World

__all__ = ["Clock", "Task", "laid_out", "less", "measured", "paced", "trained", "within_memory"]

Clock: TypeAlias = Callable[[], float]

_SHORT_SECONDS = 10.0  # a fit that one thread ends in this time is not worth measuring
_TRIAL_STEPS = 4
_TRIAL_SECONDS = 1.2
_LONG_SECONDS = 60.0  # with less time, maps lie as they usually are fastest, unasked
_SHARD = 16  # pictures, at the least, that a part of a batch has: batch norm works within it
_SHORT_STEPS = 5.0  # a second: a few more of these cost little, and are taken unasked
_HOPELESS = 0.3  # of a rate: what is slower than that on a few pictures is not measured further
_WORTH_ROUNDING, _WORTH_TURNING = 1.1, 1.25  # times as fast: less is no reason to compute in another way


N = TypeVar("N", bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Task(Generic[N]):
    """Pictures, the network as it begins, every choice.

    `start` returns a network before its first step, to be trained on the training rows it is given; `optimizer` makes
    one for it. `folds` int64 [N] is the fold of each training picture (-1: in none); `held_out` int64 are the training
    rows that nothing learns from. One of the two is in use. `augment` is how pictures are varied. `name` begins the
    names of stages and decisions.
    """

    name: str
    train: Samples
    val: Samples
    folds: IntArray
    held_out: IntArray
    num_classes: int
    start: Callable[[IntArray], N]
    optimizer: Callable[[N], Optimizer]
    max_steps: int
    choices: Choices
    preprocess: Preprocess
    threads: int
    augment: Augment = NOTHING
    steps_a_second: float = 0.0
    checkpoints: Checkpoints | None = None
    world: World = ALONE

    @property
    def learned_from(self) -> Samples:
        """The training pictures that are not held out."""
        return self.train.at(np.setdiff1d(self.train.rows, self.held_out))

    @property
    def nothing(self) -> Samples:
        """No pictures to validate on."""
        return self.val.at(np.empty(0, np.int64))

    @property
    def exact(self) -> Choices:
        """The choices, in full precision."""
        return dataclasses.replace(self.choices, dtype=torch.float32)


def trained(
    task: Task[N],
    train: Samples,
    val: Samples,
    total: int,
    left: Clock,
    stage: str,
    most: int | None = None,
    **changed: Any,
) -> Steps[tuple[N, Learned]]:
    """Train the task's network along a horizon of `total` steps, which may grow to `most`; return it.

    It has its best weights then. Where a checkpoint of this fit is at hand, it goes on from there.
    """
    choices = dataclasses.replace(task.choices, **changed)
    network = laid_out(task.start(train.rows), choices.layout).to(choices.device)
    state = State.of(network, task.optimizer(network), Horizon.of(total), most or total)
    keep, checkpoints = None, task.checkpoints
    if checkpoints is not None:
        checkpoints = checkpoints.about(fit=_digest(choices, total, most, train, val))
        yield from checkpoints.restore(stage, state)
        keep = functools.partial(checkpoints.save_now_and_then, stage)
    learned = yield from fit(state, train, val, choices, left, stage, keep, task.world)
    if checkpoints is not None and learned.ended != "interrupted":
        checkpoints.save(stage, state)
    network.load_state_dict(learned.state)
    network.eval()
    return network, learned


def _digest(choices: Choices, total: int, most: int | None, train: Samples, val: Samples) -> str:
    """Return a digest of what shapes a fit, besides the network that it begins with."""
    held = {name: getattr(choices, name) for name in ("class_weights", "log_priors", "val_weights")}
    weights = {name: None if value is None else value.tolist() for name, value in held.items()}
    plain = dataclasses.asdict(dataclasses.replace(choices, class_weights=None, log_priors=None, val_weights=None))
    plain["dtype"], plain["layout"] = str(choices.dtype), str(choices.layout)
    rows = [[part.keys[part.rows].tolist(), part.targets[part.rows].tolist()] for part in (train, val)]
    return digest_of([plain, weights, total, most, rows, train.evenly, repr(train.mix)])[:16]


@dataclasses.dataclass(frozen=True, slots=True)
class _Way:
    """How a step is taken: precision, how many parts of a batch side by side, on how many threads each, layout."""

    dtype: torch.dtype = torch.float32
    shards: int = 1
    threads: int = 1
    layout: torch.memory_format = torch.channels_last

    def __str__(self) -> str:
        layout = "" if self.layout == torch.channels_last else ", channels first"
        return f"{str(self.dtype)[6:]}{layout}, {self.shards} x {self.threads} threads"


def measured(task: Task[N], seconds: float) -> Steps[Task[N]]:
    """Return the task with the precision, layout, shards of a batch and threads that train fastest, by a few steps.

    A small network may be slower on many threads than on one, above all where other programs want them too. Where one
    thread is fast enough in full precision (`seconds` are left), it is taken, so that the result is the same each time.
    """
    way, hopeless = _Way(), list[_Way]()
    rates = {way: (yield from _steps_a_second(task, way))}
    if task.max_steps / rates[way] > min(_SHORT_SECONDS, seconds / 4.0):
        several = task.world.size > 1 or task.world.device != "cpu"  # each process is one part of a batch
        parts = 1 if several else max(1, min(task.threads, task.choices.batch_size // _SHARD))
        for count, threads in sorted({(parts, 1), (parts, task.threads // parts)} - {(1, 1)}):
            tried = _Way(shards=count, threads=threads)
            rates[tried] = yield from _steps_a_second(task, tried)
        way = max(rates, key=lambda one: rates[one])
        half, first = {"dtype": torch.bfloat16}, {"layout": torch.contiguous_format}
        for other, gain, least in ((half, _WORTH_ROUNDING, 0.0), (first, _WORTH_TURNING, _LONG_SECONDS)):
            if seconds < least:
                continue
            tried = dataclasses.replace(way, **other)
            if (yield from _is_hopeless(task, tried, way, rates[way])):
                hopeless.append(tried)
                continue
            rates[tried] = yield from _steps_a_second(task, tried)
            way = tried if rates[tried] > gain * rates[way] else way
    one_way, name = "not compared: one thread trains fast enough, or there is little time", task.name
    same = "by the same measurement" if len(rates) + len(hopeless) > 1 else one_way
    turned = same if len({one.layout for one in [*rates, *hopeless]}) > 1 else "not compared: as is usually fastest"
    each = [f"{one}: {task.choices.batch_size * rate:,.0f} pictures/s" for one, rate in rates.items()]
    said = ", ".join([*each, *(f"{one}: less than {_HOPELESS:.0%} as fast, on fewer pictures" for one in hopeless)])
    yield Decision(f"{name}.device", task.world.device, told_device(task.world.device))
    dtype = yield from decide(f"{name}.precision", str(way.dtype)[6:], said)
    layout = yield from decide(f"{name}.layout", str(way.layout)[6:], f"how maps lie in memory, {turned}")
    shards = yield from decide(f"{name}.shards", way.shards, f"parts of a batch side by side, {same}")
    threads = yield from decide(f"{name}.threads", way.threads, f"a part, of {task.threads}, {same}")
    way = _Way(getattr(torch, dtype), shards, threads, getattr(torch, layout))
    torch.set_num_threads(threads)
    choices = dataclasses.replace(task.choices, dtype=way.dtype, layout=way.layout, shards=shards)
    return dataclasses.replace(task, choices=choices, steps_a_second=rates.get(way, max(rates.values())))


def _is_hopeless(task: Task[N], tried: _Way, way: _Way, rate: float) -> Steps[bool]:
    """Say whether `tried` is so much slower than `way` on a few pictures that steps of it (`rate` now) are not taken.

    A processor without instructions for bfloat16 takes ten seconds for a batch that is done in one without.
    """
    few = max(_SHARD * way.shards, task.choices.batch_size // 8)
    if rate > _SHORT_STEPS or 2 * few > task.choices.batch_size:
        return False
    task = dataclasses.replace(task, choices=dataclasses.replace(task.choices, batch_size=few))
    now = yield from _steps_a_second(task, way)
    return (yield from _steps_a_second(task, tried)) < _HOPELESS * now


def laid_out(network: N, layout: torch.memory_format) -> N:
    """Return the network with its filters, and what it makes of pictures, laid out in memory as `layout` says."""
    network.layout = layout  # type: ignore[assignment]
    return network.to(memory_format=layout)


def _steps_a_second(task: Task[N], way: _Way) -> Steps[float]:
    torch.set_num_threads(way.threads)
    choices = dataclasses.replace(task.choices, dtype=way.dtype, layout=way.layout, shards=way.shards)
    return (yield from paced(dataclasses.replace(task, choices=choices)))


def paced(task: Task[N]) -> Steps[float]:
    """Return how many steps a second the task takes as it is chosen, from a few of them that are then dropped."""
    ticks = [time.perf_counter()]
    name = f"{task.name}.measure"
    task = dataclasses.replace(task, checkpoints=None)
    steps = task.learned_from, task.nothing, 1000, lambda: 1e9
    trial = trained(task, *steps, name)
    for event in trial:
        if not isinstance(event, Progress):
            continue  # an epoch's end, where there are few pictures
        ticks.append(time.perf_counter())
        yield event
        if len(ticks) < 3:
            continue  # the first step warms up, here and in other processes: it says nothing of those to come
        elapsed = ticks[-1] - ticks[0]
        if elapsed > _TRIAL_SECONDS or (len(ticks) > _TRIAL_STEPS and elapsed > _TRIAL_SECONDS / 4):
            break
    trial.close()
    between = np.diff(ticks)
    return 1.0 / float(np.median(between[1:] if len(between) > 1 else between))  # a fit may end with its first step


def within_memory(task: Task[N], learned: Learned) -> Task[N]:
    """Return the task with as many pictures at a time as there was memory for in a fit of it."""
    return dataclasses.replace(task, choices=dataclasses.replace(task.choices, micro_batch=learned.micro_batch))


def less(left: Clock, kept_back: float) -> Clock:
    """Return a clock that runs out `kept_back` seconds earlier."""
    return lambda: left() - kept_back
