"""The audit of a data set by itself: what the scan knows, and what a network sees, as findings."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__, files, judge
from tellapart.data.audit import Evidence, Finding
from tellapart.data.audit.cleaned import clean, refuse_place, write_cleaned
from tellapart.data.audit.gather import gather_evidence
from tellapart.data.manifest import SPLITS, Manifest, Split
from tellapart.data.policy import decode_policy, resize_policy
from tellapart.data.scan import scan
from tellapart.errors import InputError, MissingExtraError
from tellapart.events import Note, Steps
from tellapart.images import Preprocess, default_threads
from tellapart.ladder.audited import run_checks
from tellapart.ladder.clock import Clock
from tellapart.ladder.evaluate import cache_or_temporary
from tellapart.ladder.folder import beside
from tellapart.ladder.reduce import reduced
from tellapart.ladder.run import Run, count_files, pictures_of, stage
from tellapart.ladder.rungs import Rungs
from tellapart.ladder.suspects import found
from tellapart.learn.backbones import Weights, default_backbone, why_no_weights
from tellapart.learn.backbones_export import Export, fetch_weights, start_export
from tellapart.learn.embed import embed
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import FloatArray, IntArray
from tellapart.recipe import Recipe
from tellapart.report import CheckPage, render_check

__all__ = ["Checked", "check", "looked_at"]

# Of each finding the page shows so many pictures, and leaves the rest to a table.
_SHOWN = 60
_FEWEST_BY_HAND = 20


@dataclasses.dataclass(frozen=True, eq=False)
class Checked:
    """A data set looked at: its manifest, what was found, and sentences on what could not be looked at."""

    manifest: Manifest
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    page: Path | None = None
    fixed: str | None = None


def check(data: Path, recipe: Recipe, clock: Clock, out: Path | None = None, fix: Path | None = None) -> Steps[Checked]:
    """Look at every picture of `data` with every check; write `check.html` into `out` and a cleaned table to `fix`.

    Raises DataError when there is nothing to look at, InputError when a place may not be written to. Where `out` is not
    given it is beside `data`, and then a page that cannot be written is a note.
    """
    if fix is not None:
        refuse_place(fix, data)
    if out is not None:
        _refuse_folder(out, data)
    with cache_or_temporary() as cache:  # an archive is unpacked there, and read a second time
        manifest, evidence, notes = yield from looked_at(data, recipe, cache, clock)
        looked = Checked(manifest, (yield from stage("check", run_checks(evidence))), notes)
        page, notes = yield from _page(data, recipe, cache, clock, looked, out)
        fixed = None
        if fix is not None:
            cleaned = clean(looked.manifest, looked.findings)
            below = write_cleaned(looked.manifest, cleaned, fix)
            fixed = f"{fix}: {cleaned.summary}"
            if not below:
                fixed += " Its paths are absolute; train reads a table that lies in a folder above its pictures."
    return dataclasses.replace(looked, page=page, fixed=fixed, notes=notes)


def _refuse_folder(out: Path, data: Path) -> None:
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise InputError(
            "out_inside_data",
            f"--out {out} lies inside the pictures' folder {data}, where nothing is ever written.",
            "Choose a folder outside of it.",
        )
    if out.exists() and not out.is_dir():
        raise InputError("out_not_a_folder", f"--out {out} is a file.", "Choose a folder that is new or empty.")


def _page(
    data: Path, recipe: Recipe, cache: Path, clock: Clock, looked: Checked, out: Path | None
) -> Steps[tuple[Path | None, tuple[str, ...]]]:
    """Write the page; return where it is, and the notes with one more where it could not be written."""
    threads, policy = recipe.fit.threads or default_threads(), decode_policy(recipe)
    shown = yield from found(looked.findings, looked.manifest, policy, _SHOWN, threads, cache, clock)
    page = CheckPage(
        title=data.resolve().name,
        data=str(data),
        classes=looked.manifest.classes,
        counts=looked.manifest.counts,
        findings=shown,
        notes=(*looked.manifest.notes, *looked.notes),
        created=datetime.now(UTC),
        tellapart=__version__,
    )
    folder = beside(data, "check") if out is None else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / "check.html", render_check(page))
    except OSError as error:
        if out is not None:
            raise InputError(
                "cannot_write", f"--out {out} cannot be written ({error.strerror}).", "Name another folder."
            ) from None
        return None, (*looked.notes, f"The page was not written: {folder} cannot be ({error.strerror}).")
    return folder / "check.html", looked.notes


def looked_at(
    data: Path, recipe: Recipe, cache: Path, clock: Clock
) -> Steps[tuple[Manifest, Evidence, tuple[str, ...]]]:
    """Scan, and return the manifest, all that the checks take, and sentences on what could not be looked at.

    Where pretrained weights are at hand, labels and outliers are judged by a backbone's embeddings, as many as the
    budget pays for; else by features made by hand, and by colours where there are few pictures.
    """
    run = Run(data, cache, cache, recipe, clock)
    weights = yield from _weights(run)
    notes: list[str] = []
    export = None
    if weights is not None:
        try:
            export = start_export(weights, recipe.model.image_size, cache)
        except MissingExtraError as error:
            notes.append(f"No network looks at the pictures: {error}")
    try:
        manifest = yield from scan(data, recipe, cache, purpose="check")
        threads = recipe.fit.threads or default_threads()
        evidence = yield from stage("check", gather_evidence(manifest, decode_policy(recipe), cache, threads))
        evidence = yield from _seen(run, manifest, evidence, export, threads, notes)
    finally:
        if export is not None:
            export.close()
    for text in notes:
        yield Note("info", text)
    return manifest, evidence, tuple(notes)


def _weights(run: Run) -> Steps[Weights | None]:
    name = run.recipe.model.backbone or default_backbone(count_files(run.data), run.clock.left() / 2)
    return (yield from fetch_weights(name)) if name is not None else None


def _seen(
    run: Run, manifest: Manifest, evidence: Evidence, export: Export | None, threads: int, notes: list[str]
) -> Steps[Evidence]:
    """Return the evidence with embeddings and with predictions by heads that did not see the picture."""
    if export is not None or _by_hand(manifest):
        rows, embeddings = yield from _embedded(run, manifest, export, threads)
        if len(rows) < len(manifest.rows):
            notes.append(
                f"The budget paid for {len(rows):,} of {len(manifest.rows):,} pictures to be looked at; a longer "
                "--budget looks at more."
            )
    else:
        rows = np.arange(len(evidence), dtype=np.int64)
        embeddings = np.asarray(evidence.thumbnails.reshape(len(evidence), -1) / 255, dtype=np.float32)
    if export is None:
        by = "features made by hand" if _by_hand(manifest) else "colours"
        notes.append(
            f"No network looks at the pictures, {by} do: labels are judged only where these tell the classes apart, "
            f"and no classes are compared; {why_no_weights(run.recipe.model.backbone)}."
        )
        evidence = dataclasses.replace(evidence, unlearned=True)
    predicted, probs = yield from _predicted(evidence, rows, embeddings, run.recipe.seed)
    return dataclasses.replace(
        evidence, embedded=rows, embeddings=reduced([embeddings])[0], predicted=predicted, probs=probs
    )


def _by_hand(manifest: Manifest) -> bool:
    """Return whether features by hand can be had: the training extra, and something to take their components from."""
    return find_spec("onnx") is not None and len(manifest.where(split="train")) >= _FEWEST_BY_HAND


def _embedded(run: Run, manifest: Manifest, export: Export | None, threads: int) -> Steps[tuple[IntArray, FloatArray]]:
    """Return the rows of the manifest that the budget pays for, and their embeddings float32 [n, D].

    They are a backbone's, or, without an export, features by hand.
    """
    pictures = pictures_of(manifest)
    scale = manifest.facts.get("sixteen_bit_scale", 65535)
    policy = dataclasses.replace(decode_policy(run.recipe), sixteen_bit_scale=int(str(scale)))
    preprocess = Preprocess(image_size=224, resize_policy=resize_policy(manifest)[0], decode=policy)
    rungs = Rungs(run, manifest, pictures, preprocess, export, threads)
    prepared = None
    if export is None:
        trunk, preprocess, looked = yield from stage("embed", rungs.looked_at_by_hand())
    else:
        seen = yield from stage("embed", rungs.looked_at())
        trunk, preprocess, looked, prepared = seen.graph.model, seen.preprocess, seen.rows, seen.ready
    of_split: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for number, row in enumerate(manifest.rows):
        of_split[row.split].append(number)
    rows, parts = [], []
    for split in SPLITS:
        part = pictures[split].take(looked[split])
        if len(part):
            steps = embed(trunk, preprocess, part.files, part.digests, run.cache, threads=threads, prepared=prepared)
            parts.append((yield from steps))
            rows.append(np.array(of_split[split], dtype=np.int64)[looked[split]])
    return np.concatenate(rows), np.concatenate(parts)


def _predicted(
    evidence: Evidence, rows: IntArray, embeddings: FloatArray, seed: int
) -> Steps[tuple[IntArray, NDArray[np.float64]]]:
    """Return rows and calibrated probabilities, float64 [p, K]: out of fold; of later given splits by train's head."""
    in_train = evidence.in_split("train")[rows]
    learned = in_train if len(evidence.given) > 1 and in_train.any() else np.ones(len(rows), dtype=bool)
    targets = evidence.targets[rows]
    if len(np.unique(targets[learned])) < 2:
        return np.zeros(0, dtype=np.int64), np.zeros((0, evidence.num_classes))
    together = evidence.together[rows[learned]]
    folds = make_folds(targets[learned], [str(group) for group in together], seed=seed)
    X = embeddings[learned] if not learned.all() else embeddings
    fitted = yield from fit_linear(X, targets[learned], evidence.num_classes, folds, seed=seed)
    if not len(fitted.rows):
        return np.zeros(0, dtype=np.int64), np.zeros((0, evidence.num_classes))
    temperature = judge.fit_temperature(fitted.out_of_fold, targets[learned][fitted.rows])
    logits = [fitted.out_of_fold, fitted.head.logits(embeddings[~learned])]
    found = [rows[learned][fitted.rows], rows[~learned]]
    return np.concatenate(found), judge.softmax(np.asarray(np.concatenate(logits) / temperature, dtype=np.float32))
