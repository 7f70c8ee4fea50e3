"""The audit within a run: what the scan knows at once, what the winner sees at the end, with no second embedding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tellapart.data.audit import BY_SIGHT, REGISTRY, CheckName, Evidence, Finding, worst_first
from tellapart.data.audit.gather import gather_evidence
from tellapart.data.manifest import Manifest, Split
from tellapart.data.policy import decode_policy
from tellapart.errors import InterruptedRunError, OutOfTimeError
from tellapart.events import Note, Progress, Steps, follow
from tellapart.ladder.choose import Candidate
from tellapart.ladder.reduce import reduced
from tellapart.ladder.run import Run, out_of_time, stage
from tellapart.ladder.show import Measured

__all__ = ["Looked", "first_look", "run_checks", "second_look"]

# Of what is left of the budget, the checks of the first look may take so much; the rest is for learning.
_SHARE = 0.1
_TOLD_FROM = 0.3


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """The arrays of the audit, and what was found in them so far."""

    evidence: Evidence
    findings: tuple[Finding, ...]


def run_checks(evidence: Evidence, names: tuple[CheckName, ...] = tuple(REGISTRY)) -> Steps[tuple[Finding, ...]]:
    """Run the checks named and return what they found, the worst first."""
    found = []
    for done, name in enumerate(names, 1):
        finding = REGISTRY[name](evidence)
        if finding is not None:
            found.append(finding)
        yield Progress("check", done, len(names), "checks")
    return worst_first(found)


def first_look(run: Run, manifest: Manifest, threads: int) -> Steps[Looked | None]:
    """Run every check on what the scan knows; None where a tenth of what is left of the budget was not enough.

    What is severe is told at once.
    """
    ends = run.clock.left() * (1 - _SHARE)
    try:
        steps = stage("check", _first(run, manifest, threads))
        looked = yield from follow(steps, out_of_time(run.clock, lambda: ends))
    except OutOfTimeError:
        yield Note("info", "The pictures were not checked: the budget is too short for it. See tellapart check.")
        return None
    for finding in looked.findings:
        if finding.severity >= _TOLD_FROM:
            yield Note("warning", f"{finding.check}: {finding.note}")
    return looked


def _first(run: Run, manifest: Manifest, threads: int) -> Steps[Looked]:
    evidence = yield from gather_evidence(manifest, decode_policy(run.recipe), run.cache, threads)
    findings = yield from run_checks(evidence)
    return Looked(evidence, findings)


def second_look(
    run: Run, looked: Looked, winner: Candidate, seen: Mapping[str, Measured], reserve: float
) -> Steps[tuple[Finding, ...]]:
    """Add what the winner's embeddings and predictions show; what there is no time for is left out.

    Training pictures are judged by out-of-fold predictions, val and test by those of the bundle.
    """
    if winner.fitted.method == "majority":
        return looked.findings
    evidence = _with_sight(looked.evidence, winner, seen)
    try:
        steps = run_checks(evidence, BY_SIGHT)
        found = yield from follow(steps, out_of_time(run.clock, lambda: reserve))
    except InterruptedRunError:
        return looked.findings
    kept = [finding for finding in looked.findings if finding.check not in BY_SIGHT]
    return worst_first([*kept, *found])


def _with_sight(evidence: Evidence, winner: Candidate, seen: Mapping[str, Measured]) -> Evidence:
    rows, embeddings, predicted, probs = [], [], [], []
    for name in ("train", "val", "test"):
        split: Split = name
        part = seen.get(split)
        if part is None and split != "train":
            continue
        of_split = np.array([row for row, own in enumerate(evidence.assigned) if own == split], dtype=np.int64)
        mine = of_split[winner.rows[split]]
        whole = winner.fitted.embeddings.get(split) if split != "test" else part.embeddings if part else None
        if whole is None or not len(mine):
            continue
        rows.append(mine)
        embeddings.append(whole)
        if split == "train":
            predicted.append(mine[winner.fitted.out_of_fold.rows])
            probs.append(winner.out_of_fold_probs())
        elif part is not None:
            predicted.append(mine)
            probs.append(part.probs)
    if not rows:
        return evidence
    return dataclasses.replace(
        evidence,
        embedded=np.concatenate(rows),
        embeddings=np.concatenate(reduced(embeddings)),
        predicted=np.concatenate(predicted),
        probs=np.concatenate(probs),
    )
