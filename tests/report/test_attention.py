"""Where a model looks, on the page: maps over mistakes that can be taken off, and a shortcut said first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tellapart.judge.borders import Borders
from tellapart.judge.sanity import Sanity
from tellapart.report import Summary, render, verdict
from tellapart.report.attention import Attention
from tellapart.report.overlay import layer_png

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SummaryMaker = Callable[..., Summary]
SHOWN = Sanity(True, 12, "The maps may be shown.", 0.3, 0.1, 0.2, 0.5, 0.8, 0.5, 0.0002)
CALM = Borders(40, 2, 30, 0.4375, "", 0.2, 0.1, "upper left", 0.1, 0.05)
WARNED = dataclasses.replace(CALM, words="Its answers may hang on a shortcut at the border: 30 of 40 move.")


def looking(make_summary: SummaryMaker, borders: Borders) -> Summary:
    summary = make_summary(tuple("abcdefgh"), 160, 1.0)
    layer = layer_png(np.full((40, 40, 4), 120, np.uint8))
    cards = [
        dataclasses.replace(card, layer=layer, where="upper left, 60% of the map in 10% of the picture")
        for card in summary.mistakes[:3]
    ]
    differences = np.full((7, 7), 1 / 49)
    shown = tuple(dataclasses.replace(one, examples=tuple(cards)) for one in summary.answers)
    found = Attention("class_activation", SHOWN, borders, differences, 3)
    return dataclasses.replace(summary, mistakes=(*cards, *summary.mistakes[3:]), answers=shown, attention=found)


def test_a_shortcut_is_the_first_thing_to_mind(make_summary: SummaryMaker) -> None:
    assert verdict(looking(make_summary, WARNED)).cautions[0] == WARNED.words
    assert WARNED.words not in verdict(looking(make_summary, CALM)).cautions
    assert WARNED.words in render(looking(make_summary, WARNED))


def test_report_json_has_the_numbers_and_no_pictures(make_summary: SummaryMaker) -> None:
    told = looking(make_summary, CALM).as_json()
    assert told["attention"]["sanity"]["p"] == 0.0002
    assert told["attention"]["borders"]["ring_moves"] == 2
    assert told["mistakes"][0]["where"].startswith("upper left")
    assert "layer" not in told["mistakes"][0]
    assert "where" not in told["mistakes"][5]


def test_maps_lie_over_mistakes_and_can_be_taken_off(
    make_summary: SummaryMaker, browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    file = tmp_path / "report.html"
    file.write_text(render(looking(make_summary, CALM)), encoding="utf-8")
    page.goto(file.as_uri())
    maps = page.locator("#mistakes-cards .map")
    assert maps.count() == 3
    assert maps.first.is_visible()
    photo = page.locator("#mistakes-cards .mapped .photo").first
    assert photo.bounding_box() == maps.first.bounding_box()
    small = page.locator(".thumb .map")
    assert small.count() >= 3
    assert not any(small.nth(at).is_visible() for at in range(small.count())), "small pictures are as they were"
    page.locator("#maps").uncheck()
    assert not maps.first.is_visible()
    assert photo.is_visible()
    page.locator("#mistakes-cards .open").first.click()
    assert "60% of the map" in page.locator("#light").inner_text()
    context.close()


def test_without_maps_there_is_nothing_to_take_off(make_summary: SummaryMaker) -> None:
    html = render(make_summary(tuple("abcdefgh"), 160, 1.0))
    assert 'id="maps"' not in html
    assert 'id="attention"' not in html
