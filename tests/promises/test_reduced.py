"""Large JPEG files are decoded at a reduced scale, and a network answers as it would for all of their pixels."""

from __future__ import annotations

import pytest

from tests.reduced import answers_of_both

pytestmark = pytest.mark.promise


@pytest.mark.weights
def test_the_likeliest_of_a_thousand_classes_stays_the_same_for_995_of_1000_reduced_photos(
    hymenoptera: list[bytes],
) -> None:
    found = answers_of_both(hymenoptera)
    assert found.levels.mean() <= 1.5
    changed = found.full.argmax(1) != found.reduced.argmax(1)
    assert changed.mean() <= 0.005, f"{changed.sum()} of {len(changed)}"
