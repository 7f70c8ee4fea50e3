"""A real network answers alike for pictures that were decoded in full and at a reduced scale."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reduced import answers_of_both


@pytest.mark.weights
def test_a_reduced_decode_changes_no_answer_that_was_not_a_near_tie(hymenoptera: list[bytes]) -> None:
    found = answers_of_both(hymenoptera[::12])
    assert found.levels.mean() <= 0.3
    leads = np.sort(found.full, axis=1)[:, -1] - np.sort(found.full, axis=1)[:, -2]
    changed = found.full.argmax(1) != found.reduced.argmax(1)
    assert (leads[changed] < 0.05).all(), "probability of the likeliest less that of the next"
