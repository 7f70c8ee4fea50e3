"""The page in a real browser: what a person can do with it, and what a hostile name cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tellapart.report import Summary, render
from tests.report.conftest import everywhere
from tests.report.hostile import corpus

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

SummaryMaker = Callable[..., Summary]

LISTEN = """
window.found = [];
window.alert = window.confirm = window.prompt = (text) => { window.found.push(`alert ${text}`); };
addEventListener("securitypolicyviolation", (event) => window.found.push(`policy ${event.violatedDirective}`), true);
addEventListener("error", (event) => window.found.push(`error ${event.message}`), true);
"""

# Every control is used, and every element gets the events that handlers in attributes wait for.
USE_EVERYTHING = """() => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  const shut = () => { for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close(); };
  for (const control of document.querySelectorAll("button, a, summary")) {
    control.focus(); control.click();
    for (const key of ["ArrowRight", "ArrowLeft"])
      document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    shut();
  }
  for (const choice of document.querySelectorAll("select")) {
    for (const option of choice.options) { choice.value = option.value; choice.dispatchEvent(new Event("change")); }
    choice.value = ""; choice.dispatchEvent(new Event("change"));
  }
  for (const name of ["mouseover", "mouseenter", "focus", "toggle", "load", "begin", "pointerdown"])
    for (const element of document.querySelectorAll("*")) element.dispatchEvent(new Event(name));
  dispatchEvent(new Event("beforeprint"));
}"""

ELEMENTS = """() => [...document.querySelectorAll("*")].map(
  (element) => [element.localName, ...[...element.attributes].map((one) => one.name)
  .filter((name) => name !== "aria-current").sort()].join(" "))"""


class Opened:
    """A page in the browser, and what it did that a report must not do."""

    def __init__(self, browser: Browser, folder: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.folder = folder
        self.did: list[str] = []
        self.page.on("dialog", self._dialog)
        self.page.on("pageerror", lambda error: self.did.append(f"error {error}"))
        self.page.on("console", lambda said: self.did.append(f"console {said.text}"))
        self.page.on("request", lambda request: self.did.append(f"request {request.url[:80]}"))
        self.page.on("popup", lambda _: self.did.append("popup"))
        if options.get("java_script_enabled", True):
            self.page.add_init_script(LISTEN)

    def _dialog(self, dialog: Dialog) -> None:
        self.did.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def show(self, summary: Summary) -> Page:
        """Open the report of a run; asking for it, and for pictures in it, is no fault."""
        file = self.folder / "report.html"
        file.write_text(render(summary), encoding="utf-8")
        self.page.goto(file.as_uri())
        return self.page

    @property
    def faults(self) -> list[str]:
        """What it did, and should not have done."""
        own = ("request file:", "request data:image/jpeg;base64,", "request data:,")
        return [one for one in self.did if not one.startswith(own)] + list(self.page.evaluate("window.found"))


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Return what opens an empty page, of a width and with other options of a browser's context."""
    contexts = []

    def open_(width: int = 1280, **options: Any) -> Opened:
        page = Opened(browser, tmp_path, viewport={"width": width, "height": 900}, **options)
        contexts.append(page.context)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize("start", [0, *(pytest.param(n, marks=pytest.mark.promise) for n in range(100, 500, 100))])
def test_five_hundred_hostile_names_do_nothing(
    make_summary: SummaryMaker, opened: Callable[..., Opened], start: int
) -> None:
    report = opened()
    for part in range(start, start + 100, 25):
        names = corpus()[part : part + 25]
        assert len(set(names)) == 25
        calm = tuple(f"{part + index}".ljust(len(name), "x") for index, name in enumerate(names))
        expected = Counter(report.show(everywhere(make_summary, calm)).evaluate(ELEMENTS))
        page = report.show(everywhere(make_summary, names))
        assert Counter(page.evaluate(ELEMENTS)) == expected
        page.evaluate(USE_EVERYTHING)
        assert report.faults == []
        assert page.url.split("#")[0].endswith("/report.html")


def test_the_listeners_hear_what_a_hostile_name_would_do(
    make_summary: SummaryMaker, opened: Callable[..., Opened], tmp_path: Path
) -> None:
    report = opened()
    html = render(make_summary())
    for payload in ("<script>alert(1)</script>", "<img src=https://evil.example/x onerror=alert(1)>"):
        report.folder.joinpath("broken.html").write_text(html.replace("<main>", f"<main>{payload}"), encoding="utf-8")
        report.page.goto(tmp_path.joinpath("broken.html").as_uri())
        assert any(fault.startswith("policy") for fault in report.faults), payload


def test_a_count_opens_its_pictures_and_a_picture_opens_large(
    make_summary: SummaryMaker, opened: Callable[..., Opened]
) -> None:
    report = opened()
    summary = make_summary(tuple("abcdefgh"), 160, 1.0)
    page = report.show(summary)
    link = page.locator(".matrix a").first
    count = int(link.inner_text())
    link.click()
    sheet = page.locator("#sheet")
    assert sheet.is_visible()
    figures = sheet.locator("figure")
    assert 1 <= figures.count() <= count
    page.keyboard.press("Escape")
    assert not sheet.is_visible()
    page.locator("#mistakes-cards .open").nth(1).click()
    light = page.locator("#light")
    assert light.is_visible()
    shown = len(summary.mistakes)
    assert page.locator("#light-at").inner_text() == f"2 of {shown}"
    assert summary.mistakes[1].path in light.inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#light-at").inner_text() == f"{shown} of {shown}"
    page.keyboard.press("Escape")
    assert not light.is_visible()
    assert report.faults == []


def test_a_cell_of_the_map_of_many_classes_opens_its_pictures(
    make_summary: SummaryMaker, opened: Callable[..., Opened]
) -> None:
    report = opened()
    page = report.show(make_summary(tuple(f"species {number}" for number in range(40)), 400, 1.0))
    page.locator(".heat a").first.click()
    assert page.locator("#sheet figure").first.is_visible()
    assert report.faults == []


def test_a_gallery_shows_the_pictures_of_one_class(make_summary: SummaryMaker, opened: Callable[..., Opened]) -> None:
    report = opened()
    summary = make_summary(tuple("abcdefgh"), 160, 1.0)
    page = report.show(summary)
    page.locator(".filter select").select_option(label="c")
    wanted = sum("c" in (card.label, card.predicted) for card in summary.mistakes)
    assert 0 < wanted < len(summary.mistakes)
    assert page.locator("#mistakes-cards figure:visible").count() == wanted
    assert page.locator(".filter [role=status]").inner_text() == f"{wanted} of {len(summary.mistakes)} pictures"


def test_the_table_of_classes_sorts_by_the_column_that_is_pressed(
    make_summary: SummaryMaker, opened: Callable[..., Opened]
) -> None:
    page = opened().show(make_summary(tuple("abcdefghij"), 160, 1.0))
    names = page.locator("table.sortable tbody th")
    page.get_by_role("button", name="Class", exact=True).click()
    assert names.all_inner_texts() == list("abcdefghij")
    page.get_by_role("button", name="Class", exact=True).click()
    assert names.all_inner_texts() == list("jihgfedcba")
    page.get_by_role("button", name="Named so").click()
    told = [int(text) for text in page.locator("table.sortable tbody td:nth-child(7)").all_inner_texts()]
    assert told == sorted(told)


def test_colours_follow_the_system_until_they_are_chosen(
    make_summary: SummaryMaker, opened: Callable[..., Opened]
) -> None:
    page = opened(color_scheme="dark").show(make_summary())
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Theme: light"
    assert page.evaluate(paper) != dark
    page.locator("#theme").click()
    assert page.evaluate(paper) == dark


# What is read must stand out from what is behind it: 4.5 to 1, or 3 to 1 where it is large (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (colours) => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    const style = getComputedStyle(element);
    if (!text || !element.checkVisibility() || element.matches(".none, .unseen, title, desc, script, option")) continue;
    const behind = [];
    for (let node = element; node; node = node.parentElement) behind.unshift(getComputedStyle(node).backgroundColor);
    const svg = element instanceof SVGElement;
    const [a, b] = [over(["white", ...behind]), over(["white", ...behind, svg ? style.fill : style.color])].map(light);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) faint.push(`${element.localName}.${element.className} ${text} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(
    make_summary: SummaryMaker, opened: Callable[..., Opened], scheme: str
) -> None:
    for skill, method in ((0.0, "probe"), (1.0, "probe"), (3.0, "majority")):
        page = opened(color_scheme=scheme).show(make_summary(tuple("abcdefgh"), 160, skill, method=method))
        assert page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_the_page_fits_its_width(
    make_summary: SummaryMaker, opened: Callable[..., Opened], width: int, num_classes: int
) -> None:
    classes = tuple(f"a_rather_long_name_of_a_class_{number}" for number in range(num_classes))
    page = opened(width).show(make_summary(classes, 4 * num_classes + 100, 1.5))
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_all_of_it_can_be_read(make_summary: SummaryMaker, opened: Callable[..., Opened]) -> None:
    page = opened(java_script_enabled=False).show(make_summary(tuple("abcdefgh"), 160, 1.0))
    for control in ("#theme", ".filter", ".copy"):
        assert page.locator(control).first.is_hidden()
    page.locator(".behind > summary").click()
    link = page.locator(".matrix a").first
    assert page.locator(str(link.get_attribute("href"))).locator("figure").first.is_visible()
    assert page.locator("#mistakes figure").first.is_visible()


def test_every_control_can_be_reached_and_named_by_keyboard(
    make_summary: SummaryMaker, opened: Callable[..., Opened]
) -> None:
    page = opened().show(make_summary())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, a, select")].filter((one) => one.tabIndex < 0 ||
          !(one.textContent.trim() || one.labels?.length || one.ariaLabel)).map((one) => one.outerHTML)"""
    )
    assert unnamed == []
