"""What `evaluate` found, as the page of a run: the same sections, for the pictures that it was given."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tellapart import __version__, files, judge
from tellapart.data.listing import shown
from tellapart.data.manifest import Manifest
from tellapart.errors import InputError
from tellapart.events import Steps
from tellapart.judge import Robustness, Slices
from tellapart.ladder.clock import Clock
from tellapart.ladder.machine import machine
from tellapart.ladder.pictured import chosen, pictured
from tellapart.ladder.show import Answered, answer_shares, risk, split_report
from tellapart.report import Summary, render
from tellapart.runtime.bundle import Bundle

__all__ = ["refuse_page", "write_page"]

_OURS = b"<!DOCTYPE html>"


def refuse_page(page: Path, data: Path) -> None:
    """Raise InputError when the page may not be written there: a folder, a foreign file, or inside the data."""
    target, said = Path(os.path.realpath(page)), ""
    if target.suffix.lower() not in (".html", ".htm"):
        said = "does not end in .html"
    elif data.is_dir() and target.is_relative_to(os.path.realpath(data)):
        said = f"lies inside the pictures' folder {shown(str(data))}, where nothing is ever written"
    elif target.is_dir():
        said = "is a folder"
    elif not target.parent.is_dir():
        said = "is in a folder that does not exist"
    elif target.exists() and not target.read_bytes().startswith(_OURS):
        said = "exists and is no page"
    if said:
        raise InputError(
            "report_refused", f"--report {shown(str(page))} {said}.", "Name a new file, such as test.html."
        )


def write_page(
    page: Path,
    bundle: Bundle,
    manifest: Manifest,
    data: Path,
    told: Answered,
    slices: Slices,
    robustness: tuple[Robustness, ...],
    notes: tuple[str, ...],
    cache: Path,
    threads: int,
    clock: Clock,
) -> Steps[None]:
    """Write the page of what `told` says; it loads nothing."""
    card = bundle.card
    of_bundle = dataclasses.replace(manifest, classes=bundle.classes)
    some = chosen(told, len(told.answers))
    cards = yield from pictured(told, some, of_bundle, bundle.preprocess.decode, threads, cache, clock)
    counts = np.bincount(told.found.pictures.targets, minlength=len(bundle.classes))
    present = counts[counts > 0]
    summary = Summary(
        title=data.resolve().name,
        data=str(data),
        classes=bundle.classes,
        counts=manifest.counts,
        method=card.method,
        run="",
        bundle=str(bundle.path),
        ladder=(),
        splits={"test": split_report(told.found, bundle.classes, card.temperature)},
        created=datetime.now(UTC),
        tellapart=__version__,
        backbone=card.backbone,
        backbone_licence=card.backbone_licence,
        report=str(page),
        seconds=clock.spent(),
        balanced=bool(len(present)) and judge.is_unbalanced(present),
        evaluated=True,
        mistakes=tuple(cards[row] for row in some.mistakes if row in cards),
        examples=tuple(cards[row] for row in some.examples if row in cards),
        answers=answer_shares(told, cards),
        slices=slices,
        robustness=robustness,
        risk=risk(told, card.thresholds.max_novelty),
        thresholds=card.thresholds.model_dump(),
        excluded=manifest.told_left_out(),
        notes=notes,
        recipe=card.recipe,
        machine=machine(),
    )
    files.write_text(page, render(summary))
