"""What those need who do not see the page, or do not use a mouse: landmarks, headings, captions, titles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from tellapart.report import Summary, render

SummaryMaker = Callable[..., Summary]
VOID = {"meta", "link"}


class Outline(HTMLParser):
    """What a screen reader goes by: every element, its attributes, the tags in it, the text in it."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[tuple[str, dict[str, str]]] = []
        self.elements: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.children: list[list[str]] = []
        self.closed: list[tuple[str, dict[str, str], list[str], str]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given, tuple(name for name, _ in self.stack)))
        if self.children:
            self.children[-1].append(tag)
        if tag not in VOID:
            self.stack.append((tag, given))
            self.children.append([])
            self.texts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.children[-1].append(tag)

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        _, given = self.stack.pop()
        text = self.texts.pop()
        if self.texts:
            self.texts[-1] += text
        self.closed.append((tag, given, self.children.pop(), " ".join(text.split())))

    def of(self, tag: str) -> list[tuple[dict[str, str], list[str], str]]:
        """Attributes, children and text of every element of a kind."""
        return [(given, inner, text) for name, given, inner, text in self.closed if name == tag]


@pytest.fixture(params=[2, 8, 60])
def outline(make_summary: SummaryMaker, request: pytest.FixtureRequest) -> Outline:
    """The outline of a report of so many classes."""
    num = request.param
    return Outline(render(make_summary(tuple(f"class {number:02d}" for number in range(num)), 100 + 3 * num, 1.2)))


def test_every_drawing_has_a_title_and_a_description_or_is_no_content(outline: Outline) -> None:
    drawings = outline.of("svg")
    assert len(drawings) > 10
    for given, inner, _ in drawings:
        if given.get("aria-hidden") != "true":
            assert given["role"] == "img"
            assert inner[:2] == ["title", "desc"]
    assert all(text for tag in ("title", "desc") for _, _, text in outline.of(tag))


def test_every_table_has_a_caption_and_every_head_a_scope(outline: Outline) -> None:
    assert all(inner[0] == "caption" for _, inner, _ in outline.of("table"))
    assert {given.get("scope") for given, _, _ in outline.of("th")} == {"row", "col"}
    assert all(text for _, _, text in outline.of("caption"))


def test_headings_go_down_one_level_at_a_time_and_say_something(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _, _ in outline.elements if tag in {"h1", "h2", "h3", "h4"}]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
    assert all(text for tag in ("h1", "h2", "h3") for _, _, text in outline.of(tag))


def test_the_page_has_its_landmarks_and_each_section_its_name(outline: Outline) -> None:
    tags = [tag for tag, _, _ in outline.elements]
    assert [tags.count(tag) for tag in ("nav", "main", "footer")] == [1, 1, 1]
    ids = {given["id"] for _, given, _ in outline.elements if "id" in given}
    assert all(given["aria-labelledby"] in ids for given, _, _ in outline.of("section"))
    assert all(given.get("aria-label") for given, _, _ in outline.of("div") if given.get("role") == "region")
    assert next(given for tag, given, _ in outline.elements if tag == "html")["lang"] == "en"


def test_what_scrolls_can_be_scrolled_by_keyboard(outline: Outline) -> None:
    boxes = [given for given, _, _ in outline.of("div") if "scroll" in given.get("class", "").split()]
    assert boxes
    assert all(given.get("tabindex") == "0" and given.get("role") == "region" for given in boxes)
