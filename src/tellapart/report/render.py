"""The page: one self-contained HTML file that loads nothing, sends nothing and runs only our own script.

Names of classes, files and options are hostile input. Every value goes through `_shown` (controls made visible), then
through autoescaping; none reaches the script. The policy in the page allows our style and script by hash, pictures
from `data:` and nothing else, so that even a mistake here could not run anything.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any

import jinja2
import markupsafe

from tellapart.report import tables, words
from tellapart.report.pictures import Embedded
from tellapart.report.sections import SECTIONS
from tellapart.report.summary import Summary

__all__ = ["STYLES", "asset", "compile_templates", "environment", "policy_of", "render"]

STYLES = ("style.css", "figures.css", "print.css")


def render(summary: Summary) -> str:
    """Return the page as HTML. It can be encoded as UTF-8 and is under 5 MB whatever the number of pictures."""
    style, script = "\n".join(map(asset, STYLES)), asset("script.js")
    embedded = Embedded()
    for card in summary.mistakes:  # what a full page may lack is not these
        embedded.place(card.jpeg)
    templates = environment()
    index = {label: position for position, label in enumerate(summary.classes)}
    macros: Any = templates.get_template("macros.j2").make_module({"embedded": embedded, "index": index})
    parts: dict[str, list[dict[str, Any]]] = {}
    for section in SECTIONS:
        content = section.content(summary)
        if content is not None:
            body = templates.get_template(f"{section.id}.j2").render(s=summary, m=macros, **content)
            shown = {"id": section.id, "word": section.word, "body": markupsafe.Markup(body)}
            parts.setdefault(section.part, []).append(shown)
    return templates.get_template("report.html.j2").render(
        s=summary,
        policy=policy_of(style, script),
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        parts=parts,
        pictures=embedded.uris(),
    )


def compile_templates() -> Iterator[None]:
    """Compile what `render` will need, a template a step, for a time when nothing else can be done."""
    templates = environment()
    for name in ("macros.j2", "report.html.j2", *(f"{section.id}.j2" for section in SECTIONS)):
        templates.get_template(name)
        yield None


def policy_of(style: str, script: str) -> str:
    """Return the content security policy of a page: this style, this script, pictures in it, nothing else."""
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


@functools.cache
def environment() -> jinja2.Environment:
    """Return where templates come from: everything that they show is made visible, then escaped."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("tellapart.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        pairs=itertools.pairwise,
        pct=words.percent,
        span=lambda ends, n=None: words.interval(ends[0], ends[1], n),
        num=words.metric,
        ends=words.ends,
        count=words.amount,
        dur=words.duration,
        pos=_position,
        said=_said,
        text=tables.as_text,
        short=lambda name, longest: words.shortened(str(name), longest),
        drawable=_drawable,
        tojson_ascii=json.dumps,
    )
    return templates


def _shown(value: Any) -> Any:
    """Return what stands for `value` in the page, before it is escaped; only what was made here passes untouched."""
    if isinstance(value, markupsafe.Markup):
        return value
    return "–" if value is None else words.visible(str(value))


def _said(sentence: str) -> markupsafe.Markup:
    """Return a sentence of ours as markup: the names in it, which `words.quoted` made visible, isolated by `<bdi>`."""
    parts = sentence.split(words.ISOLATE)
    pieces = [markupsafe.escape(words.visible(words.plain(parts[0])))]
    for part in parts[1:]:
        name, _, rest = part.partition(words.END_ISOLATE)
        shown = words.visible(name), words.visible(words.plain(rest))
        pieces.append(markupsafe.Markup("<bdi>{}</bdi>{}").format(*shown))
    return markupsafe.Markup("").join(pieces)


def _position(share: float | None) -> str:
    """Return a share of the width as a percentage for an SVG attribute, kept within the picture."""
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%" if share is not None and math.isfinite(share) else "0%"


def _drawable(value: float | None) -> bool:
    """Return whether there is a number to draw."""
    return value is not None and math.isfinite(value)


def asset(name: str) -> str:
    """Return the text of a style sheet or a script of ours."""
    text = importlib.resources.files("tellapart.report").joinpath("templates", name).read_text(encoding="utf-8")
    return text.strip()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
