"""A class that is added is balanced against the old ones as the bundle's run was asked to, and the card says how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest

import tellapart
from tellapart import judge
from tellapart.driving import finish
from tellapart.ladder.clock import Clock
from tellapart.ladder.extend import Both, Extended, extend
from tellapart.ladder.known import Known
from tellapart.ladder.run import Run
from tellapart.learn.balanced_head import balanced_head
from tellapart.learn.balancing import class_weights_of
from tellapart.learn.refit import out_of_fold_as, refit
from tellapart.learn.rungs import FloatArray, Head, IntArray, Pictures
from tellapart.recipe import Balance, Recipe
from tellapart.runtime import Bundle
from tests.ladder.test_add_class import write_frogs

Write = Callable[..., Bundle]
COUNTS = (90, 80, 16)  # of ants, of bees, and of the class that is added
PARENT = {"balance": "weights", "class_weights": True, "head": "class_means", "gamma": 1.0}  # of the old head alone


def clouds() -> tuple[FloatArray, IntArray]:
    targets = np.repeat(np.arange(3), COUNTS).astype(np.int64)
    middles = 1.2 * np.eye(3, 8)
    return (middles[targets] + np.random.default_rng(0).normal(size=(len(targets), 8))).astype(np.float32), targets


def pictures(targets: IntArray, name: str) -> Pictures:
    names = tuple(f"{name} {row}" for row in range(len(targets)))
    return Pictures((Path(),) * len(names), names, names, targets)


def extended(bundle: Bundle, wish: Balance, folder: Path) -> tuple[Both, Extended]:
    X, targets = clouds()
    count = sum(COUNTS[:2])
    every = np.ones(count, dtype=bool)
    old = Known("data", "", X[:count], pictures(targets[:count], "old"), ~every, every, frozenset())
    both = Both(bundle, b"", old, pictures(targets[count:], "new"), X[count:], 0)
    run = Run(folder, folder, folder, Recipe.of(balance=wish), Clock(60.0))
    return both, finish(extend(both, run))


@pytest.mark.parametrize("wish", ["none", "weights", "logit", "auto"])
def test_the_head_and_its_temperature_are_balanced_as_the_run_was_asked_to(
    write_tiny_bundle: Write, tmp_path: Path, wish: Balance
) -> None:
    bundle = write_tiny_bundle(tmp_path / "old", recipe={"details": PARENT})
    both, found = extended(bundle, wish, tmp_path)
    X, targets = clouds()
    fitted, way = finish(balanced_head(X, targets, 3, both.folds, wish))
    assert (way.kind == wish) is (wish != "auto")
    made = found.winner.fitted
    assert isinstance(made.head, Head)
    np.testing.assert_array_equal(made.head.bias, fitted.head.bias)
    np.testing.assert_array_equal(made.head.weight, fitted.head.weight)
    weights = class_weights_of(targets, 3)[targets] if way.alike else None
    assert found.winner.temperature == judge.fit_temperature(fitted.out_of_fold, targets, weights)
    told = {name: made.details.get(name) for name in (*PARENT, "penalty")}
    assert told == {
        "balance": way.kind,
        "class_weights": way.weights is not None,
        "head": None,
        "gamma": None,
        "penalty": fitted.penalty,
    }


@pytest.mark.parametrize("wish", ["none", "logit", "even this"])
def test_the_wish_is_read_from_the_card_and_written_to_the_new_one(
    write_tiny_bundle: Write, tmp_path: Path, wish: str
) -> None:
    write_frogs(tmp_path / "frogs", 5)
    old = write_tiny_bundle(tmp_path / "old", recipe={"fit": {"balance": wish}, "details": PARENT})
    tellapart.add_class(old.path, "frogs", tmp_path / "frogs", out=tmp_path / "new")
    recipe = Bundle(tmp_path / "new").card.recipe
    assert recipe["fit"] == {"balance": wish}
    told = recipe["details"]["balance"]
    assert told in ("weights", "logit") if wish == "even this" else told == wish


def test_the_old_classes_alone_are_balanced_as_they_were() -> None:
    X, targets = clouds()
    folds = np.arange(len(targets)) % 5
    made = finish(refit(X, targets, folds, 3, False, lambda: 60.0, 0, "logit"))
    assert made.penalty > 0
    for wish, far in (("logit", False), ("none", True)):
        steps = out_of_fold_as(made, X, targets, folds, 3, lambda: 60.0, 0, cast(Balance, wish))
        rows, logits = finish(steps)
        assert rows.tolist() == made.rows.tolist()
        gaps = np.abs(judge.softmax(logits) - judge.softmax(made.out_of_fold))
        assert bool(gaps.mean() > 0.05) is far
