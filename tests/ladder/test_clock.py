"""The budget counts from the creation of the process."""

from __future__ import annotations

import subprocess
import sys

from tellapart.ladder.clock import Clock, seconds_since_process_creation


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
