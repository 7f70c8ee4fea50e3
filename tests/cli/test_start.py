"""A budget counts from the creation of the command's process, or from the call where another program makes one."""

from __future__ import annotations

import time

from tellapart.cli.start import called, spent
from tellapart.ladder.clock import seconds_since_process_creation


def test_the_age_of_the_program_around_is_none_of_its_budgets():
    before = time.monotonic()
    called(inside=True)
    assert 0.0 <= spent() <= time.monotonic() - before
    called(inside=False)
    age = seconds_since_process_creation()
    assert age <= spent() + 0.02
