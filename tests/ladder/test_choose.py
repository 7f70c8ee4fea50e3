"""Which rung wins, on which pictures, and that what picks it is not what calibrates it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tellapart import judge
from tellapart.images import Preprocess
from tellapart.ladder.affordable import thinned
from tellapart.ladder.choose import ENOUGH_TO_COMPARE, Candidate, Ground, always_one_class, beats, candidate
from tellapart.learn.rungs import Fitted, Head, OutOfFold, Pictures

CLASSES = 3


def ground(num_train: int, num_val: int) -> Ground:
    return Ground(np.arange(num_train) % CLASSES, np.arange(num_val) % CLASSES, balanced=False)


def made(method: str, where: Ground, skill: float, fold_skill: float | None = None) -> Candidate:
    """A rung whose logits favour the true class by `skill` on val, and by `fold_skill` out of fold."""
    rows = {"train": np.arange(len(where.train_targets)), "val": np.arange(len(where.val_targets))}
    fold_skill = skill if fold_skill is None else fold_skill
    fitted = Fitted(
        method=method,
        trunk=b"",
        head=Head(np.eye(CLASSES, dtype=np.float32), np.zeros(CLASSES, np.float32)),
        preprocess=Preprocess(image_size=8),
        out_of_fold=OutOfFold(rows["train"], _logits(where.train_targets, fold_skill, 1)),
        embeddings={"val": _logits(where.val_targets, skill, 2)},
        held_out=rows["train"],
    )
    return candidate(fitted, where, rows, seconds=1.0)  # type: ignore[arg-type]


def _logits(targets: np.ndarray, skill: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(len(targets), CLASSES))
    return np.asarray(noise + skill * np.eye(CLASSES)[targets], dtype=np.float32)


def test_with_few_validation_pictures_rungs_meet_out_of_fold() -> None:
    where = ground(300, ENOUGH_TO_COMPARE - 1)
    better_on_val = made("scratch", where, skill=5.0, fold_skill=0.5)
    better_on_folds = made("probe", where, skill=0.5, fold_skill=5.0)
    assert not beats(better_on_val, better_on_folds, where).better
    assert beats(better_on_folds, better_on_val, where).n == 300


def test_with_enough_validation_pictures_rungs_meet_there() -> None:
    where = ground(300, ENOUGH_TO_COMPARE)
    better_on_val = made("scratch", where, skill=5.0, fold_skill=0.5)
    better_on_folds = made("probe", where, skill=0.5, fold_skill=5.0)
    comparison = beats(better_on_val, better_on_folds, where)
    assert comparison.better
    assert comparison.n == ENOUGH_TO_COMPARE


def test_a_dearer_rung_that_is_no_better_does_not_replace_a_cheaper_one() -> None:
    where = ground(300, 100)
    assert not beats(made("scratch", where, 2.0), made("probe", where, 2.0), where).better


def test_a_tuned_backbone_meets_the_probe_as_it_is_when_fitted_on_the_same_pictures() -> None:
    where = ground(300, 100)
    probe = made("probe", where, skill=2.0)
    rows = np.arange(0, 300, 3)
    few = OutOfFold(rows, _logits(where.train_targets[rows], 1.7, 3))  # by models of fewer pictures, hence worse
    tuned = dataclasses.replace(made("finetune", where, skill=3.0).fitted, out_of_fold=few)
    assert not beats(candidate(tuned, where, probe.rows, 1.0), probe, where).better
    same = dataclasses.replace(few, before=_logits(where.train_targets[rows], 0.7, 3))
    told = beats(candidate(dataclasses.replace(tuned, out_of_fold=same), where, probe.rows, 1.0), probe, where)
    assert told.better
    assert told.n == 100
    assert "fitted on the same pictures" in told.words
    worse = dataclasses.replace(few, before=_logits(where.train_targets[rows], 2.7, 3))
    other = candidate(dataclasses.replace(tuned, out_of_fold=worse), where, probe.rows, 1.0)
    assert beats(other, probe, where).difference > 0
    another = dataclasses.replace(probe, fitted=dataclasses.replace(probe.fitted, backbone="another"))
    assert beats(other, another, where).words == beats(candidate(tuned, where, probe.rows, 1.0), another, where).words


def test_what_costs_no_more_to_run_stays_by_a_one_sided_test() -> None:
    where, shares = ground(300, 100), []
    probe = made("probe", where, skill=2.0)
    for skill in np.arange(1.0, 2.0, 0.02):
        both = OutOfFold(
            probe.out_of_fold_rows, _logits(where.train_targets, 1.5, 3), _logits(where.train_targets, skill, 4)
        )
        tuned = dataclasses.replace(made("finetune", where, skill=3.0).fitted, out_of_fold=both)
        told = beats(candidate(tuned, where, probe.rows, 1.0), probe, where)
        assert "90% interval" in told.words
        assert told.better == (told.high < 0.0)
        wide = (told.high - told.difference) * 1.960 / 1.645
        shares.append(told.better and told.difference + wide > 0.0)
    assert any(shares), "no case between the two tests was met"


def test_rungs_that_looked_at_other_pictures_meet_on_those_both_saw() -> None:
    where = ground(300, 100)
    half = made("probe", where, 3.0)
    rows = {"train": np.arange(0, 300, 2), "val": np.arange(0, 100, 2)}
    fitted = dataclasses.replace(
        half.fitted,
        out_of_fold=OutOfFold(np.arange(150), half.fitted.out_of_fold.logits[::2]),
        embeddings={"val": half.fitted.embeddings["val"][::2]},
    )
    thin = candidate(fitted, where, rows, 1.0)  # type: ignore[arg-type]
    comparison = beats(made("scratch", where, 0.2), thin, where)
    assert comparison.n == 150
    assert comparison.difference > 0


def test_temperature_comes_from_out_of_fold_logits_alone() -> None:
    where = ground(300, 100)
    found = made("probe", where, skill=9.0, fold_skill=1.0)
    logits = found.fitted.out_of_fold.logits
    assert found.temperature == pytest.approx(judge.fit_temperature(logits, where.train_targets))
    np.testing.assert_allclose(found.val_probs, judge.softmax(found.fitted.embeddings["val"] / found.temperature), 1e-5)


def test_classes_are_unbalanced_from_two_to_one_on() -> None:
    assert not judge.is_unbalanced(np.array([100, 60, 51]))
    assert judge.is_unbalanced(np.array([100, 60, 50]))
    assert judge.is_unbalanced(np.array([3, 0]))


def pictures(targets: list[int]) -> Pictures:
    return Pictures(
        (Path("x.png"),) * len(targets),
        tuple(f"{n:064x}" for n in range(len(targets))),
        ("",) * len(targets),
        np.array(targets),
    )


def test_fewer_pictures_keep_the_shares_of_the_classes_and_a_longer_budget_only_adds() -> None:
    splits = {"train": pictures([0] * 600 + [1] * 300 + [2] * 3), "val": pictures([0] * 60 + [1] * 30)}
    little, more = thinned(splits, 100), thinned(splits, 400)  # type: ignore[arg-type]
    counts = np.bincount(splits["train"].targets[little["train"]])
    assert counts[2] == 1
    assert counts[0] / counts[1] == pytest.approx(2.0, rel=0.1)
    assert sum(map(len, little.values())) == pytest.approx(100, rel=0.1)
    for split in splits:
        assert set(little[split]) < set(more[split])  # type: ignore[index]
    everything = thinned(splits, 10**6)  # type: ignore[arg-type]
    assert [len(rows) for rows in everything.values()] == [903, 90]


def test_a_rung_that_calls_all_pictures_one_class_is_noticed() -> None:
    """As after an explosion (case 92); `majority` does so by its nature, and where all are of one class it is right."""
    where = ground(60, 30)
    stuck = made("scratch", where, 2.0)
    stuck = dataclasses.replace(stuck, val_probs=np.tile(np.array([0.2, 0.7, 0.1]), (30, 1)))
    assert always_one_class(stuck, where) == 1
    assert always_one_class(made("scratch", where, 2.0), where) is None
    majority = dataclasses.replace(stuck, fitted=dataclasses.replace(stuck.fitted, method="majority"))
    assert always_one_class(majority, where) is None
    assert always_one_class(stuck, dataclasses.replace(where, val_targets=np.ones(30, np.int64))) is None


def shares(where: Ground) -> Candidate:
    """`majority`, its out-of-fold logits alike for all."""
    found = made("majority", where, 0.0)
    flat = np.zeros_like(found.fitted.out_of_fold.logits)
    held = OutOfFold(found.fitted.out_of_fold.rows, flat)
    return candidate(dataclasses.replace(found.fitted, out_of_fold=held), where, found.rows, 1.0)


@pytest.mark.parametrize(("num_train", "kept"), [(4, True), (6, True), (18, False), (60, False)])
def test_too_few_pictures_to_tell_do_not_put_guessing_before_what_was_learned(num_train: int, kept: bool) -> None:
    """All named wrong, as leaving one of very few out does: only from some number on is that worse than guessing."""
    where = ground(num_train, 0)
    wrong = made("classical", where, skill=-50.0)
    comparison = beats(wrong, shares(where), where)
    assert comparison.difference > 0
    assert comparison.better is kept
    assert ("too few to compare" in comparison.words) is (num_train < 20)
