"""The best rung so far becomes the run's bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tellapart import judge
from tellapart.data.manifest import Manifest, Split
from tellapart.errors import BundleError
from tellapart.events import Decision, Steps, decide
from tellapart.ladder.choose import Candidate, Ground
from tellapart.ladder.keep import keep, references_in_time
from tellapart.ladder.novel import novel
from tellapart.ladder.run import Run
from tellapart.learn.rungs import Pictures
from tellapart.runtime.bundle import Bundle, read_card
from tellapart.ship import write_bundle

__all__ = ["asked_for", "deliver", "earlier_stands", "earlier_was_interrupted", "resolved"]

_USUAL_PRECISION = 0.95


def earlier_stands(run: Run, manifest: Manifest, winner: Candidate, ground: Ground) -> bool:
    """Return whether a resumed run already holds a measured bundle that is at least as good on validation."""
    folder = run.folder / "bundle"
    if not folder.is_dir() or not (run.folder / "result.json").is_file():
        return False
    try:
        card = read_card(folder)
    except BundleError:
        return False
    before = card.metrics.get("val")
    if before is None or card.fingerprint != manifest.fingerprint or before.get("log_loss") is None:
        return False
    now = judge.metrics(ground.val_targets[winner.rows["val"]], winner.val_probs)
    return bool(before["n"] >= now.n and now.log_loss is not None and before["log_loss"] <= now.log_loss)


def earlier_was_interrupted(run: Run) -> bool:
    """Return whether the attempt before was asked to end, so that what the folder holds was the best until then."""
    try:
        found = json.loads((run.folder / "report.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("interrupted") is True


def deliver(
    run: Run, manifest: Manifest, pictures: Mapping[Split, Pictures], winner: Candidate, threads: int
) -> Steps[Bundle]:
    """Write `bundle/` for the best rung so far, in place of an earlier one; return it, opened and verified."""
    train, classes = pictures["train"].take(winner.rows["train"]), manifest.classes
    fitted = winner.fitted
    wish = run.recipe.answers
    chosen = judge.choose_thresholds(
        train.targets[fitted.out_of_fold.rows],
        winner.out_of_fold_probs(),
        wish.target_precision or _USUAL_PRECISION,
        wish.target_coverage,
    )
    yield Decision(
        "thresholds", {"min_prob": chosen.min_prob, "max_novelty": chosen.max_novelty}, _why_thresholds(chosen)
    )
    words = "pictures to compare with, at the most; for so many there is time to make thumbnails"
    most = yield from decide(f"{winner.name}.references", references_in_time(run), words)
    kept = keep(run, fitted, train, len(classes), threads, most)
    novelty = yield from novel(run, winner, train, kept)
    return write_bundle(
        run.folder / "bundle",
        fitted,
        classes=classes,
        temperature=winner.temperature,
        thresholds=chosen.as_json(),
        novelty=novelty.arrays(),
        reference_labels=kept.reference_labels,
        targets=train.targets,
        brightness=kept.brightness,
        selftest=kept.selftest,
        selftest_embeddings=kept.selftest_embeddings,
        thumbnails=kept.thumbnails,
        learned_beside=kept.learned_beside,
        recipe=resolved(run, winner, novelty),
        fingerprint=manifest.fingerprint,
    )


def _why_thresholds(chosen: judge.Thresholds) -> str:
    if chosen.precision is None:
        return "there are no out-of-fold predictions to choose by"
    words = (
        f"of {chosen.n:,} out-of-fold predictions the {chosen.coverage:.0%} that would be answered are right "
        f"{chosen.precision:.1%} of the time"
    )
    if chosen.target_coverage is not None:
        return f"{words}; {chosen.target_coverage:.0%} were to be answered"
    return words if chosen.reached else f"{words}; {chosen.target_precision:.0%} could not be shown"


def asked_for(run: Run) -> dict[str, Any]:
    """Return the recipe as the user gave it."""
    nested: dict[str, Any] = run.recipe.model_dump(mode="json")
    previous = nested["data"]["previous"]
    if previous is not None and Path(previous).parent == run.folder:
        nested["data"]["previous"] = None  # its own, from before it was cut off
    return nested


def resolved(run: Run, winner: Candidate, novelty: judge.Novelty | None = None) -> dict[str, Any]:
    """Return the recipe with every choice that was left to evidence filled in by what was chosen."""
    fitted, nested = winner.fitted, asked_for(run)
    nested["data"]["resize"] = fitted.preprocess.resize_policy
    nested["model"] = {
        "method": fitted.method,
        "backbone": fitted.backbone,
        "image_size": fitted.preprocess.image_size,
    }
    nested["fit"]["budget"] = run.recipe.budget_seconds
    nested["details"] = dict(fitted.details)
    if novelty is not None:
        nested["details"]["novelty"] = list(novelty.blend.methods) if novelty.blend else ["neighbours"]
    return nested
