"""The page of `export`: what each form is in size, speed and accuracy. Loads nothing, and runs nothing."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import markupsafe

from tellapart import __version__
from tellapart.report.render import STYLES, asset, environment, policy_of

__all__ = ["ExportPage", "ExportedClass", "ExportedForm", "render_export"]


@dataclasses.dataclass(frozen=True, slots=True)
class ExportedForm:
    """One form by one runtime: bytes of its graph; milliseconds for a picture on one thread, alone and in a batch;
    pictures a second on all threads; bytes of memory that it adds; shares named right and named alike, in [0, 1], and
    `change` in points, with 95% intervals; why it was `refused`, None where it was not.
    """

    precision: str
    runtime: str
    num_bytes: int
    one_ms: float | None
    batch_ms: float | None
    per_second: float | None
    peak_bytes: int | None
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    change: float
    change_low: float
    change_high: float
    same: float
    in_float: int
    refused: str | None
    chosen: bool


@dataclasses.dataclass(frozen=True, slots=True)
class ExportedClass:
    """A class whose share of pictures named right changed, in [0, 1]."""

    label: str
    n: int
    before: float
    after: float


@dataclasses.dataclass(frozen=True)
class ExportPage:
    """All that the page shows: forms judged on `n` pictures, the bundle as it was first; classes that changed."""

    bundle: str
    out: str
    to: str
    precision: str
    why: str
    n: int
    threads: int
    batch: int
    machine: str
    forms: tuple[ExportedForm, ...]
    classes: tuple[ExportedClass, ...]


def render_export(page: ExportPage) -> str:
    """Return the page as HTML: one file without a script."""
    style = "\n".join(map(asset, (*STYLES, "check.css", "export.css")))
    templates = environment()
    macros: Any = templates.get_template("macros.j2").make_module({"embedded": None, "index": {}})
    return templates.get_template("export.html.j2").render(
        p=page,
        m=macros,
        chosen=next(form for form in page.forms if form.chosen),
        largest=max(form.num_bytes for form in page.forms),
        most=max((form.per_second or 0.0 for form in page.forms), default=0.0) or 1.0,
        runtimes=len({form.runtime for form in page.forms}) > 1,
        created=datetime.now(UTC),
        tellapart=__version__,
        policy=policy_of(style, ""),
        style=markupsafe.Markup(style),
    )
