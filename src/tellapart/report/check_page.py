"""The page of `check`: suspects with buttons, whose choices it hands over as a corrections.csv. Loads nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import markupsafe

from tellapart.report.found import Found
from tellapart.report.pictures import Embedded
from tellapart.report.render import STYLES, asset, environment, policy_of

__all__ = ["CheckPage", "render_check"]

_MAX_BYTES = 6_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class CheckPage:
    """All that the page shows. `data` is the path as the user typed it."""

    title: str
    data: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    findings: tuple[Found, ...]
    notes: tuple[str, ...] = ()
    created: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    tellapart: str = ""


def render_check(page: CheckPage) -> str:
    """Return the page as HTML: one file under 10 MB that runs our script alone."""
    style, script = "\n".join(map(asset, (*STYLES, "check.css"))), asset("check.js")
    embedded = Embedded(_MAX_BYTES)
    index = {label: position for position, label in enumerate(page.classes)}
    macros: Any = environment().get_template("macros.j2").make_module({"embedded": embedded, "index": index})
    body = environment().get_template("check.html.j2")
    # The findings come first, so that their pictures have been numbered when the store is written.
    sections = [
        markupsafe.Markup(environment().get_template("suspects.j2").render(f=found, m=macros, place=embedded.place))
        for found in page.findings
    ]
    return body.render(
        p=page,
        m=macros,
        sections=sections,
        policy=policy_of(style, script),
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        pictures=embedded.uris(),
    )
