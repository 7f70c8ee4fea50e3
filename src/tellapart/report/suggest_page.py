"""The page of `suggest`: unlabelled pictures in groups, those to label first. Loads nothing, and runs nothing."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import markupsafe

from tellapart.report.pictures import Embedded
from tellapart.report.render import STYLES, asset, environment, policy_of

__all__ = ["SuggestPage", "SuggestedGroup", "SuggestedPicture", "render_suggestions"]

_MAX_BYTES = 6_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class SuggestedPicture:
    """One picture: its place in the order, from 1; `suggested` with `prob` in [0, 1] where a model proposes a label."""

    path: str
    rank: int
    suggested: str | None
    prob: float | None
    jpeg: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class SuggestedGroup:
    """`size` pictures that belong together, one sentence on them, and those of them to label first."""

    name: str
    size: int
    sentence: str
    pictures: tuple[SuggestedPicture, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class SuggestPage:
    """All that the page shows. `table` is the name of the file that it goes with."""

    title: str
    table: str
    num_pictures: int
    num_ranked: int
    words: str
    groups: tuple[SuggestedGroup, ...]
    notes: tuple[str, ...] = ()
    created: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    tellapart: str = ""


def render_suggestions(page: SuggestPage) -> str:
    """Return the page as HTML: one file under 10 MB without a script."""
    style = "\n".join(map(asset, (*STYLES, "check.css")))
    embedded = Embedded(_MAX_BYTES)
    index: dict[str, int] = {}
    macros: Any = environment().get_template("macros.j2").make_module({"embedded": embedded, "index": index})
    # The groups come first, so that their pictures have been numbered when the store is written.
    group = environment().get_template("suggested.j2")
    sections = [
        markupsafe.Markup(group.render(g=one, number=number, m=macros, place=embedded.place))
        for number, one in enumerate(page.groups, start=1)
    ]
    return (
        environment()
        .get_template("suggest.html.j2")
        .render(
            p=page,
            m=macros,
            sections=sections,
            policy=policy_of(style, ""),
            style=markupsafe.Markup(style),
            pictures=embedded.uris(),
        )
    )
