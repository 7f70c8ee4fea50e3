"""A verb can be watched, written down and interrupted at any event."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tellapart.driving import Signals, drive, finish
from tellapart.errors import InterruptedRunError, OutOfTimeError
from tellapart.events import Decision, Event, Note, Progress, Steps, decide, follow


def counting(total: int, seen: list[str]) -> Steps[str]:
    try:
        for done in range(total):
            yield Progress("count", done, total)
    except InterruptedRunError as error:
        seen.append(error.code)
        yield Note("info", "tidying up")
        return "early"
    return "whole"


def test_a_verb_returns_its_result_and_shows_every_event() -> None:
    events: list[Event] = []
    assert finish(counting(5, []), events.append) == "whole"
    assert len(events) == 5


def test_decisions_and_notes_are_written_in_order_and_progress_is_not(tmp_path: Path) -> None:
    def steps() -> Steps[int]:
        yield Progress("a", 1, 2)
        yield Decision("size", 32, "they are small")
        yield Note("warning", "odd")
        return 3

    assert drive(steps(), tmp_path, None, lambda: None) == (3, 0)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(line["seq"], line["event"]) for line in lines] == [(1, "Decision"), (2, "Note")]
    assert (lines[0]["name"], lines[0]["value"], lines[0]["evidence"]) == ("size", 32, "they are small")


def test_a_decision_is_on_the_disk_before_it_takes_effect(tmp_path: Path) -> None:
    def steps() -> Steps[str]:
        yield Decision("size", 32, "they are small")
        return (tmp_path / "events.jsonl").read_text()

    text, _ = drive(steps(), tmp_path, None, lambda: None)
    assert '"size"' in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_lets_a_verb_keep_what_it_has(tmp_path: Path, number: signal.Signals, code: int) -> None:
    seen: list[str] = []
    told: list[str] = []

    def watch(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    assert drive(counting(100, seen), tmp_path, watch, lambda: told.append("asked")) == ("early", code)
    assert (seen, told) == (["interrupted"], ["asked"])
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_everything(tmp_path: Path) -> None:
    def watch(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        drive(counting(100, []), tmp_path, watch, lambda: None)


def test_a_file_named_stop_ends_a_run_cleanly(tmp_path: Path) -> None:
    (tmp_path / "STOP").touch()

    def endless() -> Steps[str]:
        try:
            while True:
                yield Progress("wait", 0, None)
        except InterruptedRunError:
            return "stopped"

    assert drive(endless(), tmp_path, None, lambda: None) == ("stopped", 0)


def test_a_follower_can_cut_a_part_short() -> None:
    seen: list[str] = []
    cut = follow(counting(100, seen), lambda e: OutOfTimeError() if isinstance(e, Progress) and e.done == 5 else None)
    assert finish(cut) == "early"
    assert seen == ["out_of_time"]


def test_an_interruption_from_above_reaches_the_innermost_part() -> None:
    seen: list[str] = []
    steps = follow(follow(counting(100, seen), lambda _: None), lambda _: None)
    next(steps)
    assert steps.throw(InterruptedRunError(2)) == Note("info", "tidying up")
    assert seen == ["interrupted"]


def test_a_part_that_must_be_ended_lets_an_interruption_go_by() -> None:
    seen: list[str] = []
    steps = follow(counting(3, seen), lambda _: None, deaf=True)
    next(steps)
    assert steps.throw(InterruptedRunError(2)) == Progress("count", 1, 3)
    assert finish(steps) == "whole"
    assert seen == []


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_an_unhurried_attempt_decided_is_not_asked_for_in_a_hurry(interrupted: bool, tmp_path: Path) -> None:
    def steps() -> Steps[Any]:
        with contextlib.suppress(InterruptedRunError):
            yield Progress("work", 0, 1)
        return (yield from decide("rounds", 1, "what there is time for"))

    recorded = {"rounds": deque([Decision("rounds", 8, "there was time")])}
    with Signals() as signals:
        if interrupted:
            signal.raise_signal(signal.SIGINT)
        found, _ = drive(steps(), tmp_path, None, lambda: None, signals, recorded)
    assert found == (1 if interrupted else 8)
