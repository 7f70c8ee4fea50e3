"""A run ships the score of novelty that its own classes, left out in turn, show to be the best."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.events import Decision, Recall
from tellapart.judge import Novelty
from tellapart.judge.gaussian import fit_gaussian
from tellapart.judge.separation import Scores, auroc, blend_of
from tellapart.ladder.choose import Candidate
from tellapart.ladder.clock import Clock
from tellapart.ladder.keep import Kept
from tellapart.ladder.novel import blended, novel
from tellapart.ladder.run import Run
from tellapart.learn.rungs import Fitted, Head, OutOfFold, Pictures
from tellapart.recipe import Recipe
from tellapart.runtime import Bundle

CLASSES = 4


def _embeddings(rng: np.random.Generator, targets: np.ndarray) -> np.ndarray:
    """A class along each axis; along two others a spread that tells nothing, so that only a covariance sees past it."""
    X = rng.normal(size=(len(targets), CLASSES + 4)) * 0.25
    X[np.arange(len(targets)), targets] += 1.5
    X[:, -2:] += rng.normal(size=(len(targets), 2)) * 3.0
    return X.astype(np.float32)


@pytest.fixture
def made(tiny_fitted: Fitted, tmp_path: Path) -> tuple[Run, Candidate, Pictures, Kept]:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(CLASSES), 60)
    X = _embeddings(rng, targets)
    weight = np.eye(CLASSES + 4, CLASSES, dtype=np.float32) * 4.0
    head = Head(weight, np.zeros(CLASSES, np.float32))
    rows = np.arange(len(targets))
    fitted = dataclasses.replace(
        tiny_fitted, head=head, out_of_fold=OutOfFold(rows, head.logits(X)), embeddings={"train": X, "val": X[:0]},
        held_out=rows, details={"penalty": 0.01},
    )  # fmt: skip
    candidate = Candidate(fitted, 1.0, {"train": rows}, np.zeros((0, CLASSES)), 0.0)
    names = tuple(f"{row:064x}" for row in range(len(targets)))
    train = Pictures(tuple(tmp_path / name for name in names), names, names, targets)
    kept = Kept(Novelty.fit(X, X), rows, targets, (0.0, 1.0), np.zeros((1, 16, 16, 3), np.uint8), None, None)
    return Run(tmp_path, tmp_path, tmp_path, Recipe(), Clock(60.0)), candidate, train, kept


def _run(
    *arguments: Any, before: Sequence[Decision] = (), all_of: list[Decision] | None = None
) -> tuple[Novelty, Decision]:
    """Return the novelty and the decision on it; `before` is what an attempt that was cut off had decided."""
    decisions: list[Decision] = []
    steps = novel(*arguments)
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            [decision] = decisions
            return stop.value, decision
        if isinstance(event, Recall):
            event.decided.extend(known for known in before if known.name == event.name)
        if isinstance(event, Decision) and all_of is not None:
            all_of.append(event)
        if isinstance(event, Decision) and event.name == "novelty":
            decisions.append(event)


def test_the_score_that_separates_is_shipped_and_is_a_percentile(made: tuple[Run, Candidate, Pictures, Kept]) -> None:
    novelty, decision = _run(*made)
    assert "mahalanobis" in "".join(decision.value)
    assert "classes left out" in decision.evidence
    head, rng = made[1].fitted.head, np.random.default_rng(1)
    alike = _embeddings(rng, rng.integers(0, CLASSES, 500))
    shares = novelty.score(alike, head.logits(alike))
    assert abs(shares.mean() - 0.5) < 0.07
    assert np.mean(shares > 0.99) < 0.04
    other = alike.copy()
    other[:, :CLASSES] = other[:, :CLASSES].mean(axis=1, keepdims=True)  # of no class
    assert auroc(shares, novelty.score(other, head.logits(other))) > 0.95
    before = auroc(made[3].novelty.score(alike), made[3].novelty.score(other))
    assert before < 0.9


def test_few_pictures_of_many_numbers_do_not_make_pictures_of_known_kinds_unknown() -> None:
    """Folds fit in fewer directions than all pictures could, and distances grow with the number of directions."""
    rng = np.random.default_rng(0)
    targets, others = np.repeat([0, 1], 80), np.repeat([0, 1], 150)
    X, new = (rng.normal(size=(len(of), 300)).astype(np.float32) + of[:, None] for of in (targets, others))
    names = tuple(f"{row:064x}" for row in range(len(targets)))
    train = Pictures(tuple(Path(name) for name in names), names, names, targets)
    kept = Kept(Novelty.fit(X, X), np.arange(160), targets, (0.0, 1.0), np.zeros((1, 16, 16, 3), np.uint8), None, None)
    novelty = blended(("mahalanobis",), kept, train, X, np.zeros((160, 2), np.float32), train)
    assert np.mean(novelty.score(new, np.zeros((300, 2), np.float32)) > 0.95) < 0.15


def test_a_bundle_scores_as_it_was_fitted(
    made: tuple[Run, Candidate, Pictures, Kept], write_tiny_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    _, candidate, train, _ = made
    X, targets = candidate.fitted.embeddings["train"][:, :3], train.targets % 2
    head, near = Head(np.eye(3, 2, dtype=np.float32), np.zeros(2, np.float32)), Novelty.fit(X, X)
    logits, gaussian = head.logits(X), fit_gaussian(X, targets)
    scores = Scores.of(near.distances(X), gaussian.distances(X), logits)
    blend = blend_of(("energy", "mahalanobis", "residual"), scores, 2, gaussian)
    novelty = near.blended(blend, scores.blended(blend))
    changes = {"novelty": novelty.arrays(), "reference_labels": targets, "thumbnails": None}
    scorer = Bundle(write_tiny_bundle(tmp_path / "bundle", **changes).path).reference.novelty()
    stored = [scorer.score(*pair) for pair in zip(X, logits, strict=True)]
    assert stored == novelty.score(X, logits).tolist()
    assert 0.4 < np.mean(stored) < 0.6


@pytest.mark.parametrize("seconds", [60.0, 1.0])
def test_a_run_that_goes_on_leaves_out_as_many_classes_as_before_whatever_the_clock_says(
    made: tuple[Run, Candidate, Pictures, Kept], seconds: float
) -> None:
    run, *others = made
    decided: list[Decision] = []
    first, how = _run(dataclasses.replace(run, clock=Clock(seconds)), *others, all_of=decided)
    [rounds] = [one for one in decided if one.name.endswith(".novelty_rounds")]
    assert bool(rounds.value) is (seconds > 5.0)
    other = dataclasses.replace(run, clock=Clock(61.0 - seconds))
    again: list[Decision] = []
    second, as_before = _run(other, *others, before=decided, all_of=again)
    assert (as_before.value, as_before.evidence) == (how.value, how.evidence)
    assert again[0] == dataclasses.replace(rounds, again=True)
    assert all(np.array_equal(value, second.arrays()[name]) for name, value in first.arrays().items())


@pytest.mark.parametrize("why", ["time", "few"])
def test_neighbours_stay_where_nothing_can_be_shown(made: tuple[Run, Candidate, Pictures, Kept], why: str) -> None:
    run, candidate, train, kept = made
    if why == "time":
        run = dataclasses.replace(run, clock=Clock(60.0, spent_already=58.0))
    else:
        candidate = dataclasses.replace(candidate, fitted=dataclasses.replace(candidate.fitted, held_out=np.arange(20)))
    novelty, decision = _run(run, candidate, train, kept)
    assert novelty is kept.novelty
    assert decision.value == ["neighbours"]
    assert why in decision.evidence
