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
import math
from typing import Any

import jinja2
import markupsafe

from tellapart.report import charts, tables, words
from tellapart.report.commands import next_commands
from tellapart.report.summary import PictureCard, Summary
from tellapart.report.verdict import verdict

__all__ = ["render"]

MAX_CARDS = 48
MAX_EXCLUDED = 300
MAX_NOTES = 100

METHODS = {
    "majority": "always the most common class",
    "classical": "features made by hand, a classical learner",
    "probe": "a linear head on a frozen, pretrained network",
    "finetune": "a pretrained network, trained further",
    "scratch": "a small network, trained from nothing",
}


def render(summary: Summary) -> str:
    """Return the page as HTML. It can be encoded as UTF-8 and is under 5 MB whatever the number of pictures."""
    style, script = _asset("style.css"), _asset("script.js")
    policy = (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    said = verdict(summary)
    split = summary.headline
    cards = summary.mistakes[:MAX_CARDS]
    matrix = tables.confusion_cells(split, summary.classes, cards) if split else []
    page = _environment().get_template("report.html.j2")
    return page.render(
        s=summary,
        v=said,
        policy=policy,
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        methods=METHODS,
        commands=next_commands(summary, said),
        split=split,
        split_name=summary.headline_split,
        ladder_plot=charts.ladder_plot(summary.ladder),
        curves=[(what, plot) for what in ("loss", "accuracy") if (plot := charts.curve_plot(summary.epochs, what))],
        reliability_plot=charts.reliability_plot(split.reliability) if split else None,
        matrix=matrix,
        pairs=tables.worst_pairs(split, summary.classes, cards, 6 if matrix else tables.MAX_PAIRS) if split else [],
        class_lines=tables.class_lines(split, summary.classes) if split else [],
        cards=cards,
        pair_of=_pair_of(summary),
        excluded=summary.excluded[:MAX_EXCLUDED],
        excluded_codes=tables.excluded_codes(summary.excluded),
        notes=summary.notes[:MAX_NOTES],
        options=list(tables.flattened(summary.recipe)),
        machine=tables.machine_lines(summary.machine),
        stages=_stages(summary),
    )


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tellapart.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        pairs=itertools.pairwise,
        pct=words.percent,
        span=lambda ends, n=None: words.interval(ends[0], ends[1], n),
        num=words.metric,
        count=words.amount,
        dur=words.duration,
        pos=_position,
        said=_said,
        text=tables.as_text,
        short=lambda name, longest: words.shortened(str(name), longest),
        uri=_data_uri,
        drawable=_drawable,
    )
    return environment


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


def _data_uri(card: PictureCard) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(card.jpeg).decode('ascii')}"


def _pair_of(summary: Summary) -> dict[tuple[str, str], str]:
    """Return what ties a cell of the matrix to its cards: two indexes, never a name."""
    index = {label: position for position, label in enumerate(summary.classes)}
    pairs = {(card.label, card.predicted) for card in summary.mistakes[:MAX_CARDS]}
    return {pair: "-".join(str(index.get(label, "x")) for label in pair) for pair in pairs}


def _stages(summary: Summary) -> list[tuple[str, float, float]]:
    """Return (stage, seconds, where its bar ends: a share of the longest)."""
    longest = max((seconds for _, seconds in summary.stages), default=0.0) or 1.0
    return [(stage, seconds, seconds / longest) for stage, seconds in summary.stages]


def _asset(name: str) -> str:
    text = importlib.resources.files("tellapart.report").joinpath("templates", name).read_text(encoding="utf-8")
    return text.strip()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
