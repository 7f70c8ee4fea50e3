"""What a fit does when something goes wrong in it: a loss that explodes, memory that is too little."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tellapart.events import Decision, Event, Note, Recall
from tellapart.images import Preprocess
from tellapart.learn.range_test import Rates
from tellapart.learn.torch_loop import Learned, fit
from tellapart.learn.torch_muon import Muon
from tellapart.learn.torch_rate import peak_rate
from tellapart.learn.torch_task import Task

from .test_loop import PLAIN, Linear, begun, fresh, of_kind, run, samples

MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


class Exploding(Linear):
    """Its logits are those of other classes, and a thousand times too large, at one call."""

    def forward(self, pixels: Tensor) -> Tensor:
        logits = super().forward(pixels)
        return logits.roll(1, 1) * 1e3 if self.training and self.calls == 20 else logits


class Large(Linear):
    """It needs more memory than there is for more than `most` pictures at a time; batch norm where `norm` says so."""

    def __init__(self, most: int, norm: bool = False, error: Callable[[], Exception] = MemoryError) -> None:
        super().__init__()
        self.most, self.error = most, error
        self.norm = nn.BatchNorm1d(3) if norm else nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        if len(pixels) > self.most:
            raise self.error()
        logits: Tensor = self.norm(super().forward(pixels))
        return logits


def decisions(events: list[Event], name: str) -> list[Decision]:
    return [event for event in events if isinstance(event, Decision) and event.name == name]


def test_a_loss_that_explodes_is_left_behind_and_its_batch_is_named() -> None:
    learned, events = run(begun(Exploding()))
    [fall] = decisions(events, "fit.lr_factor")
    assert fall.value == pytest.approx(1 / 3)
    assert "the loss at step 19 (batch 4 of pass 3) was " in fall.evidence
    assert "above 4.39" in fall.evidence
    assert "back to the best weights, of step 16" in fall.evidence
    assert learned.ended == "done"
    assert all(epoch.train_loss < 4 for epoch in learned.epochs)


def test_a_loss_that_is_no_number_is_told_with_its_batch() -> None:
    _, events = run(begun(Linear((20,))))
    [fall] = decisions(events, "fit.lr_factor")
    assert "the loss at step 19 (batch 4 of pass 3) was not a number" in fall.evidence


class Spoiling(Linear):
    """Its loss is a number at each call, and the gradient of its weights none at one."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call
        self.layer.weight.register_hook(lambda grad: grad * math.nan if self.calls == self.call else grad)


@pytest.mark.parametrize("total", [16, 60])
def test_a_gradient_that_is_no_number_at_the_last_step_of_a_pass_spoils_no_weights_without_validation(
    total: int,
) -> None:
    """At the end of the fit (two passes of eight steps), where nothing comes after it, and in its middle."""
    train = samples(64)
    learned, events = run(fit(fresh(Spoiling(16), total), train, train.at(train.rows[:0]), PLAIN, lambda: 1e9, "fit"))
    ends, falls = decisions(events, "fit.ended"), decisions(events, "fit.lr_factor")
    wrong = "weights after step 16 that are not numbers"
    if total == 16:
        assert not falls, "no step is left for which a lower rate would be"
        assert [end.value for end in ends] == ["diverged"]
        assert f"{wrong}, at the end; the best weights, of step 8, are kept" in ends[0].evidence
    else:
        assert f"{wrong}: back to the best weights, of step 8" in falls[0].evidence
        assert [end.value for end in ends] == ["done"]
    assert learned.ended == ("diverged" if total == 16 else "done")
    assert all(bool(value.isfinite().all()) for value in learned.state.values())
    assert learned.best_step == (8 if total == 16 else total)


@pytest.mark.parametrize(
    "error", [MemoryError, lambda: RuntimeError(MEMORY), lambda: torch.OutOfMemoryError("CUDA out of memory")]
)
def test_where_memory_is_too_little_fewer_pictures_go_through_and_the_batch_stays(
    error: Callable[[], Exception],
) -> None:
    """In validation too, whose pictures are 30."""
    whole, _ = run(begun(Linear(), 24))
    learned, events = run(begun(Large(3, error=error), 24))
    halves = decisions(events, "fit.micro_batch")
    assert [decision.value for decision in halves] == [
        {"at": 0, "pictures": pictures, "equal": True} for pictures in (4, 2)
    ]
    assert "fit needed more memory" in halves[0].evidence
    assert not of_kind(events, Note)
    assert learned.micro_batch == 2, "what comes after the fit has as little memory"
    for name, value in whole.state.items():
        assert torch.allclose(learned.state[name], value, atol=1e-6)
    assert [epoch.val_loss for epoch in learned.epochs] == pytest.approx([epoch.val_loss for epoch in whole.epochs])


def test_where_that_makes_batch_norm_unequal_it_is_said() -> None:
    _, events = run(begun(Large(4, norm=True), 8))
    [half] = decisions(events, "fit.micro_batch")
    assert "batch norm sees fewer pictures" in half.evidence
    [note] = [event for event in events if isinstance(event, Note)]
    assert note.level == "warning"

    def see(event: Event) -> None:
        if isinstance(event, Recall) and event.name == "fit.micro_batch":
            event.decided.append(half)

    _, again = run(begun(Large(8, norm=True), 8), see)
    assert [event for event in again if isinstance(event, Note)] == [note], "a run that goes on warns of it too"


def test_a_fit_that_goes_on_from_its_state_warns_again() -> None:
    network = Large(4, norm=True)
    state = fresh(network, 8)
    steps = fit(state, samples(64), samples(30, seed=1), PLAIN, lambda: 1e9, "fit")
    notes: list[Event] = []
    while state.step < 3:
        event = next(steps)
        notes += [event] if isinstance(event, Note) else []
    steps.close()
    _, events = run(fit(state, samples(64), samples(30, seed=1), PLAIN, lambda: 1e9, "fit"))
    assert len(notes) == 1
    assert [event for event in events if isinstance(event, Note)] == notes


def test_one_picture_that_is_too_much_passes() -> None:
    with pytest.raises(MemoryError):
        run(begun(Large(0)))


def test_a_run_that_goes_on_halves_where_it_did_before() -> None:
    """Memory suffices the second time: the sums are to be those of the first all the same."""
    first, told = run(begun(Large(4), 24))
    network = Linear()

    def see(event: Event) -> None:
        if isinstance(event, Recall) and event.name == "fit.micro_batch":
            event.decided.extend(decisions(told, "fit.micro_batch"))

    choices = dataclasses.replace(PLAIN)
    again, events = run(fit(fresh(network, 24), samples(64), samples(30, seed=1), choices, lambda: 1e9, "fit"), see)
    [half] = decisions(events, "fit.micro_batch")
    assert half.value == {"at": 0, "pictures": 4, "equal": True}
    assert all(torch.equal(again.state[name], value) for name, value in first.state.items())


class Short(Linear):
    """It has batch norm, and too little memory at some calls."""

    def __init__(self, fails: tuple[int, ...]) -> None:
        super().__init__()
        self.norm, self.fails, self.tries = nn.BatchNorm1d(3), fails, 0

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.norm(super().forward(pixels))
        self.tries += self.training
        if self.training and self.tries in self.fails:
            raise MemoryError
        return logits


def test_a_step_that_failed_for_memory_counts_once_and_a_fit_that_goes_on_has_the_same_bits() -> None:
    """Calls 6 and 10 are both of the third step: of batches of 16, 8 at a time, then 4, then 2."""
    choices = dataclasses.replace(PLAIN, batch_size=16, micro_batch=8)

    def trained(network: nn.Module, told: list[Event]) -> tuple[Learned, list[Event]]:
        def see(event: Event) -> None:
            if isinstance(event, Recall):
                event.decided.extend(decisions(told, event.name))

        return run(fit(fresh(network, 24), samples(64), samples(30, seed=1), choices, lambda: 1e9, "fit"), see)

    first, told = trained(Short((6, 10)), [])
    halves = [(half.value["at"], half.value["pictures"]) for half in decisions(told, "fit.micro_batch")]
    assert halves == [(2, 4), (2, 2)]
    assert first.state["norm.num_batches_tracked"] == 2 * 2 + 8 * (first.best_step - 2)
    again, anew = trained(Short(()), told)
    assert decisions(anew, "fit.micro_batch") == decisions(told, "fit.micro_batch")
    assert all(torch.equal(again.state[name], value) for name, value in first.state.items())


def rate_of(network: nn.Module) -> tuple[float, list[Event]]:
    """Return the rate that a range test finds for a network, and what was told."""
    nothing = np.empty(0, np.int64)
    task = Task(
        name="fit",
        train=samples(64),
        val=samples(30, seed=1),
        folds=np.full(64, -1),
        held_out=nothing,
        num_classes=3,
        start=lambda _: network,
        optimizer=lambda made: Muon(made, lr=1.0),
        max_steps=1000,
        choices=PLAIN,
        preprocess=Preprocess(image_size=8),
        threads=1,
        steps_a_second=1e3,
    )
    events: list[Event] = []
    steps = peak_rate(task, None, Rates(1e-5, 0.1, 3e-4), 1e3)
    try:
        while True:
            events.append(next(steps))
    except StopIteration as end:
        rate: float = end.value
    return rate, events


def test_where_memory_is_too_little_for_a_range_test_fewer_pictures_go_through_there_too() -> None:
    whole, told = rate_of(Linear())
    rate, events = rate_of(Large(3))
    assert rate == pytest.approx(whole)
    assert "memory" not in decisions(told, "fit.lr")[0].evidence
    assert decisions(events, "fit.lr")[0].evidence.endswith("there was memory for 2 pictures at a time")
    with pytest.raises(MemoryError):
        rate_of(Large(0))


def test_a_range_test_in_which_no_loss_is_a_number_leaves_the_usual_rate() -> None:
    network = Linear()
    with torch.no_grad():
        next(network.parameters()).fill_(math.nan)
    rate, events = rate_of(network)
    assert 0.0 < rate < 1e-2
    assert "no loss was finite" in decisions(events, "fit.lr")[0].evidence
