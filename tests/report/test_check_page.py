"""The page of `check`: choices become a corrections.csv, and hostile names do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tellapart.data.corrections import read_corrections
from tellapart.images import thumbnail_jpeg
from tellapart.report import CheckPage, Found, FoundPicture, render_check
from tests.report.hostile import corpus

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LISTEN = """
window.found = [];
window.alert = window.confirm = window.prompt = (text) => { window.found.push(`alert ${text}`); };
addEventListener("securitypolicyviolation", (event) => window.found.push(`policy ${event.violatedDirective}`), true);
addEventListener("error", (event) => window.found.push(`error ${event.message}`), true);
"""


def page_of(names: list[str], classes: tuple[str, ...] = ("ants", "bees, wild")) -> CheckPage:
    """Return a page with two findings about pictures of these names; the second is about the first three alone."""
    jpegs = [thumbnail_jpeg(np.full((32, 32, 3), 7 * number % 256, dtype=np.uint8), 32) for number in range(len(names))]
    pictures = tuple(
        FoundPicture(name, classes[0], 1 - number / 1000, classes[1], f"why {name}", f"{number:064x}", jpeg)
        for number, (name, jpeg) in enumerate(zip(names, jpegs, strict=True))
    )
    findings = (
        Found("label_suspect", 0.6, "5 labels do not fit.", "Look at them.", pictures),
        Found("quality", 0.1, "3 pictures are odd.", "Look at them.", pictures[:3]),
    )
    return CheckPage("photos", "photos", classes, {"found": 9, "used": 9, "excluded": 0}, findings, ("A note.",))


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(accept_downloads=True)
    opened = context.new_page()
    opened.add_init_script(LISTEN)
    yield opened
    context.close()


def test_choices_become_a_table_that_check_and_train_take(page: Page, tmp_path: Path) -> None:
    names = ['=ants/a "1",b.jpg', "ants/ü 2.jpg", "'=ants/3.jpg", "ants/4.jpg"]
    file = tmp_path / "check.html"
    file.write_text(render_check(page_of(names, ("ants", "=bees, wild"))), encoding="utf-8")
    page.goto(file.as_uri())
    assert not page.locator("#save").is_visible()
    first = page.locator("#label_suspect .suspect")
    first.nth(0).get_by_role("button", name="Drop").click()
    assert page.locator("#quality .suspect").nth(0).get_attribute("data-choice") == "drop", "one choice for a picture"
    first.nth(1).get_by_role("button", name="Relabel").click()
    page.locator("#give").click()
    first.nth(2).get_by_role("button", name="Keep").click()
    first.nth(3).get_by_role("button", name="Drop").click()
    first.nth(3).get_by_role("button", name="Drop").click()
    assert page.locator("#chosen").inner_text() == "1 to keep, 1 to relabel, 1 to drop"
    with page.expect_download() as download:
        page.locator("#download").click()
    saved = tmp_path / "corrections.csv"
    download.value.save_as(saved)
    assert download.value.suggested_filename == "corrections.csv"
    corrections = read_corrections(saved)
    chosen = {path: (entry.action, entry.label) for path, entry in corrections.by_path.items()}
    assert chosen == {names[0]: ("drop", ""), names[1]: ("relabel", "=bees, wild"), names[2]: ("keep", "")}
    assert corrections.of(names[1], f"{1:064x}") is not None
    page.locator("#show").click()
    assert page.locator("#csv").input_value() == saved.read_text(encoding="utf-8")
    assert page.evaluate("window.found") == []


def test_hostile_names_do_nothing(page: Page, tmp_path: Path) -> None:
    names = list(corpus()[:500:5])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url[:40]))
    file = tmp_path / "check.html"
    file.write_text(render_check(page_of(names, tuple(dict.fromkeys(names)))), encoding="utf-8")
    page.goto(file.as_uri())
    page.evaluate("""() => { for (const button of document.querySelectorAll(".choices button")) button.click(); }""")
    page.evaluate("""() => { for (const box of document.querySelectorAll("dialog[open]")) box.close(); }""")
    page.evaluate("""() => { document.getElementById("show").click(); }""")
    assert page.evaluate("window.found") == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_the_page_loads_nothing_and_runs_our_script_alone() -> None:
    html = render_check(page_of(["a.jpg"]))
    policy = html.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src &#39;none&#39;; img-src data:")
    assert "unsafe" not in policy
    assert html.count("<script>") == 1
    assert 'style="' not in html


def test_a_clean_set_is_said_to_be_clean() -> None:
    page = CheckPage("photos", "photos", ("a",), {"found": 1, "used": 1, "excluded": 0}, ())
    assert "Nothing is amiss in" in render_check(page)
