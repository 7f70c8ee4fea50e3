from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import math
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tellapart.images import thumbnail_jpeg
from tellapart.judge import compare_corrupted, compare_slices
from tellapart.report import AnswerShare, ClassRow, LadderRow, PictureCard, SplitReport, Summary, render
from tellapart.report.words import visible
from tests.report.conftest import everywhere
from tests.report.hostile import HAND_MADE

SummaryMaker = Callable[..., Summary]
Attributes = list[tuple[str, str | None]]

SECTIONS = {
    "verdict",
    "next",
    "ladder",
    "splits",
    "classes",
    "confusion",
    "mistakes",
    "answers",
    "curves",
    "data",
    "decisions",
    "run",
}
VOID = {"meta", "link", "img"}
# SVG shapes that are written `<rect .../>`; the parser reports them as start and end together.
SHAPES = {"rect", "line", "circle", "path", "use", "image"}


class Page(HTMLParser):
    """The elements of a page as a browser would see them, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, Attributes]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.inlined: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        self.elements.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        assert tag in SHAPES
        self.elements.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            assert self.open[-1] not in self.inlined
            self.inlined[self.open[-1]] = data
        else:
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [value or "" for _, attrs in self.elements for name, value in attrs if name == "id"]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def of(self, attribute: str, of_tag: str | None = None) -> list[str]:
        return [
            value or ""
            for tag, attrs in self.elements
            for name, value in attrs
            if name == attribute and of_tag in (None, tag)
        ]


def parts(summary: Summary) -> Page:
    return Page(render(summary))


def test_a_run_shows_its_numbers(make_summary: SummaryMaker) -> None:
    metrics = {
        "n": 153,
        "accuracy": 148 / 153,
        "accuracy_low": 0.9254,
        "accuracy_high": 0.9893,
        "balanced_accuracy": 0.9682,
        "macro_f1": 0.9671,
        "log_loss": 0.1034,
        "ece": 0.0212,
    }
    rows = (
        ClassRow("ants", 70, 71, 0.958, 0.971, 0.901, 0.997, 0.964),
        ClassRow("bees", 83, 82, 0.976, 0.964, 0.898, 0.992, 0.970),
    )
    test = SplitReport(metrics, rows, np.array([[68, 2], [3, 80]]))
    page = parts(make_summary(splits={"test": test}))
    for fact in (
        "96.7%",
        "accuracy on 153 test pictures",
        "92.5 to 98.9%",
        "guessing: 54.2%",
        "0.967",
        "0.103",
        "0.021",
        "7.1\u00a0s",
        "98%",
        "0.083",
        "apache-2.0",
        "not an image",
        "of a budget of 2\u00a0min",
        "8.0\u00a0GB",
        "2026-03-04 05:06 UTC",
        "left out: the budget leaves 4 s",
    ):
        assert fact.replace("\u00a0", " ").lower() in page.words.replace("\u00a0", " ").lower(), fact
    assert "2 of ants called bees: 2.9%" in page.of("title")


def test_the_worst_corruption_is_told_and_the_rest_folded(make_summary: SummaryMaker) -> None:
    right = np.arange(100) % 10 > 0
    robust = compare_corrupted(right, {("blur", 1): right.copy(), ("noise", 3): np.arange(100) % 2 > 0})
    page = parts(make_summary(robustness=robust))
    told, _, rest = page.words.partition("All 2 corruptions")
    assert "Hardest is noise at strength 3 of 3: 50.0% of 100 test pictures are right then" in told
    assert "90.0% as they are" in told
    assert "blur 1 of 3 90.0%" in rest
    assert "No corruption is shown to cost accuracy" in parts(make_summary(robustness=robust[1:])).words
    assert "robustness-h" not in parts(make_summary()).ids


def test_the_kind_of_pictures_that_is_truly_worse_is_named(make_summary: SummaryMaker) -> None:
    right = np.arange(400) % 10 > 0
    right[:100] &= np.arange(100) % 3 > 0
    folders = ["night <b>"] * 100 + ["day"] * 300
    page = parts(make_summary(slices=compare_slices(right, {}, {"folder": folders})))
    assert "It is worse on pictures with folder night <b> : 60.0% of 100 are right" in page.words
    assert "90.0% of the other 300" in page.words
    none = parts(make_summary(slices=compare_slices(np.arange(400) % 10 > 0, {}, {"folder": folders})))
    assert "No kind of picture is shown to be worse than the rest." in none.words


def test_every_section_is_there_when_there_is_something_to_show(make_summary: SummaryMaker) -> None:
    page = parts(make_summary())
    assert set(page.ids) >= SECTIONS
    assert all(f"#{section}" in page.of("href") for section in SECTIONS)


def test_sections_without_anything_to_show_are_absent_and_not_linked(make_summary: SummaryMaker) -> None:
    page = parts(
        make_summary(epochs=(), mistakes=(), answers=(), decisions=(), notes=(), excluded=(), splits={}, machine={})
    )
    for section in ("curves", "mistakes", "answers", "decisions", "classes", "confusion", "splits"):
        assert section not in page.ids
        assert f"#{section}" not in page.of("href")


def test_links_lead_somewhere_and_no_place_is_named_twice(make_summary: SummaryMaker) -> None:
    for classes in (("ants", "bees"), tuple(f"class {number}" for number in range(12))):
        page = parts(make_summary(classes, 200, 1.2))
        assert max(Counter(page.ids).values()) == 1
        assert {link[1:] for link in page.of("href") if link.startswith("#")} <= set(page.ids)
        assert set(page.of("data-gallery")) <= set(page.ids)
        assert set(page.of("aria-labelledby")) <= set(page.ids)


def test_without_mistakes_it_says_so(make_summary: SummaryMaker) -> None:
    perfect = SplitReport({"n": 40, "accuracy": 1.0, "accuracy_low": 0.91, "accuracy_high": 1.0})
    assert "None, on 40 pictures." in parts(make_summary(splits={"test": perfect}, mistakes=())).words


def test_the_policy_allows_the_inlined_style_and_script_and_nothing_else(make_summary: SummaryMaker) -> None:
    page = parts(make_summary())
    policy = next(dict(attrs)["content"] for tag, attrs in page.elements if dict(attrs).get("http-equiv"))
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert set(rules) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.inlined[tag].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"


def test_the_policy_comes_before_anything_that_it_governs(make_summary: SummaryMaker) -> None:
    tags = [tag for tag, _ in parts(make_summary()).elements]
    assert tags[:4] == ["html", "head", "meta", "meta"]
    assert tags.count("script") == tags.count("style") == 1


def test_nothing_is_loaded_from_anywhere(make_summary: SummaryMaker) -> None:
    html = render(make_summary())
    page = Page(html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|srcset", html.replace("\n// ", "\n"))
    assert page.of("src") == []
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.of("href", "image"))
    assert all(link.startswith("#") for tag in ("a", "use") for link in page.of("href", tag))
    assert page.of("href", "link") == ["data:,"]
    assert {tag for tag, attrs in page.elements if "href" in dict(attrs)} == {"a", "use", "image", "link"}
    names = {name for _, attrs in page.elements for name, _ in attrs}
    assert not {name for name in names if name.startswith("on")} | (names & {"style", "action", "background"})


def test_pictures_are_ours_and_carry_no_metadata(make_summary: SummaryMaker) -> None:
    source = parts(make_summary()).of("href", "image")[0]
    jpeg = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    assert jpeg.startswith(b"\xff\xd8\xff")
    assert b"Exif" not in jpeg


def test_a_thumbnail_keeps_the_shape_of_its_picture() -> None:
    pixels = np.full((300, 600, 3), 200, dtype=np.uint8)
    with Image.open(io.BytesIO(thumbnail_jpeg(pixels, 100))) as small:
        assert (small.format, small.size) == ("JPEG", (100, 50))
        assert abs(int(np.asarray(small).mean()) - 200) <= 2


def test_a_picture_is_embedded_once_however_often_it_is_shown(make_summary: SummaryMaker) -> None:
    summary = make_summary()
    page = parts(summary)
    assert len(page.of("href", "image")) == len(summary.cards)
    assert len(page.of("href", "use")) > len(summary.cards)
    assert set(page.of("href", "use")) <= {f"#p{number}" for number in range(len(summary.cards))}


def test_classes_are_listed_worst_first(make_summary: SummaryMaker) -> None:
    html = render(make_summary(tuple("abcdefgh"), 160, 1.0))
    table = html[html.index('<table class="sortable">') : html.index("</table>", html.index('class="sortable"'))]
    found = [
        float(value)
        for value in re.findall(r'</td>\n<td class="n" data-v="([^"]+)">[^<]*</td>\n<td class="wide"', table)
    ]
    assert len(found) == 8
    assert found == sorted(found)
    assert 'aria-sort="ascending"' in table


def test_a_hundred_classes_show_their_worst_pairs_instead_of_a_matrix(make_summary: SummaryMaker) -> None:
    page = parts(make_summary(tuple(f"species {number:03d}" for number in range(100)), 400, 2.0))
    assert "A row is what the test pictures are" not in page.words
    assert "100 classes are too many for a table" in page.words
    assert "Confusion matrix of 100 classes" in page.words
    assert "called" in page.words


def test_a_cell_opens_the_pictures_behind_it(make_summary: SummaryMaker) -> None:
    summary = make_summary()
    page = parts(summary)
    card = summary.mistakes[0]
    pair = "-".join(str(summary.classes.index(label)) for label in (card.label, card.predicted))
    assert f"#cell-{pair}" in page.of("href", "a")
    assert f"cell-{pair}" in page.ids


def test_a_cell_of_the_map_of_many_classes_opens_its_pictures_too(make_summary: SummaryMaker) -> None:
    summary = make_summary(tuple(f"species {number:03d}" for number in range(40)), 400, 1.0)
    page, link = parts(summary), r'href="#cell-(\d+)-(\d+)" tabindex="-1"><rect class="hit" x="(\d+)" y="(\d+)"'
    places = re.findall(link, render(summary))
    assert len(places) > 10
    for true, predicted, x, y in places:
        assert (true, predicted) == (y, x)
        assert f"cell-{true}-{predicted}" in page.ids


def test_a_line_that_is_not_drawn_is_not_spoken_of(make_summary: SummaryMaker) -> None:
    summary = make_summary()
    split = dataclasses.replace(summary.splits["test"], ece_before=0.04)
    drawn = dataclasses.replace(split, reliability_before=split.reliability)
    words = [parts(dataclasses.replace(summary, splits={"test": one})).words for one in (drawn, split)]
    assert ["The faint line" in said for said in words] == [True, False]
    assert "Without calibration it would be 4.0% off on average" in words[1]


def test_a_run_with_one_epoch_shows_it(make_summary: SummaryMaker) -> None:
    summary = make_summary()
    page = parts(make_summary(epochs=summary.epochs[:1]))
    assert "curves" in page.ids


def test_numbers_that_are_none_or_not_a_number_show_as_a_dash(make_summary: SummaryMaker) -> None:
    made = make_summary()
    for value in (None, math.nan, math.inf):
        rows = tuple(ClassRow(label, 20, 20, value, value, value, value, value) for label in made.classes)
        metrics = dict.fromkeys(made.splits["test"].metrics, value) | {"n": 40}
        epochs = tuple(dataclasses.replace(epoch, train_loss=math.nan, val_loss=value) for epoch in made.epochs)
        ladder = (LadderRow("majority", None, math.nan, 9, 0.5, value), LadderRow("probe", None, 0.0, 9, 0.6, value))
        page = parts(
            make_summary(
                splits={"train": SplitReport(metrics, rows), "test": SplitReport(metrics, rows)},
                epochs=epochs,
                ladder=ladder,
                mistakes=(PictureCard(made.mistakes[0].jpeg, "p", "ants", "bees", math.nan),),
                answers=(AnswerShare("label", 0, 0.0, value),),
                thresholds={"min_prob": value, "max_novelty": value},
                seconds=math.nan,
            )
        )
        assert not re.search(r"\b(nan|inf|None)\b", page.words)
        places = [place for name in ("x", "x1", "x2", "cx", "y", "y1", "y2", "cy", "width") for place in page.of(name)]
        assert not [place for place in places if re.search("nan|inf|none", place, re.IGNORECASE)]


def test_any_kind_of_run_gives_a_page(make_summary: SummaryMaker) -> None:
    made = make_summary()
    val = made.splits["val"]
    for summary in (
        make_summary(method="majority", backbone=None),
        make_summary(splits={"val": val}),
        make_summary(ladder=()),
        make_summary(ladder=made.ladder[:1]),
        make_summary(counts={}, stages=(), recipe={}, thresholds={}),
        make_summary(("only",), 20),
        make_summary(balanced=True),
        make_summary(test_openings=3),
    ):
        assert set(parts(summary).ids) >= {"verdict", "next", "ladder", "data", "run"}


def test_a_page_is_under_5_mb_however_many_pictures_there_are(make_summary: SummaryMaker) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    classes = tuple(f"class {number}" for number in range(200))
    card = PictureCard(
        thumbnail_jpeg(noise, 224), "some/where/picture.jpg", "class 1", "class 2", 0.9, (("class 2", 0.9),)
    )
    html = render(
        make_summary(
            classes,
            10_000,
            2.0,
            mistakes=(card,) * 2000,
            excluded=tuple((f"class 1/{row}.jpg", "truncated", "It ends too early.") for row in range(10_000)),
            notes=tuple(f"Note {row}" for row in range(10_000)),
        )
    )
    assert len(html.encode()) < 5_000_000


# Numbered, so that harmless names can sort alike.
HOSTILE = tuple(f"{number}{name}" for number, name in enumerate(HAND_MADE))


@pytest.mark.parametrize("start", range(0, 64, 16))
def test_hostile_names_add_nothing_to_the_page_but_text(make_summary: SummaryMaker, start: int) -> None:
    hostile = HOSTILE[start : start + 16]
    # Harmless names that sort alike, so that both pages list the same things in the same order.
    harmless = tuple(
        re.sub(r"(\d+).*", r"\1", name, flags=re.DOTALL).ljust(len(visible(name)), "x") for name in hostile
    )
    assert len(hostile) == 16
    html = render(everywhere(make_summary, hostile))
    attacked, calm = Page(html), parts(everywhere(make_summary, harmless))
    assert [tag for tag, _ in attacked.elements] == [tag for tag, _ in calm.elements]
    assert [[name for name, _ in attrs] for _, attrs in attacked.elements] == [
        [name for name, _ in attrs] for _, attrs in calm.elements
    ]
    assert attacked.inlined == calm.inlined
    assert attacked.of("href") == calm.of("href")
    for name in hostile:
        shown = visible(name)
        assert shown in " ".join(attacked.text) or shown in attacked.of("title")


def test_a_page_holds_no_character_that_acts_on_its_reader(make_summary: SummaryMaker) -> None:
    html = render(everywhere(make_summary, HOSTILE[40:58]))
    html.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]", html)


def test_a_template_in_a_name_is_not_run(make_summary: SummaryMaker) -> None:
    page = parts(everywhere(make_summary, HOSTILE[40:50]))
    assert "{{7*7}}" in page.words
    assert "root:" not in page.words
