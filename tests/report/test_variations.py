from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from tellapart.images import thumbnail_jpeg
from tellapart.report import Strip, Summary, Variations, render


def picture(seed: int) -> bytes:
    return thumbnail_jpeg(np.random.default_rng(seed).integers(0, 256, (8, 56, 3), dtype=np.uint8), 56)


def test_varied_pictures_are_on_the_page_with_what_varying_cost(make_summary: Callable[..., Summary]) -> None:
    strips = tuple(Strip(picture(seed), f"ants/{seed}.png", "<ants>", 6) for seed in range(3))
    found = Variations("mirrored, moved by up to 4 px", 0.034, strips)
    summary = make_summary(("<ants>", "bees"), 40, 1.0, variations=found)
    page = render(summary)
    section = page[page.index('id="variations-h"') :].partition("</section>")[0]
    assert "mirrored, moved by up to 4 px" in section
    assert "3%" in section
    assert section.count("<use href=") == 3
    assert "&lt;ants&gt;: as it is, then varied 6 times" in section
    told = json.loads(json.dumps(summary.as_json()))["variations"]
    assert told["share"] == 0.034
    assert told["strips"][2] == {"path": "ants/2.png", "label": "<ants>", "count": 6}
    assert 'id="variations-h"' not in render(make_summary(("a", "b"), 40, 1.0))


def test_views_that_were_made_once_are_said_to_cost_a_step_nothing(make_summary: Callable[..., Summary]) -> None:
    found = Variations("mirrored", None, (Strip(picture(0), "ants/0.png", "ants", 6),))
    page = render(make_summary(("ants", "bees"), 40, 1.0, variations=found))
    section = page[page.index('id="variations-h"') :].partition("</section>")[0]
    assert "it took none of the time of a training step" in section
