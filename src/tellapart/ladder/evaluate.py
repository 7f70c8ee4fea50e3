"""A bundle measured on labelled pictures that it did not come with."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.cache import cache_root
from tellapart.data.audit.gather import facts_of
from tellapart.data.manifest import Manifest
from tellapart.data.scan import scan
from tellapart.data.thumbnails import measures
from tellapart.events import Note, Steps
from tellapart.images import default_threads
from tellapart.judge import Paired, RiskPoint, Robustness, Slices
from tellapart.ladder.against import against, refuse_unknown, seen
from tellapart.ladder.clock import Clock
from tellapart.ladder.evaluated import refuse_page, write_page
from tellapart.ladder.robustness import robustness
from tellapart.ladder.run import stage
from tellapart.ladder.show import Answered, answer_shares, answered, measured, risk, split_report
from tellapart.ladder.slices import sliced
from tellapart.learn.rungs import Pictures
from tellapart.recipe import Recipe
from tellapart.report import AnswerShare, SplitReport
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.predictor import Predictor

__all__ = ["Evaluation", "as_trained", "cache_or_temporary", "evaluate"]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Numbers of a bundle on labelled pictures, its classes, its answers, and what the reader should know."""

    split: SplitReport
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    answers: tuple[AnswerShare, ...]
    risk: tuple[RiskPoint, ...]
    slices: Slices
    robustness: tuple[Robustness, ...] = ()
    against: Paired | None = None


def evaluate(
    path: Path,
    data: Path,
    recipe: Recipe,
    corrupted: bool = False,
    page: Path | None = None,
    against: Path | None = None,
) -> Steps[Evaluation]:
    """Measure the bundle at `path` on the test split of `data` where it has one, else on all of its pictures.

    With `corrupted` also on blurred, noisy, compressed, brighter and turned ones (`ladder.robustness`). `page` is the
    file of a page to write, `against` another bundle to compare with on the same pictures.

    Raises BundleError, DataError; DataError (`unknown_class`) when `data` has a class that the bundle does not know,
    InputError (`report_refused`) where the page may not be written.
    """
    clock = Clock(math.inf)
    if page is not None:
        refuse_page(page, data)
    bundle, other = Bundle(path), None if against is None else Bundle(against)
    with cache_or_temporary() as cache:  # an archive is unpacked there, and read a second time
        manifest = yield from scan(data, as_trained(recipe, bundle), cache, purpose="evaluate")
        facts = yield from facts_of(manifest, bundle.preprocess.decode, cache, recipe.fit.threads or default_threads())
        found, told = yield from _measured(bundle, other, manifest, measures(facts), data, recipe, corrupted)
        if page is not None:
            threads, parts = recipe.fit.threads or default_threads(), (found.slices, found.robustness, found.notes)
            yield from stage("report", write_page(page, bundle, manifest, data, told, *parts, cache, threads, clock))
        return found


def as_trained(recipe: Recipe, bundle: Bundle) -> Recipe:
    """Return the recipe with the bundle's own rules of what is a picture and how it is decoded."""
    policy = bundle.preprocess.decode
    return Recipe.of(
        recipe,
        background=policy.background,
        max_pixels=policy.max_pixels,
        min_side=policy.min_side_px,
        colour_profiles=policy.colour_profiles,
        allow_truncated=policy.allow_truncated,
    )


def _measured(
    bundle: Bundle,
    other: Bundle | None,
    manifest: Manifest,
    facts: NDArray[np.void],
    data: Path,
    recipe: Recipe,
    corrupted: bool,
) -> Steps[tuple[Evaluation, Answered]]:
    rows = manifest.where(split="test") or manifest.rows
    notes = list(manifest.notes)
    if manifest.excluded:
        counts = Counter(item.code for item in manifest.excluded).most_common()
        said = ", ".join(f"{count:,} {code}" for code, count in counts)
        notes.append(f"{len(manifest.excluded):,} file(s) were left out: {said}.")
        yield Note("warning", notes[-1])
    if len(rows) < len(manifest.rows):
        notes.append(f"Only the test split of {data} was used: {len(rows):,} of {len(manifest.rows):,} pictures.")
    refuse_unknown(bundle, rows, str(data), "the bundle")
    if other is not None:
        refuse_unknown(other, rows, str(data), "the other bundle")
    absent = sorted(set(bundle.classes) - {row.label for row in rows})
    if absent:
        notes.append(f"No pictures of {', '.join(absent[:10])}: nothing is said about these classes.")
    predictor = Predictor(bundle, recipe.fit.threads or default_threads())
    kept, embeddings = yield from stage("evaluate", seen(predictor, manifest, rows))
    if len(kept) < len(rows):
        notes.append(f"{len(rows) - len(kept):,} pictures could not be read a second time and were left out.")
    index = {label: number for number, label in enumerate(bundle.classes)}
    pictures = Pictures(
        tuple(manifest.file(row) for row in kept),
        tuple(row.sha256 for row in kept),
        tuple(row.group for row in kept),
        np.array([index[row.label] for row in kept], dtype=np.int64),
    )
    found = measured(pictures, embeddings, predictor)
    told = answered(found, predictor)
    curve = risk(told, bundle.card.thresholds.max_novelty)
    place = {row.path: number for number, row in enumerate(manifest.rows)}
    robust: tuple[Robustness, ...] = ()
    if corrupted:
        robust = yield from stage("evaluate", robustness(predictor, pictures))
    compared: Paired | None = None
    if other is not None and kept:
        compared = yield from stage("evaluate", against(other, manifest, kept, found.right, predictor.threads))
    evaluation = Evaluation(
        split_report(found, bundle.classes, bundle.card.temperature),
        bundle.classes,
        tuple(notes),
        answer_shares(told, {}),
        curve,
        sliced(kept, manifest.columns, facts[np.array([place[row.path] for row in kept], dtype=np.int64)], found.right),
        robust,
        compared,
    )
    return evaluation, told


@contextlib.contextmanager
def cache_or_temporary() -> Iterator[Path]:
    """Give the folder of caches; where none can be written, one that is gone afterwards."""
    try:
        usual = cache_root()
    except OSError:
        with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
            yield Path(folder)
    else:
        yield usual
