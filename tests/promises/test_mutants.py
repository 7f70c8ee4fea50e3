"""No damaged picture crashes, hangs or exhausts a scan: ten thousand of them, seeded."""

from __future__ import annotations

import sys

import pytest

from tests.promises.mutants import known_codes, largest_child_bytes, looked_at

pytestmark = pytest.mark.promise

COUNT = 10_000


def test_every_mutant_gets_a_verdict_that_is_documented():
    verdicts = looked_at(COUNT)
    assert verdicts.total() == COUNT
    assert set(verdicts) - {"used"} <= known_codes()
    assert verdicts["used"] > COUNT / 20, "some damage is not seen"
    assert verdicts["decoder_crash"] == verdicts["decode_timeout"] == 0
    if sys.platform == "linux":
        assert 1e6 < largest_child_bytes() < 512e6
