"""No damaged picture crashes, hangs or exhausts a scan: ten thousand of them, seeded."""

from __future__ import annotations

import sys

import pytest

from .mutants import known_codes, largest_child_bytes, looked_at, mutant

pytestmark = pytest.mark.promise

COUNT = 10_000


def test_every_mutant_gets_a_verdict_that_is_documented() -> None:
    verdicts, grave = looked_at(COUNT)
    assert grave == []
    assert verdicts.total() == COUNT
    assert set(verdicts) - {"used"} <= known_codes()
    assert verdicts["used"] > COUNT / 20, "some damage is not seen"
    if sys.platform == "linux":
        assert 1e6 < largest_child_bytes() < 512e6


def test_a_mutant_is_a_function_of_its_number() -> None:
    again = [mutant(number) for number in range(200)]
    assert again == [mutant(number) for number in range(200)]
    assert len(set(again)) > 190
