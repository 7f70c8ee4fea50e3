"""The page of `explain` in a browser: hostile names do nothing, it holds what it is given, phones and readers cope."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tellapart.errors import PictureError
from tellapart.judge.maps import Place
from tellapart.judge.sanity import Sanity
from tellapart.report.explain_page import ExplainPage, FilterSheet, render_explain
from tellapart.report.explained import Evidence, ExplainedPicture, Neighbour
from tellapart.report.overlay import layer_png, png
from tellapart.runtime.predictor import Failure, Prediction
from tests.report.conftest import picture
from tests.report.hostile import corpus
from tests.report.test_browser import LISTEN

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def page_of(names: tuple[str, ...], shown: bool = True) -> ExplainPage:
    """A page with a name in every place where one can stand."""
    layer = layer_png(np.full((48, 48, 4), 90, np.uint8)) if shown else b""
    map_ = np.ones((7, 7), np.float32) if shown else None
    where = Place("upper left", 0.6, 0.1) if shown else None
    pictures: list[ExplainedPicture | Failure] = []
    for number, name in enumerate(names):
        other = names[-1 - number]
        found = Prediction(
            name, name, 0.9, np.array([0.9, 0.1]), np.zeros(3, np.float32), 0.1, "unsure", ((name, 0.9), (other, 0.1))
        )
        near = (Neighbour(number, 0.5, picture(number)),)
        pictures.append(
            ExplainedPicture(
                found,
                Evidence(name, 0.9, map_, where, 0.3, near, layer),
                Evidence(other, 0.1, map_, where, 0.1, near, layer),
                ((name, 9), (other, 1)),
                picture(number),
                (48, 48),
                png(np.zeros((4, 8, 3), np.uint8)),
                png(np.ones((4, 8, 3), np.uint8)),
                "001-a.png",
            )
        )
    pictures.append(Failure(names[0], PictureError("corrupt", names[1])))
    return ExplainPage(
        bundle=names[0],
        classes=names,
        method="class_activation",
        kind="probe",
        backbone=names[1],
        sanity=Sanity(shown, 12, f"Said of {names[2]}.", 0.3, 0.1, 0.2, 0.6, 0.9, 0.6, 0.001),
        pictures=tuple(pictures),
        notes=names,
        filters=FilterSheet(png(np.full((4, 8, 3), 9, np.uint8)), 32, (3, 3), True),
        tellapart=names[-1],
    )


@pytest.mark.parametrize("start", [0, 250])
def test_hostile_names_do_nothing(browser: Browser, tmp_path: Path, start: int) -> None:
    context = browser.new_context()
    page = context.new_page()
    did: list[str] = []
    page.on("dialog", lambda dialog: did.append(dialog.message))
    page.on("console", lambda said: did.append(said.text))
    page.on("request", lambda request: did.append(request.url[:60]))
    page.add_init_script(LISTEN)
    for part in range(start, start + 250, 50):
        names = corpus()[part : part + 50]
        file = tmp_path / "explain.html"
        file.write_text(render_explain(page_of(names)), encoding="utf-8")
        page.goto(file.as_uri())
        page.locator("#theme").click()
        assert page.locator("main section").count() == len(names) + 3
        assert page.evaluate("window.found") == []
    assert [one for one in did if not one.startswith(("file:", "data:image/"))] == []
    context.close()


def test_a_map_lies_over_its_photo_and_is_told_in_words(browser: Browser, tmp_path: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    file = tmp_path / "explain.html"
    file.write_text(render_explain(page_of(("ants", "bees", "flies"))), encoding="utf-8")
    page.goto(file.as_uri())
    mapped = page.locator(".mapped").first
    assert mapped.get_attribute("role") == "img"
    assert "upper left, 60% of the map in 10% of the picture" in (mapped.locator("title").text_content() or "")
    photo, layer = mapped.locator("use").all()
    assert photo.bounding_box() == layer.bounding_box()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def test_no_map_is_drawn_where_none_may_be_shown() -> None:
    html = render_explain(page_of(("ants", "bees", "flies"), shown=False))
    assert "pic mapped" not in html
    assert "not shown" in html
