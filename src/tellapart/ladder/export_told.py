"""The page that is written beside an export: what was measured, for whoever gets the model and was not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tellapart.files import write_text
from tellapart.ladder.export_forms import Form
from tellapart.ladder.machine import machine
from tellapart.report.export_page import ExportedClass, ExportedForm, ExportPage, render_export
from tellapart.ship.speed import BATCH

__all__ = ["page_file", "write_page"]


def page_file(out: Path) -> Path:
    """Return where the page of an export is: beside its folder, which holds nothing that its card does not list."""
    return out.with_name(f"{out.name}.report.html")


def write_page(bundle: Path, out: Path, to: str, forms: Sequence[Form], taken: Form, threads: int, why: str) -> Path:
    """Write the page of an export at `out` in the form `taken`, and return where. Raises OSError."""
    classes = [
        ExportedClass(change.label, change.n, change.before, change.after)
        for change in taken.judged.classes
        if change.before != change.after
    ]
    page = ExportPage(
        bundle=str(bundle),
        out=out.name,
        to={"onnx": "any ONNX runtime", "openvino": "OpenVINO, or any ONNX runtime", "browser": "the browser"}[to],
        precision=taken.precision,
        why=why,
        n=taken.judged.n,
        threads=threads,
        batch=BATCH,
        machine=f"{machine()['cpu']}, {threads} threads",
        forms=tuple(_row(form, form is taken) for form in forms),
        classes=tuple(classes),
    )
    place = page_file(out)
    write_text(place, render_export(page))
    return place


def _row(form: Form, chosen: bool) -> ExportedForm:
    speed, found = form.speed, form.judged
    return ExportedForm(
        form.precision,
        form.runtime,
        form.bytes,
        None if speed is None else speed.one_ms,
        None if speed is None else speed.batch_ms,
        None if speed is None else speed.per_second,
        form.peak_bytes,
        found.accuracy,
        found.accuracy_low,
        found.accuracy_high,
        found.change,
        found.change_low,
        found.change_high,
        found.same,
        form.in_float,
        form.refused,
        chosen,
    )
