"""The page of `export` in a browser: hostile names do nothing, every form is there, phones and readers cope."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tellapart.report.export_page import ExportedClass, ExportedForm, ExportPage, render_export
from tests.report.hostile import corpus
from tests.report.test_browser import LISTEN

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def form(precision: str, chosen: bool = False, refused: str | None = None, measured: bool = True) -> ExportedForm:
    found = (0.93, 0.91, 0.95, -0.5, -1.5, 0.4, 0.987, 2, refused, chosen)
    if not measured:
        return ExportedForm(precision, "onnxruntime", 8_908_516, None, None, None, None, *found)
    return ExportedForm(precision, "onnxruntime", 8_908_516, 4.2, 4.5, 310.4, 58_000_000, *found)


def page_of(names: tuple[str, ...]) -> ExportPage:
    """A page with a name in every place where one can stand."""
    return ExportPage(
        bundle=names[0],
        out=names[1],
        to="any ONNX runtime",
        precision="int8",
        why="it is the fastest",
        n=600,
        threads=2,
        batch=8,
        machine=names[2],
        forms=(form("as it is"), form("fp16", refused=names[3], measured=False), form("int8", chosen=True)),
        classes=tuple(ExportedClass(name, 9, 0.9, 0.8) for name in names),
    )


@pytest.fixture(params=[(390, "light"), (1200, "dark")])
def place(request: pytest.FixtureRequest) -> tuple[int, str]:
    found: tuple[int, str] = request.param
    return found


def test_it_holds_every_number_and_no_name_does_anything(
    browser: Browser, tmp_path: Path, place: tuple[int, str]
) -> None:
    names = tuple(corpus(60))
    file = tmp_path / "export.html"
    file.write_text(render_export(page_of(names)), encoding="utf-8", errors="surrogateescape")
    width, scheme = place
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.add_init_script(LISTEN)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.goto(file.as_uri())
    assert [url for url in asked if url != file.as_uri() and not url.startswith("data:")] == []
    assert page.locator("script, iframe, form, img").count() == 0
    assert page.locator("#speed tbody tr").count() == page.locator("#accuracy tbody tr").count() == 3
    assert page.locator("#classes tbody tr").count() == len(names)
    chosen = page.locator("#speed tr.chosen").inner_text()
    assert "8.91 MB" in chosen
    assert "4.20 ms" in chosen
    assert "310" in chosen
    assert "58 MB" in chosen
    assert "91.0 to 95.0%" in page.locator("#accuracy tr.chosen").inner_text()
    assert "-1.50 to +0.40" in page.locator("#accuracy tr.chosen").inner_text()
    assert page.locator("#speed tr.skipped").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_one_runtime_and_no_changed_class_are_not_spelled_out() -> None:
    plain = dataclasses.replace(page_of(("a", "b", "c", "d")), classes=())
    text = render_export(plain)
    assert "Classes that changed" not in text
    assert "<small>onnxruntime</small>" not in text
