"""The audit of a data set by itself: what the scan knows, and what a network sees, as findings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.data.audit import REGISTRY, Evidence, Finding, worst_first
from tellapart.data.audit.cleaned import clean, refuse_place, write_cleaned
from tellapart.data.audit.gather import gather_evidence
from tellapart.data.manifest import SPLITS, Manifest, Split
from tellapart.data.policy import resize_policy
from tellapart.data.scan import decode_policy, scan
from tellapart.errors import MissingExtraError
from tellapart.events import Note, Progress, Steps
from tellapart.images import Preprocess, default_threads
from tellapart.ladder.clock import Clock
from tellapart.ladder.evaluate import cache_or_temporary
from tellapart.ladder.run import Run, count_files, pictures_of, stage
from tellapart.ladder.rungs import Rungs
from tellapart.learn.backbones import Weights, default_backbone, why_no_weights
from tellapart.learn.backbones_export import Export, fetch_weights, start_export
from tellapart.learn.embed import embed
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import FloatArray, IntArray
from tellapart.recipe import Recipe

__all__ = ["Checked", "check", "findings_of", "reduced"]

_WIDTH = 64
_SAMPLE = 4_000


@dataclasses.dataclass(frozen=True, eq=False)
class Checked:
    """A data set looked at: its manifest, what was found, and sentences on what could not be looked at."""

    manifest: Manifest
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    fixed: str | None = None


def check(data: Path, recipe: Recipe, clock: Clock, fix: Path | None = None) -> Steps[Checked]:
    """Look at every picture of `data` with every check; write a cleaned table to `fix`.

    Raises DataError when there is nothing to look at, InputError when a place may not be written to.
    """
    if fix is not None:
        refuse_place(fix, data)
    with cache_or_temporary() as cache:  # an archive is unpacked there, and read a second time
        found = yield from _looked(data, recipe, cache, clock)
        fixed = None
        if fix is not None:
            cleaned = clean(found.manifest, found.findings)
            below = write_cleaned(found.manifest, cleaned, fix)
            fixed = f"{fix}: {cleaned.summary}"
            if not below:
                fixed += " Its paths are absolute; train reads a table that lies in a folder above its pictures."
    return dataclasses.replace(found, fixed=fixed)


def _looked(data: Path, recipe: Recipe, cache: Path, clock: Clock) -> Steps[Checked]:
    """Scan and look at every picture with every check.

    Where pretrained weights are at hand, labels and outliers are judged by a backbone's embeddings, as many as the
    budget pays for; else by thumbnails.
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
        evidence = yield from stage("audit", gather_evidence(manifest, decode_policy(recipe), cache, threads))
        evidence = yield from _seen(run, manifest, evidence, export, threads, notes)
    finally:
        if export is not None:
            export.close()
    for text in notes:
        yield Note("info", text)
    findings = yield from stage("audit", findings_of(evidence))
    return Checked(manifest, findings, tuple(notes))


def findings_of(evidence: Evidence) -> Steps[tuple[Finding, ...]]:
    """Run every check and return what they found, the worst first."""
    found = []
    for done, one in enumerate(REGISTRY.values(), 1):
        finding = one(evidence)
        if finding is not None:
            found.append(finding)
        yield Progress("audit", done, len(REGISTRY), "checks")
    return worst_first(found)


def reduced(embeddings: FloatArray, width: int = _WIDTH) -> FloatArray:
    """Return float32 [N, at most `width`]: the directions in which a sample of the embeddings varies most."""
    if len(embeddings) <= 2 or embeddings.shape[1] <= width:
        return embeddings
    sample = embeddings[:: max(1, -(-len(embeddings) // _SAMPLE))].astype(np.float64)
    middle = sample.mean(axis=0)
    centred = sample - middle
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.asarray((embeddings - middle.astype(np.float32)) @ vectors[:, -width:].astype(np.float32))


def _weights(run: Run) -> Steps[Weights | None]:
    name = run.recipe.model.backbone or default_backbone(count_files(run.data), run.clock.left() / 2)
    return (yield from fetch_weights(name)) if name is not None else None


def _seen(
    run: Run, manifest: Manifest, evidence: Evidence, export: Export | None, threads: int, notes: list[str]
) -> Steps[Evidence]:
    """Return the evidence with embeddings and with predictions by heads that did not see the picture."""
    if export is not None:
        rows, embeddings = yield from _embedded(run, manifest, export, threads)
        if len(rows) < len(manifest.rows):
            notes.append(
                f"The budget paid for {len(rows):,} of {len(manifest.rows):,} pictures to be looked at by the network; "
                "a longer --budget looks at more."
            )
    else:
        notes.append(f"Labels and outliers are judged by colours alone: {why_no_weights(run.recipe.model.backbone)}.")
        rows = np.arange(len(evidence), dtype=np.int64)
        embeddings = np.asarray(evidence.thumbnails.reshape(len(evidence), -1) / 255, dtype=np.float32)
        evidence = dataclasses.replace(evidence, by_colour=True)
    predicted, probs = yield from _predicted(evidence, rows, embeddings, run.recipe.seed)
    return dataclasses.replace(
        evidence, embedded=rows, embeddings=reduced(embeddings), predicted=predicted, probs=probs
    )


def _embedded(run: Run, manifest: Manifest, export: Export, threads: int) -> Steps[tuple[IntArray, FloatArray]]:
    """Return the rows of the manifest that the budget pays for, and their embeddings float32 [n, D]."""
    pictures = pictures_of(manifest)
    scale = manifest.facts.get("sixteen_bit_scale", 65535)
    policy = dataclasses.replace(decode_policy(run.recipe), sixteen_bit_scale=int(str(scale)))
    preprocess = Preprocess(image_size=224, resize_policy=resize_policy(manifest)[0], decode=policy)
    rungs = Rungs(run, manifest, pictures, preprocess, export, threads)
    seen = yield from stage("embed", rungs.looked_at())
    of_split: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for number, row in enumerate(manifest.rows):
        of_split[row.split].append(number)
    rows, parts = [], []
    for split in SPLITS:
        part = pictures[split].take(seen.rows[split])
        steps = embed(
            seen.graph.model, seen.preprocess, part.files, part.digests, run.cache, threads=threads, prepared=seen.ready
        )
        if len(part):
            parts.append((yield from steps))
            rows.append(np.array(of_split[split], dtype=np.int64)[seen.rows[split]])
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
