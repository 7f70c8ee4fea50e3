"""In which precision and layout a network is trained: as a few steps say that it is faster, and bfloat16 does train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tellapart.events import Decision, Event
from tellapart.learn.torch_loop import Learned
from tellapart.learn.torch_task import Task, measured, trained
from tests.learn.conftest import finished
from tests.learn.tasks import task_of

from .test_loop import Linear, samples

_AS_IT_IS = (torch.float32, torch.channels_last)


def in_bfloat16() -> bool:
    return bool(torch.is_autocast_enabled("cpu"))


class Laborious(Linear):
    """Works a hundred times as much wherever `at_ease` does not hold."""

    def __init__(self, at_ease: Callable[[nn.Module], bool]) -> None:
        super().__init__()
        self.at_ease = at_ease
        self.load = torch.eye(128)

    def forward(self, pixels: Tensor) -> Tensor:
        for _ in range(1 if self.at_ease(self) else 100):
            with torch.autocast("cpu", enabled=False):
                self.load @ self.load
        return super().forward(pixels)


def task(start: Callable[[], nn.Module], max_steps: int = 1_000_000) -> Task[nn.Module]:
    return dataclasses.replace(task_of(samples(64), samples(30, seed=1), start), max_steps=max_steps)


def measured_as(found: Task[nn.Module], seconds: float) -> tuple[Task[nn.Module], dict[str, Decision]]:
    before = torch.get_num_threads()
    try:
        events: list[Event] = []
        made = finished(measured(found, seconds), events)
    finally:
        torch.set_num_threads(before)
    return made, {event.name: event for event in events if isinstance(event, Decision)}


@pytest.mark.parametrize(
    ("at_ease", "choice", "taken"),
    [
        (lambda _: in_bfloat16(), "dtype", torch.bfloat16),
        (lambda _: not in_bfloat16(), "dtype", torch.float32),
        (lambda network: network.layout == torch.contiguous_format, "layout", torch.contiguous_format),
        (lambda network: network.layout == torch.channels_last, "layout", torch.channels_last),
    ],
    ids=["bfloat16", "float32", "channels first", "channels last"],
)
def test_what_trains_faster_is_taken_and_told(at_ease: Callable[[nn.Module], bool], choice: str, taken: object) -> None:
    found, told = measured_as(task(lambda: Laborious(at_ease)), 600.0)
    assert getattr(found.choices, choice) == taken
    assert told["fit.precision"].value == str(found.choices.dtype)[6:]
    assert told["fit.layout"].value == str(found.choices.layout)[6:]
    for way in ("float32, 1 x 1 threads", "bfloat16, 1 x 1 threads", "channels first"):
        assert way in told["fit.precision"].evidence, "each way is told with its rate"
    assert found.steps_a_second > 0.0


def test_where_one_thread_is_fast_enough_nothing_is_compared() -> None:
    found, told = measured_as(task(lambda: Laborious(lambda _: in_bfloat16()), max_steps=1), 600.0)
    assert (found.choices.dtype, found.choices.layout) == _AS_IT_IS
    assert "not compared" in told["fit.layout"].evidence


def test_with_little_time_the_layout_is_not_asked_for() -> None:
    found, told = measured_as(task(lambda: Laborious(lambda network: network.layout != torch.channels_last)), 20.0)
    assert found.choices.layout == torch.channels_last
    assert "not compared" in told["fit.layout"].evidence


def test_a_network_trains_in_bfloat16_with_weights_in_full_precision() -> None:
    seen: list[tuple[bool, torch.dtype]] = []

    class Watched(Linear):
        def forward(self, pixels: Tensor) -> Tensor:
            logits = super().forward(pixels)
            seen.append((self.training, logits.dtype))
            return logits

    def fitted(dtype: torch.dtype) -> Learned:
        found = task(Watched)
        return finished(trained(found, found.train, found.val, 60, lambda: 1e9, "fit", dtype=dtype))[1]

    exact = fitted(torch.float32)
    seen.clear()
    rounded = fitted(torch.bfloat16)
    assert {dtype for training, dtype in seen if training} == {torch.bfloat16}
    assert {value.dtype for value in rounded.state.values()} == {torch.float32}
    assert not all(torch.equal(exact.state[name], rounded.state[name]) for name in exact.state)
    assert rounded.epochs[-1].train_loss == pytest.approx(exact.epochs[-1].train_loss, rel=0.1)
    assert rounded.epochs[-1].val_accuracy == pytest.approx(exact.epochs[-1].val_accuracy, abs=0.1)
