"""The page of `explain`: each picture with what speaks for its answer and for the runner-up. Loads nothing."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import markupsafe

from tellapart.judge.sanity import Sanity
from tellapart.report.explained import ExplainedPicture
from tellapart.report.overlay import VIRIDIS
from tellapart.report.pictures import Embedded
from tellapart.report.render import STYLES, asset, environment, policy_of
from tellapart.runtime.predictor import Failure

__all__ = ["ExplainPage", "FilterSheet", "render_explain"]

_MAX_BYTES = 12_000_000
_MOST_LINKS = 100

METHODS = {
    "class_activation": "Each cell of the network's last feature map has a share of its own in the answer: that share "
    "is drawn, against the average training picture.",
    "occlusion": "Each part of the picture was hidden by a blur in turn: what that took from the answer is drawn.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class FilterSheet:
    """The first layer's filters as a PNG: `count` of them, `size` is height and width in pixels."""

    png: bytes
    count: int
    size: tuple[int, int]
    colour: bool


@dataclasses.dataclass(frozen=True, eq=False)
class ExplainPage:
    """All that the page shows. `bundle` is the path as the user typed it, `kind` the rung that made it;
    `cropped` says that the network sees the middle square of a picture alone."""

    bundle: str
    classes: tuple[str, ...]
    method: str
    kind: str
    sanity: Sanity
    pictures: tuple[ExplainedPicture | Failure, ...]
    backbone: str | None = None
    cropped: bool = False
    notes: tuple[str, ...] = ()
    filters: FilterSheet | None = None
    created: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    tellapart: str = ""


def render_explain(page: ExplainPage) -> str:
    """Return the page as HTML: one file under 20 MB. Pictures beyond what it may hold are told in words alone."""
    style, script = "\n".join(map(asset, (*STYLES, "explain.css"))), asset("explain.js")
    embedded = Embedded(_MAX_BYTES)
    index = {label: position for position, label in enumerate(page.classes)}
    macros: Any = environment().get_template("macros.j2").make_module({"embedded": embedded, "index": index})
    template = environment().get_template("explained.j2")

    # The pictures come first, so that they have been numbered when the store is written.
    def case(number: int, one: ExplainedPicture | Failure) -> markupsafe.Markup:
        named = {"one": one, "number": number, "shown": page.sanity.passed}
        return markupsafe.Markup(template.render(m=macros, place=embedded.place, **named))

    cases = [(number, one.path or "", case(number, one)) for number, one in enumerate(page.pictures, 1)]
    return (
        environment()
        .get_template("explain.html.j2")
        .render(
            p=page,
            m=macros,
            cases=cases,
            links=_MOST_LINKS,
            how=METHODS[page.method],
            ramp=VIRIDIS,
            sheet=None if page.filters is None else embedded.place(page.filters.png),
            policy=policy_of(style, script),
            style=markupsafe.Markup(style),
            script=markupsafe.Markup(script),
            pictures=embedded.uris(),
        )
    )
