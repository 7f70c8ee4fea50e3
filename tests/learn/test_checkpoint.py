"""A fit that was cut off goes on to the same bits, and there is always a checkpoint that can be read."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import itertools
import math
import os
import re
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tellapart.errors import DataError, InterruptedRunError, OutOfTimeError
from tellapart.events import Decision, Epoch, Event, Note, Progress, Recall
from tellapart.files import is_full
from tellapart.learn.torch_checkpoint import Checkpoints
from tellapart.learn.torch_loop import Learned, State, fit
from tellapart.learn.torch_step import Choices

from .test_loop import PLAIN, Linear, SlowMachine, fresh, samples

STEPS = 60


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class CutOff(Exception):  # noqa: N818
    """The process ended here."""


def trained(
    store: Checkpoints | None, stop: int = -1, left: Any = lambda: 1e9, choices: Choices = PLAIN
) -> tuple[Learned, list[Event]]:
    """Train as `torch_task.trained` does; with `stop`, a step, the process is gone after it."""
    state = fresh(Linear(), STEPS, most=3 * STEPS)
    events: list[Event] = []
    if store is not None:
        events += list(store.restore("fit", state))

    def keep(now: State, at_once: bool = False) -> None:
        if store is not None:
            store.save("fit", now)
        if now.step == stop:
            raise CutOff

    steps = fit(state, samples(64), samples(30, 1), choices, left, "fit", keep)
    try:
        while True:
            events.append(next(steps))
    except StopIteration as end:
        learned: Learned = end.value
        return learned, events


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stops", [(1,), (7,), (8,), (9,), (31, 47), tuple(range(3, 60, 5))])
def test_case_94_a_fit_that_was_cut_off_ends_with_the_same_bits(stops: tuple[int, ...], tmp_path: Path) -> None:
    whole, told = trained(None)
    store = Checkpoints(tmp_path / "checkpoints", {"pictures": "a"})
    for stop in stops:
        with pytest.raises(CutOff):
            trained(store, stop)
    learned, again = trained(store)
    assert same(learned.state, whole.state)
    assert (learned.best_step, learned.ended) == (whole.best_step, whole.ended)
    assert [(e.step, e.train_loss, e.val_loss) for e in learned.epochs] == [
        (e.step, e.train_loss, e.val_loss) for e in whole.epochs
    ]
    lasting = [[e for e in events if isinstance(e, Decision)] for events in (told, again)]
    assert lasting[0] == lasting[1]


@pytest.mark.parametrize("batch", [8, 64])
@pytest.mark.parametrize("cuts", [(1,), (5, 3), (17,), (40, 2), *((cut,) for cut in range(59, 80))])
def test_case_95_a_fit_that_is_interrupted_is_saved_there_and_goes_on_to_the_same_bits(
    cuts: tuple[int, ...], batch: int, tmp_path: Path
) -> None:
    choices = dataclasses.replace(PLAIN, batch_size=batch)
    whole, _ = trained(None, choices=choices)
    store = Checkpoints(tmp_path, {}, every_seconds=1e9)
    for cut in cuts:
        state = fresh(Linear(), STEPS, most=3 * STEPS)
        list(store.restore("fit", state))
        came_from = state.step
        keep = functools.partial(store.save_now_and_then, "fit")
        steps = fit(state, samples(64), samples(30, 1), choices, lambda: 1e9, "fit", keep)
        seen = list(itertools.islice(steps, cut))
        with contextlib.suppress(InterruptedRunError, StopIteration):
            steps.throw(InterruptedRunError(signal.SIGINT))
        at = max((event.step for event in seen if isinstance(event, Epoch)), default=came_from)
        at = max([at, *(event.done for event in seen if isinstance(event, Progress) and event.stage == "fit")])
        again = fresh(Linear(), STEPS, most=3 * STEPS)
        list(store.restore("fit", again))
        if not isinstance(seen[-1], Epoch):
            assert again.step == at, "steps were lost"
    learned, _ = trained(store, choices=choices)
    assert same(learned.state, whole.state)
    assert (learned.best_step, learned.ended) == (whole.best_step, whole.ended)
    assert [dataclasses.replace(epoch, seconds=0.0) for epoch in learned.epochs] == [
        dataclasses.replace(epoch, seconds=0.0) for epoch in whole.epochs
    ]


def test_case_95_an_interrupted_fit_that_cannot_be_saved_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder belongs")
    keep = functools.partial(Checkpoints(tmp_path / "checkpoints", {}).save_now_and_then, "fit")
    steps = fit(fresh(Linear(), STEPS), samples(64), samples(30, 1), PLAIN, lambda: 1e9, "fit", keep)
    while not isinstance(next(steps), Epoch):
        pass
    next(steps)
    said = steps.throw(InterruptedRunError(signal.SIGINT))
    assert isinstance(said, Note)
    assert "could not be saved at step" in said.text
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value.ended == "interrupted"


def test_a_fit_in_parts_side_by_side_ends_with_the_same_bits_too(tmp_path: Path) -> None:
    choices = dataclasses.replace(PLAIN, shards=2)
    whole, _ = trained(None, choices=choices)
    with pytest.raises(CutOff):
        trained(Checkpoints(tmp_path, {}), 31, choices=choices)
    learned, _ = trained(Checkpoints(tmp_path, {}), choices=choices)
    assert same(learned.state, whole.state)


def test_a_fit_that_ended_is_not_run_again(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, {})
    state = fresh(Linear(), 8)
    list(fit(state, samples(64), samples(30, 1), PLAIN, lambda: 1e9, "fit"))
    store.save("fit", state)
    learned, events = trained(store)
    assert [event for event in events if isinstance(event, Progress)] == [Progress("fit", 8, 8, "steps")]
    assert same(learned.state, state.best)


def test_that_the_time_was_up_is_told_once(tmp_path: Path) -> None:
    machine = SlowMachine(4.0, lambda _: 0.5)
    state, store = fresh(Linear(), STEPS), Checkpoints(tmp_path, {})
    for event in fit(state, samples(64), samples(30, 1), PLAIN, machine.left, "fit"):
        machine.see(event)
    assert state.ended == "time"
    store.save("fit", state)
    learned, events = trained(store)
    assert learned.ended == "time"
    assert decided(events).count("fit.time_up") == 1
    assert "fit.ended" not in decided(events)


def damaged(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: {"cut": len(content) // 2, "flip": len(content), "empty": 0}[damage]])


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_case_98_a_torn_checkpoint_is_passed_over_for_the_one_before(damage: str, tmp_path: Path) -> None:
    whole, _ = trained(None)
    store = Checkpoints(tmp_path, {})
    with pytest.raises(CutOff):
        trained(store, 20)
    damaged(tmp_path / "fit.checkpoint", damage)
    learned, events = trained(store)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("damaged" in note for note in notes)
    assert Progress("fit", 19, STEPS, "steps") in events
    assert same(learned.state, whole.state)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_after_a_damaged_checkpoint_a_write_that_fails_still_leaves_the_good_one(
    call: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call that the next save makes is its last: the disk is full, or the process gone."""
    store, state = Checkpoints(tmp_path, {}), fresh(Linear(), STEPS)
    for step in (3, 4):
        state.step = step
        store.save("fit", state)
    damaged(tmp_path / "fit.checkpoint", damage)
    list(store.restore("fit", state))
    assert state.step == 3

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            store.save("fit", state)
    found = fresh(Linear(), STEPS)
    list(Checkpoints(tmp_path, {}).restore("fit", found))
    assert found.step == 3
    state.step = 5
    store.save("fit", state)
    events = list(Checkpoints(tmp_path, {}).restore("fit", found))
    assert found.step == 5
    assert not [event for event in events if isinstance(event, Note)]


@pytest.mark.parametrize("saved", [1, 2])
def test_where_all_checkpoints_are_damaged_that_is_told_and_the_fit_begins_anew(saved: int, tmp_path: Path) -> None:
    store, state = Checkpoints(tmp_path, {}), fresh(Linear(), STEPS)
    state.step = 3
    for _ in range(saved):
        store.save("fit", state)
    for path in tmp_path.iterdir():
        damaged(path, "flip")
    found = fresh(Linear(), STEPS)
    (event,) = Checkpoints(tmp_path, {}).restore("fit", found)
    assert found.step == 0
    assert isinstance(event, Note)
    assert "begins anew" in event.text
    assert "before it is taken" not in event.text


def test_case_99_a_checkpoint_of_something_else_is_refused_with_what_differs(tmp_path: Path) -> None:
    with pytest.raises(CutOff):
        trained(Checkpoints(tmp_path, {"pictures": "a", "tellapart": "1"}), 5)
    with pytest.raises(DataError, match="pictures was a, is b") as caught:
        trained(Checkpoints(tmp_path, {"pictures": "b", "tellapart": "1"}))
    assert caught.value.code == "other_checkpoint"


def test_a_checkpoint_of_another_versions_format_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(CutOff):
        trained(Checkpoints(tmp_path, {}), 5)
    path = tmp_path / "fit.checkpoint"
    path.write_bytes(re.sub(rb"^(tellapart checkpoint) \d+", rb"\1 2", path.read_bytes()))
    with pytest.raises(DataError, match="format 2; this version of tellapart has 3") as caught:
        trained(Checkpoints(tmp_path, {}))
    assert caught.value.code == "other_checkpoint"
    assert path.exists(), "the version that wrote it can still go on"


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO, None])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_case_93_whatever_fails_while_one_is_written_another_can_be_read(
    call: str, fault: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call in turn fails, or is the last that the process makes (None)."""
    real = getattr(os, call)
    for failing in itertools.count():
        folder = tmp_path / f"{failing}"
        store = Checkpoints(folder, {})
        state = fresh(Linear(), STEPS)
        store.save("fit", state)
        state.step = 1
        calls = itertools.count()

        def faulty(*arguments: Any, at: int = failing, calls: Iterator[int] = calls, **options: Any) -> Any:
            if next(calls) != at:
                return real(*arguments, **options)
            if fault is None:
                raise KeyboardInterrupt  # nothing else of the write happens
            raise OSError(fault, os.strerror(fault))

        with monkeypatch.context() as patch:
            patch.setattr(os, call, faulty)
            try:
                store.save("fit", state)
                failed = False
            except (OSError, KeyboardInterrupt):
                failed = True
        found = fresh(Linear(), STEPS)
        events = list(Checkpoints(folder, {}).restore("fit", found))
        assert not [event for event in events if isinstance(event, Note) and event.level == "warning"]
        assert found.step in ((0, 1) if failed else (1,))
        assert [event for event in events if isinstance(event, Progress)]
        assert not list(folder.glob(".*.tmp"))
        if not failed:
            break
    assert failing > 0


@pytest.mark.skipif(os.name != "posix", reason="limits of files are POSIX's")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_disk_that_fills_up_in_the_middle_of_a_write_leaves_the_checkpoint_before(
    share: float, tmp_path: Path
) -> None:
    import resource

    store, state = Checkpoints(tmp_path / "c", {}), fresh(Linear(), STEPS)
    store.save("fit", state)
    size = (tmp_path / "c" / "fit.checkpoint").stat().st_size
    state.step = 1
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * size), limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            store.save("fit", state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert is_full(caught.value)
    found = fresh(Linear(), STEPS)
    assert list(Checkpoints(tmp_path / "c", {}).restore("fit", found))
    assert found.step == 0
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["fit.before.checkpoint"]  # and no litter


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on POSIX")
def test_a_checkpoint_is_on_the_disk_before_it_has_its_name_and_the_name_before_more_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, calls = Checkpoints(tmp_path, {}), list[str]()
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        calls.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        real_fsync(descriptor)

    def replace(source: Any, target: Any, **options: Any) -> None:
        calls.append(f"name {Path(target).name}")
        real_replace(source, target, **options)

    store.save("fit", fresh(Linear(), STEPS))
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    store.save("fit", fresh(Linear(), STEPS))
    assert calls == ["name fit.before.checkpoint", "fsync file", "name fit.checkpoint", "fsync folder"]


def test_what_the_clock_decided_is_decided_again(tmp_path: Path) -> None:
    """The first machine slows down and ends by the clock; the second, a faster one, is told what was decided."""
    first = SlowMachine(4.0, lambda step: 0.05 if step < 20 else 0.09)
    told: list[Event] = []

    def run(machine: SlowMachine, recorded: dict[str, list[Decision]], store: Checkpoints | None) -> Learned:
        state = fresh(Linear(), 1000)
        if store is not None:
            list(store.restore("fit", state))
        steps = fit(
            state,
            samples(64),
            samples(30, 1),
            PLAIN,
            machine.left,
            "fit",
            None if store is None else functools.partial(save, store=store),
        )
        try:
            while True:
                event = next(steps)
                machine.see(event)
                if isinstance(event, Recall):
                    event.decided.extend(recorded.get(event.name, []))
                told.append(event)
        except StopIteration as end:
            learned: Learned = end.value
            return learned

    def save(state: State, at_once: bool, store: Checkpoints) -> None:
        assert not at_once
        store.save("fit", state)
        if state.step == 30 and told[-1:] != [None]:
            told.append(None)  # type: ignore[arg-type]
            raise CutOff

    whole = run(first, {}, None)
    recorded: dict[str, list[Decision]] = {}
    for event in told:
        if isinstance(event, Decision):
            recorded.setdefault(event.name, []).append(event)
    assert recorded["fit.horizon"]
    store = Checkpoints(tmp_path, {})
    with pytest.raises(CutOff):
        run(SlowMachine(100.0, lambda _: 0.01), recorded, store)
    again = run(SlowMachine(100.0, lambda _: 0.03), recorded, store)
    assert same(again.state, whole.state)
    assert again.ended == whole.ended


def cut_off_at(at: int, recorded: list[Decision], store: Checkpoints | None = None, slow: bool = False) -> Any:
    """Train, cut off by the clock at the event `at` unless that is negative; return what was learned and told."""
    clock, state = itertools.count(100.0, -0.5), fresh(Linear(), STEPS, most=3 * STEPS)
    if store is not None:
        list(store.restore("fit", state))
    keep = None if store is None else functools.partial(store.save_now_and_then, "fit")
    choices = dataclasses.replace(PLAIN, enough=0.8)  # so that it decides on the end besides
    steps = fit(state, samples(64), samples(30, 1), choices, lambda: next(clock) if slow else 1e9, "fit", keep)
    told = list[Event]()
    try:
        event = next(steps)
        while True:
            told.append(event)
            if isinstance(event, Recall):
                event.decided.extend(one for one in recorded if one.name == event.name)
            event = steps.throw(OutOfTimeError()) if len(told) - 1 == at else next(steps)
    except (StopIteration, OutOfTimeError) as end:
        return getattr(end, "value", None), told


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("saved", [False, True])
def test_a_fit_that_the_clock_cut_off_is_cut_off_again_at_the_same_place(
    saved: bool, slow: bool, tmp_path: Path
) -> None:
    """Wherever that was, on a machine that is slower now or not, from the start or from a checkpoint."""
    _, whole = cut_off_at(-1, [])
    assert decided(whole) == ["fit.last_step", "fit.ended"]
    for at, event in enumerate(whole):
        if isinstance(event, Recall):
            continue
        store = Checkpoints(tmp_path / f"{at}", {}, every_seconds=0.0) if saved else None
        first, told = cut_off_at(at, [], store)
        again, anew = cut_off_at(-1, [one for one in told if isinstance(one, Decision)], store, slow)
        assert decided(anew) == decided(told)
        assert (first is None) == (again is None)
        if first is not None:
            assert (first.best_step, first.ended) == (again.best_step, again.ended) == (first.best_step, "interrupted")
            assert [epoch.step for epoch in first.epochs] == [epoch.step for epoch in again.epochs]
            assert same(first.state, again.state)


def test_a_cut_off_is_not_missed_by_a_fit_that_tells_more_now() -> None:
    """The one that goes on had less memory, and said so at an earlier step."""
    first, told = cut_off_at(20, [])
    assert decided(told) == ["fit.cut_off"]
    recorded = [one for one in told if isinstance(one, Decision)]
    half = Decision("fit.micro_batch", {"at": 2, "pictures": 4, "equal": True}, "memory was short")
    again, anew = cut_off_at(-1, [*recorded, half])
    assert decided(anew) == ["fit.micro_batch", "fit.cut_off"]
    assert (again.ended, again.best_step) == (first.ended, first.best_step) == ("interrupted", first.best_step)
    step = told[20].done
    passed, _ = cut_off_at(-1, [Decision("fit.cut_off", [step, 99], "a place where nothing is told")])
    assert passed.ended == "interrupted", "what was passed counts, too"


def test_a_fit_that_the_clock_ended_and_that_had_trouble_there_ends_so_again() -> None:
    """Its last step, of a pass that is not over, is the first whose weights are no numbers."""

    class Spoilt(Linear):
        def __init__(self) -> None:
            super().__init__()
            self.layer.weight.register_hook(lambda grad: grad * math.nan if self.calls == 13 else grad)

    def ended(recorded: list[Event], slow: bool) -> tuple[Learned, list[Event]]:
        machine, told = SlowMachine(1000.0, lambda step: 1e6 if slow and step == 12 else 0.001), list[Event]()
        train = samples(64)
        state = fresh(Spoilt(), 1000)
        steps = fit(state, train, train.at(train.rows[:0]), PLAIN, machine.left, "fit")
        try:
            while True:
                told.append(next(steps))
                machine.see(told[-1])
                if isinstance(event := told[-1], Recall):
                    event.decided.extend(
                        one for one in recorded if isinstance(one, Decision) and one.name == event.name
                    )
        except StopIteration as end:
            return end.value, told

    first, told = ended([], slow=True)
    assert first.ended == "diverged"
    assert decided(told)[-2:] == ["fit.time_up", "fit.ended"]
    again, anew = ended(told, slow=False)
    assert [event for event in anew if isinstance(event, Decision)] == [e for e in told if isinstance(e, Decision)]
    assert same(first.state, again.state)


def decided(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, Decision)]
