"""What happens to the winner: measured once on test, through its bundle, and reported."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from tellapart import __version__, files, judge
from tellapart.data.manifest import SPLITS, Manifest, Split
from tellapart.errors import InterruptedRunError, OutOfTimeError
from tellapart.events import Note, Steps, decide, follow
from tellapart.images import DecodePolicy, thumbnail_jpeg
from tellapart.judge import Metrics, Slices
from tellapart.ladder.attention import attention
from tellapart.ladder.audited import Looked, second_look
from tellapart.ladder.choose import Candidate, Crossed, Ground
from tellapart.ladder.coach import Coached, coach
from tellapart.ladder.deliver import asked_for, resolved
from tellapart.ladder.machine import machine
from tellapart.ladder.openings import OPENED, count_openings, fingerprint_of_test
from tellapart.ladder.pictured import chosen, pictured
from tellapart.ladder.robustness import robustness_in_time
from tellapart.ladder.run import Heard, Run, out_of_time, stage
from tellapart.ladder.show import Measured, answer_shares, answered, measured, risk, split_report
from tellapart.ladder.slices import sliced
from tellapart.ladder.suspects import found
from tellapart.learn.embed import embed, missing
from tellapart.learn.rungs import FloatArray, IntArray, Pictures
from tellapart.memory import give_back
from tellapart.report import Folds, Found, LadderRow, SplitReport, Strip, Summary, Variations, render
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.predictor import Predictor
from tellapart.ship import with_metrics

__all__ = ["Climbed", "contract", "finish", "left_aside", "seconds_to_finish"]

# What the report needs at the end while the machine is slow, and so what the last embedding has to leave; of a short
# budget only a share, for what takes long at the end is left out where there is no time for it.
_REPORT_SECONDS, _REPORT_SHARE = 2.0, 0.1
# What shipping and measuring need besides, for a bundle and for each picture.
_SHIP_SECONDS, _SHIP_SHARE = 2.5, 0.12
_SHIP_SECONDS_PER_PICTURE = 0.0001
_SUSPECTS = 8  # pictures of a finding that the report shows
_NO_TEST_PICTURES = "none of the budget was left to open the test split"


@dataclasses.dataclass(frozen=True)
class Climbed:
    """What the climb leaves: the manifest, the pictures of each split, the winner, a row for each rung.

    `bundle` is what ships; None where nothing was to be shipped.
    """

    manifest: Manifest
    pictures: Mapping[Split, Pictures]
    ground: Ground
    winner: Candidate
    bundle: Bundle | None
    ladder: tuple[LadderRow, ...]
    threads: int
    looked: Looked | None = None
    crossed: Crossed | None = None

    def looked_at(self, split: Split) -> Pictures:
        """Return the pictures of a split that the winner had the time to look at."""
        return self.pictures[split].take(self.winner.rows[split])


def seconds_to_finish(num_pictures: int, budget_seconds: float) -> float:
    """Return the seconds of a budget to keep for shipping, measuring and the report."""
    ship = min(_SHIP_SECONDS, _SHIP_SHARE * budget_seconds) + _SHIP_SECONDS_PER_PICTURE * num_pictures
    return ship + _seconds_to_report(budget_seconds)


def _seconds_to_report(budget_seconds: float) -> float:
    return min(_REPORT_SECONDS, _REPORT_SHARE * budget_seconds)


def finish(run: Run, climbed: Climbed, heard: Heard) -> Steps[Summary]:
    """Open the test split for the winner, through its bundle; write the report; return what it says.

    Writes the numbers into the bundle's card, then `report.html`, `report.json` and, last, `result.json`.
    """
    bundle = climbed.bundle
    assert bundle is not None, "what is finished was shipped"
    predictor = Predictor(bundle, climbed.threads)
    seen = {
        split: measured(climbed.looked_at(split), climbed.winner.fitted.embeddings[split], predictor)
        for split in ("train", "val")
    }
    test = yield from stage("evaluate", _open_test(run, climbed))
    if test is not None:
        seen["test"] = measured(*test, predictor)
    elif not len(climbed.pictures["val"]):
        seen["train"] = _left_out(climbed)
        words = (
            "all numbers are of pictures left out in turn" if len(seen["train"].pictures) else "there are no numbers"
        )
        yield Note("warning", f"No picture was set apart for validation or test: {words}.")
    if climbed.crossed is not None and len(climbed.crossed.rows):
        yield Note("info", climbed.crossed.words)
    if words := left_aside(climbed, run.clock.interrupted):
        yield Note("warning", words)
    reports = {
        split: split_report(found, climbed.manifest.classes, bundle.card.temperature) for split, found in seen.items()
    }
    folds = _folds(climbed)
    there = {split for split, report in reports.items() if report.n}
    numbers = {split: dict(reports[split].metrics) if split in there else None for split in ("val", "test")}
    with_metrics(bundle.path, {**numbers, **({"folds": folds.as_json()} if folds else {})})
    return (yield from stage("report", _report(run, climbed, heard, predictor, seen, reports, folds)))


def left_aside(climbed: Climbed, interrupted: bool = False) -> str:
    """Say how many pictures of each split were used where it is not all, which is for lack of time; else nothing.

    Where the run was `interrupted`, that is the reason.
    """
    used = {split: len(climbed.winner.rows[split]) for split in SPLITS}
    if climbed.winner.fitted.looked_at is not None:
        used["train"] = len(climbed.pictures["train"])
    there = {split: len(climbed.pictures[split]) for split in SPLITS}
    if used == there:
        return ""
    parts = ", ".join(f"{used[split]:,} of {there[split]:,} in {split}" for split in SPLITS if there[split])
    why = "the run was asked to end" if interrupted else "a longer --budget uses more"
    return f"Only {parts} were used, and the numbers are of those; {why}."


def _left_out_rows(climbed: Climbed) -> IntArray:
    return climbed.winner.out_of_fold_rows if climbed.crossed is None else climbed.crossed.rows


def _left_out(climbed: Climbed) -> Measured:
    """Return training pictures as they were named by models that did not see them: those of folds, or out of fold."""
    winner, crossed = climbed.winner, climbed.crossed
    rows = _left_out_rows(climbed)
    probs = winner.left_out_probs() if crossed is None else crossed.probs
    places = np.searchsorted(winner.rows["train"], rows)
    return Measured(climbed.pictures["train"].take(rows), winner.fitted.embeddings["train"][places], probs)


def _folds(climbed: Climbed) -> Folds | None:
    """Return the numbers of the folds, where there are any."""
    if climbed.crossed is None or not len(climbed.crossed.rows):
        return None
    found = _left_out(climbed).metrics
    return Folds(climbed.crossed.count, found.as_json(), climbed.crossed.words, found.intervals())


def contract(summary: Summary) -> dict[str, Any]:
    """Return what `train --json` prints: version 1 of the JSON contract, and `folds` where there were any."""
    everything = summary.as_json(streamed=True)
    rungs = [
        {name: row[name] for name in ("method", "backbone", "seconds", "val", "left_out") if name in row}
        for row in everything["ladder"]
        if row["skipped"] is None
    ]
    names = ("version", "run", "bundle", "report", "method", "backbone", "classes", "seconds", "counts")
    head = {name: everything[name] for name in names}
    folds = {} if everything["folds"] is None else {"folds": everything["folds"]}
    return {**head, "ladder": rungs, "val": everything["val"], "test": everything["test"], **folds}


def _open_test(run: Run, climbed: Climbed) -> Steps[tuple[Pictures, FloatArray] | None]:
    test = climbed.looked_at("test")
    if not len(test):
        return None
    fitted = climbed.winner.fitted
    reserve = _seconds_to_report(run.clock.budget_seconds)
    steps = embed(fitted.trunk, fitted.preprocess, test.files, test.digests, run.cache, threads=climbed.threads)
    in_time = out_of_time(run.clock, lambda: reserve)
    if not missing(fitted.trunk, fitted.preprocess, test.digests, run.cache):
        in_time = out_of_time(run.clock, lambda: -math.inf)
    try:
        embeddings = yield from follow(steps, in_time, deaf=True)
    except OutOfTimeError:
        yield Note("warning", f"The test split was not opened: {_NO_TEST_PICTURES}.")
        return None
    rows = climbed.manifest.where(split="test")
    words = f"the winner is measured on {len(test):,} test pictures, opening {count_openings(run.folder, rows) + 1}"
    yield from decide(OPENED, fingerprint_of_test(rows), words)
    return test, embeddings


def _report(
    run: Run,
    climbed: Climbed,
    heard: Heard,
    predictor: Predictor,
    seen: dict[str, Measured],
    reports: dict[str, SplitReport],
    folds: Folds | None,
) -> Steps[Summary]:
    began = time.monotonic()
    bundle, manifest, fitted = predictor.bundle, climbed.manifest, climbed.winner.fitted
    there = (seen[split] for split in ("test", "val", "train") if split in seen and len(seen[split].pictures))
    headline = next(there, seen["train"])
    numbers: dict[str, Metrics | None] = {split: found.metrics for split, found in seen.items()}
    said = answered(headline, predictor)
    shown = chosen(said, manifest.counts["used"])
    policy, threads = fitted.preprocess.decode, climbed.threads
    cards = yield from pictured(said, shown, manifest, policy, threads, run.cache, run.clock)
    held_out = climbed.looked_at("val") if len(climbed.looked_at("val")) else climbed.looked_at("train")
    quick = run.recipe.fit.effort == "quick"
    looks, cards = yield from attention(
        bundle, held_out, headline.pictures, shown.mistakes, cards, threads, run.clock, run.cache, quick
    )
    give_back()
    audited = yield from _audited(run, climbed, seen, policy)
    learned_from = {row.path for row in manifest.where(split="train")}
    wrong = (row.path for finding in audited if finding.check == "label_suspect" for row in finding.rows)
    suspects = sum(path in learned_from for path in wrong)
    give_back()
    coached = yield from _coached(run, climbed, suspects)
    unlearned = seen.get("test", seen["val"]).pictures
    robust = yield from robustness_in_time(run, predictor, unlearned, _seconds_to_report(run.clock.budget_seconds))
    summary = Summary(
        title=run.data.resolve().name,
        data=str(run.data),
        classes=manifest.classes,
        counts=manifest.counts,
        method=fitted.method,
        run=str(run.folder),
        bundle=str(bundle.path),
        ladder=climbed.ladder,
        splits={split: report for split, report in reports.items() if report.n},  # type: ignore[misc]
        created=datetime.now(UTC),
        tellapart=__version__,
        backbone=fitted.backbone,
        backbone_licence=fitted.licence,
        report=str(run.folder / "report.html"),
        seconds=run.clock.spent(),
        budget_seconds=run.recipe.budget_seconds,
        balanced=climbed.ground.balanced,
        fit_words=judge.fit_words(numbers.get("train"), numbers.get("val"), numbers.get("test")),
        folds=folds,
        test_openings=count_openings(run.folder, manifest.where(split="test")) if "test" in seen else 0,
        epochs=fitted.epochs,
        range_test=heard.range_test(fitted.details.get("lr")),
        variations=_varied(climbed),
        mistakes=tuple(cards[row] for row in shown.mistakes if row in cards),
        examples=tuple(cards[row] for row in shown.examples if row in cards),
        answers=answer_shares(said, cards),
        findings=audited,
        slices=_sliced(climbed, seen),
        robustness=robust,
        curve=coached.curve,
        advice=coached.advice,
        attention=looks,
        risk=risk(said, bundle.card.thresholds.max_novelty),
        thresholds=bundle.card.thresholds.model_dump(),
        excluded=manifest.told_left_out(),
        notes=_once([*manifest.notes, *heard.notes, *fitted.notes]),
        decisions=heard.decisions,
        recipe=resolved(run, climbed.winner),
        asked=asked_for(run),
        interrupted=run.clock.interrupted,
        stages=(*heard.stages, ("report", time.monotonic() - began)),
        machine=machine(),
    )
    files.write_text(run.folder / "report.html", render(summary))
    files.write_json(run.folder / "report.json", summary.as_json(streamed=True))
    files.write_json(run.folder / "result.json", contract(summary))
    return summary


def _varied(climbed: Climbed) -> Variations | None:
    """Return how training pictures were varied, each of those that are shown as one strip."""
    found = climbed.winner.fitted.variations
    if found is None:
        return None
    train, classes = climbed.looked_at("train"), climbed.manifest.classes
    names = {row.sha256: row.path for row in climbed.manifest.where(split="train")}
    strips = []
    for row, pictures in zip(found.rows.tolist(), found.pictures, strict=True):
        across = np.concatenate(list(pictures), axis=1)
        label, path = classes[int(train.targets[row])], names.get(train.digests[row], "")
        strips.append(Strip(thumbnail_jpeg(across, across.shape[1]), path, label, len(pictures) - 1))
    return Variations(found.words, found.share, tuple(strips))


def _sliced(climbed: Climbed, seen: Mapping[str, Measured]) -> Slices | None:
    """Return the parts of the split of the verdict against the rest; None where the scan's measures are not at hand."""
    order: tuple[Split, ...] = ("test", "val", "train")
    split = next((name for name in order if name in seen and len(seen[name].pictures)), None)
    if climbed.looked is None or split is None or (split == "train" and len(climbed.pictures["val"])):
        return None
    looked_at = climbed.winner.rows[split] if split != "train" else _left_out_rows(climbed)
    manifest = climbed.manifest
    places = np.array([place for place, row in enumerate(manifest.rows) if row.split == split])[looked_at]
    rows = [manifest.rows[place] for place in places.tolist()]
    return sliced(rows, manifest.columns, climbed.looked.evidence.measures[places], seen[split].right)


def _coached(run: Run, climbed: Climbed, suspects: int) -> Steps[Coached]:
    """Return advice, or none where there is no time left for it; `suspects` labels look wrong."""
    steps = coach(
        climbed.winner,
        climbed.looked_at("train"),
        len(climbed.pictures["train"]),
        climbed.manifest.classes,
        climbed.ground.balanced,
        suspects,
        seed=run.recipe.seed,
    )
    reserve = _seconds_to_report(run.clock.budget_seconds)
    try:
        return (yield from follow(steps, out_of_time(run.clock, lambda: reserve)))
    except InterruptedRunError:
        return Coached(None, ())


def _audited(
    run: Run, climbed: Climbed, seen: Mapping[str, Measured], policy: DecodePolicy
) -> Steps[tuple[Found, ...]]:
    """Return what the audit found, with thumbnails of the first suspects, as far as there is time."""
    if climbed.looked is None:
        return ()
    reserve = _seconds_to_report(run.clock.budget_seconds)
    steps = second_look(run, climbed.looked, climbed.winner, seen, reserve)
    findings = yield from follow(steps, lambda _: None)
    return (
        yield from found(findings, climbed.manifest, policy, _SUSPECTS, climbed.threads, run.cache, run.clock, reserve)
    )


def _once(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
