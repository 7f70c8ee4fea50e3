"""The budget counts from the creation of the process."""

from __future__ import annotations

import subprocess
import sys
import threading

from tellapart.ladder.clock import Clock, processor_share, seconds_since_process_creation


def test_start_up_is_part_of_the_budget() -> None:
    clock = Clock(60.0, spent_already=55.0)
    assert 4.0 < clock.left() <= 5.0
    assert clock.spent() >= 55.0


def test_a_clock_is_only_ever_shortened() -> None:
    clock = Clock(60.0)
    clock.interrupt(1000.0)
    assert clock.left() > 59.0
    clock.interrupt(8.0)
    assert clock.left() <= 8.0


def test_the_age_of_a_process_includes_what_ran_before_it_asked() -> None:
    code = (
        "import time; began = time.perf_counter()\n"
        "while time.perf_counter() - began < 0.3: pass\n"
        "from tellapart.ladder.clock import seconds_since_process_creation as age; print(age())"
    )
    age = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 0.25 < age < 120.0
    assert seconds_since_process_creation() > 0.0


def test_the_share_of_a_processor_is_one_at_the_most_and_less_beside_others() -> None:
    assert 0.0 < processor_share() <= 1.0
    before = threading.active_count()
    ended = threading.Event()

    def hold() -> None:  # the interpreter's lock, as another program holds a processor
        while not ended.is_set():
            sum(range(2000))

    others = [threading.Thread(target=hold) for _ in range(3)]
    for thread in others:
        thread.start()
    try:
        assert processor_share() < 0.7
    finally:
        ended.set()
        for thread in others:
            thread.join()
    assert threading.active_count() == before
