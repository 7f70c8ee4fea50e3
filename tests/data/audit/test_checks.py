"""What each check finds of faults planted in made-up evidence, and what it leaves alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tellapart.data.audit import REGISTRY, CheckName, Evidence, Finding
from tellapart.data.audit.confusable_classes import area_under_curve
from tellapart.data.audit.label_suspect import believed, blind_labels, confident_classes, with_neighbours
from tellapart.data.audit.outlier import distances
from tellapart.data.audit.robust import deviations, wilson
from tellapart.data.manifest import Excluded, Split
from tests.data.audit.conftest import made


def found(name: CheckName, evidence: Evidence) -> Finding:
    finding = REGISTRY[name](evidence)
    assert finding is not None
    return finding


def paths(finding: Finding) -> set[str]:
    return {row.path for row in finding.rows}


def noisy(n: int, share: float, seed: int, skill: float = 4.0) -> tuple[Evidence, set[int]]:
    """Return evidence whose labels are wrong in a share of rows, with calibrated predictions of the true ones."""
    random = np.random.default_rng(seed)
    true = random.integers(0, 5, n)
    logits = random.normal(0, 1, (n, 5))
    logits[np.arange(n), true] += skill * random.random(n) ** 0.3
    wrong = random.choice(n, int(share * n), replace=False)
    given = true.copy()
    given[wrong] = (given[wrong] + random.integers(1, 5, len(wrong))) % 5
    probs = np.exp(1.5 * logits) / np.exp(1.5 * logits).sum(axis=1, keepdims=True)
    evidence = dataclasses.replace(made(n, 5, seed), targets=given.astype(np.int64), probs=probs)
    return evidence, set(wrong.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_case_71_most_wrong_labels_are_listed_and_few_right_ones(seed: int) -> None:
    evidence, wrong = noisy(2000, 0.05, seed)
    finding = found("label_suspect", evidence)
    rows = {evidence.paths.index(row.path): row for row in finding.rows}
    assert len(wrong & set(rows)) >= 0.7 * len(wrong)
    assert len(set(rows) - wrong) <= 0.02 * len(evidence)
    right = [rows[row].suggested == evidence.classes[int(evidence.probs[row].argmax())] for row in wrong & set(rows)]
    assert np.mean(right) > 0.95
    assert all(row.suggested != row.label for row in finding.rows)


def test_right_labels_are_hardly_ever_suspected() -> None:
    evidence, _ = noisy(2000, 0.0, 9)
    finding = REGISTRY["label_suspect"](evidence)
    assert finding is None or len(finding.rows) <= 0.02 * len(evidence)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.1])
def test_the_share_of_wrong_labels_is_estimated(share: float) -> None:
    evidence, _ = noisy(4000, share, 3)
    # A blind label is right by chance one time in five.
    assert blind_labels(evidence.probs, evidence.targets).error == pytest.approx(share * 5 / 4, abs=0.015)


def test_confident_classes_are_those_of_a_plain_loop() -> None:
    random = np.random.default_rng(1)
    probs = random.dirichlet(np.ones(4), 300)
    targets = random.integers(0, 4, 300)
    means = [np.mean([p[k] for p, t in zip(probs, targets, strict=True) if t == k]) for k in range(4)]
    expected = []
    for row in probs:
        above = [(row[k], k) for k in range(4) if row[k] >= means[k] - 1e-6]
        expected.append(max(above)[1] if above else -1)
    assert confident_classes(probs, targets).tolist() == expected


def test_the_area_under_the_curve_is_that_of_all_pairs() -> None:
    random = np.random.default_rng(0)
    one, other = random.integers(0, 9, 40).astype(float), random.integers(2, 12, 30).astype(float)
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in one for b in other]
    assert area_under_curve(one, other) == pytest.approx(np.mean(pairs))


def test_the_interval_of_a_proportion_is_that_of_the_books() -> None:
    assert wilson(8, 10) == pytest.approx((0.4901, 0.9433), abs=1e-4)  # Wilson 1927, as in Brown, Cai, DasGupta 2001
    assert wilson(0, 0) == (0.0, 1.0)


def test_deviations_are_not_moved_by_a_few_odd_values() -> None:
    values = np.random.default_rng(0).normal(10, 2, 2000)
    values[:50] = 1e6
    assert np.median(np.abs(deviations(values, 0.1)[50:])) == pytest.approx(0.67, abs=0.1)
    assert (deviations(values, 0.1)[:50] > 1000).all()


def test_a_picture_far_from_all_others_is_an_outlier_and_its_copies_do_not_hide_it() -> None:
    evidence = made(300, 3)
    embeddings = evidence.embeddings.copy()
    embeddings[[7, 8]] = -embeddings.mean(axis=0) * 9
    near = evidence.near.copy()
    near[8] = 7
    finding = found("outlier", dataclasses.replace(evidence, embeddings=embeddings, near=near))
    assert paths(finding) == {evidence.paths[7], evidence.paths[8]}


def test_distances_are_those_to_the_five_nearest_that_are_no_version() -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(60, 8)).astype(np.float32)
    near = np.arange(60)
    near[1] = 0
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    away = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    away[near[:, None] == near[None]] = 2.0
    assert distances(X, near) == pytest.approx(np.sort(away, axis=1)[:, :5].mean(axis=1), rel=1e-3)


QUALITY = {
    "blank": {"contrast": 0.3, "entropy": 0.2, "sharpness": 0.0},
    "very dark": {"brightness": 5.0},
    "very bright": {"brightness": 250.0},
    "blurred": {"sharpness": 1.5},
    "with little information": {"entropy": 1.5},
}


def test_a_picture_of_wide_edges_is_blurred_though_its_contrast_hides_it() -> None:
    evidence = made(400, 4)
    measures = evidence.measures.copy()
    measures["contrast"] = np.exp(np.random.default_rng(3).normal(4, 0.6, 400))
    measures["sharpness"][3], measures["slope"][3], measures["contrast"][3] = 6.0, 15.0, 50.0
    assert paths(found("quality", dataclasses.replace(evidence, measures=measures))) == {evidence.paths[3]}


@pytest.mark.parametrize("words", QUALITY)
def test_case_41_what_is_odd_in_its_set_is_of_bad_quality(words: str) -> None:
    evidence = made(400, 4)
    measures = evidence.measures.copy()
    for name, value in QUALITY[words].items():
        measures[name][[3, 30]] = value
    finding = found("quality", dataclasses.replace(evidence, measures=measures))
    assert paths(finding) == {evidence.paths[3], evidence.paths[30]}
    assert all(words in row.why for row in finding.rows)
    assert f"2 {words}" in finding.note


@pytest.mark.parametrize(("name", "value"), [("brightness", 12.0), ("entropy", 2.0), ("sharpness", 1.0)])
def test_what_all_pictures_of_a_set_are_is_not_odd(name: str, value: float) -> None:
    evidence = made(400, 4)
    measures = evidence.measures.copy()
    measures[name] = np.random.default_rng(5).normal(value, 0.1 * value, 400)
    grey = dataclasses.replace(evidence, measures=measures, grey=np.ones(400, dtype=bool))
    assert REGISTRY["quality"](grey) is None


def test_a_few_grey_pictures_among_colour_and_a_few_odd_sizes_are_named() -> None:
    evidence = made(400, 4)
    grey, sizes = evidence.grey.copy(), evidence.sizes.copy()
    grey[5], sizes[6], sizes[7] = True, (16, 12), (3000, 200)
    finding = found("quality", dataclasses.replace(evidence, grey=grey, sizes=sizes))
    assert paths(finding) == {evidence.paths[row] for row in (5, 6, 7)}


def test_a_picture_larger_than_the_others_is_no_worse_than_they_are() -> None:
    evidence = made(400, 4)
    sizes = evidence.sizes.copy()
    sizes[7] = sizes[7] * 8
    assert REGISTRY["quality"](dataclasses.replace(evidence, sizes=sizes)) is None


def test_case_42_a_stand_in_that_is_there_many_times_is_a_placeholder() -> None:
    evidence = made(400, 4)
    measures, same = evidence.measures.copy(), evidence.identities.copy()
    rows = [0, 4, 8, 12, 16]
    same[rows], measures["entropy"][rows] = 0, 6.0
    finding = found("quality", dataclasses.replace(evidence, identities=same, measures=measures))
    assert paths(finding) == {evidence.paths[row] for row in rows}


def test_a_leak_tells_the_accuracy_with_and_without_it() -> None:
    evidence = made(400, 2)
    splits: list[Split] = ["train" if row < 300 else "test" for row in range(400)]
    identities = evidence.identities.copy()
    identities[300:340] = np.arange(40)
    probs = np.full((400, 2), 0.5) + np.array([0.4, -0.4])
    probs[np.arange(300, 340), evidence.targets[300:340]] = 0.99  # the leaked ones are known by heart
    probs /= probs.sum(axis=1, keepdims=True)
    finding = found(
        "split_leak",
        dataclasses.replace(
            evidence,
            splits=splits,
            given=("train", "test"),
            identities=identities,
            near=identities,
            probs=probs,
        ),
    )
    assert paths(finding) == set(evidence.paths[300:340])
    assert "40 of 100 test pictures" in finding.note
    assert "accuracy 70.0% [60.4% to 78.1%] of 100 with them, 50.0% [37.7% to 62.3%] of 60 without" in finding.note


def test_without_given_splits_nothing_leaks() -> None:
    evidence = made(200, 2)
    copies = evidence.identities % 50
    assert REGISTRY["split_leak"](dataclasses.replace(evidence, identities=copies, near=copies)) is None


def test_a_series_is_told_whether_or_not_it_is_kept_together() -> None:
    evidence = dataclasses.replace(made(200, 2), series=np.arange(200) // 10)
    assert "a random split tears them apart" in found("series_leak", evidence).note
    kept = found("series_leak", dataclasses.replace(evidence, series_kept=True))
    assert kept.severity < found("series_leak", evidence).severity
    given = dataclasses.replace(
        evidence, splits=["train" if row % 2 else "test" for row in range(200)], given=("train", "test")
    )
    assert paths(found("series_leak", given)) == set(evidence.paths[::2])


@pytest.mark.parametrize("fact", ["file size", "dimensions", "camera", "compression", "border colour"])
def test_case_79_a_fact_that_tells_the_class_is_a_shortcut(fact: str) -> None:
    evidence = made(400, 4)
    measures, sizes = evidence.measures.copy(), evidence.sizes.copy()
    one = evidence.targets == 2
    if fact == "file size":
        measures["file_bytes"][one] = 90_000
    elif fact == "dimensions":
        sizes[one] = (640, 480)
    elif fact == "camera":
        measures["camera"][one] = 77
    elif fact == "compression":
        measures["jpeg_quality"][one] = 40
    else:
        measures["border"][one] = 0
    finding = found("shortcut", dataclasses.replace(evidence, measures=measures, sizes=sizes))
    assert fact in finding.note
    assert "class2" in finding.note
    assert {row.label for row in finding.rows} == {"class2"}


def test_facts_drawn_blindly_are_no_shortcut() -> None:
    assert [REGISTRY["shortcut"](made(300, 3, seed)) for seed in range(5)] == [None] * 5


def test_classes_that_are_one_kind_of_picture_are_confusable() -> None:
    evidence = made(600, 4)
    probs = evidence.probs.copy()
    both = np.isin(evidence.targets, (1, 3))
    probs[both] = np.random.default_rng(0).dirichlet((1, 9, 1, 9), int(both.sum()))
    finding = found("confusable_classes", dataclasses.replace(evidence, probs=probs))
    assert "1 pair(s)" in finding.note
    assert "class1 and class3" in finding.note
    assert {row.suggested for row in finding.rows} == {"class1", "class3"}


def test_a_split_of_other_pictures_has_shifted_and_one_drawn_blindly_has_not() -> None:
    evidence = made(600, 3)
    test = np.random.default_rng(0).random(600) < 0.3
    splits = np.where(test, "test", "train").tolist()
    blind = dataclasses.replace(evidence, splits=splits, given=("train", "test"))
    assert REGISTRY["split_shift"](blind) is None
    embeddings = evidence.embeddings.copy()
    embeddings[test] += 1.5
    finding = found("split_shift", dataclasses.replace(blind, embeddings=embeddings))
    assert "test differs from train in what is seen" in finding.note


def test_other_shares_of_the_classes_are_no_shift() -> None:
    evidence = made(900, 3)
    random = np.random.default_rng(0)
    test = random.random(900) < np.array([0.6, 0.2, 0.05])[evidence.targets]
    splits = np.where(test, "test", "train").tolist()
    assert REGISTRY["split_shift"](dataclasses.replace(evidence, splits=splits, given=("train", "test"))) is None


def test_uneven_and_tiny_classes_are_told_with_their_counts() -> None:
    targets = np.repeat([0, 1, 2], [150, 46, 4]).astype(np.int64)
    finding = found("imbalance", dataclasses.replace(made(200, 3), targets=targets))
    assert "class0 has 150 training pictures, class2 4: 37.5 times fewer." in finding.note
    assert len(finding.rows) == 4
    assert REGISTRY["imbalance"](made(200, 3)) is None


def test_a_class_is_called_tiny_by_its_training_pictures_and_told_so() -> None:
    targets = np.repeat([0, 1], [40, 12]).astype(np.int64)
    evidence = dataclasses.replace(made(52, 2), targets=targets, splits=("train",) * 48 + ("val", "test") * 2)
    finding = found("imbalance", evidence)
    assert "fewer than 10 training pictures: class1 (8)" in finding.note
    assert {row.why for row in finding.rows} == {"one of 8 training pictures"}


def test_what_was_lost_is_counted_by_reason_and_the_broken_come_first() -> None:
    lost = (
        Excluded("a/notes.txt", "not_an_image", "No picture.", "a"),
        Excluded("a/1.jpg", "truncated", "It ends early.", "a"),
        Excluded("a/2.jpg", "truncated", "It ends early.", "a"),
        Excluded("a/3.jpg", "identical_in_two_classes", "The same picture is in a, b.", "a", "0" * 64),
    )
    finding = found("unreadable", dataclasses.replace(made(200, 2), excluded=lost))
    assert "3 of 204 files cannot be used and were left out: 2 truncated, 1 not_an_image." in finding.note
    assert [row.path for row in finding.rows] == ["a/1.jpg", "a/2.jpg", "a/notes.txt"]


def test_of_copies_one_may_stay() -> None:
    evidence = made(100, 2)
    same = evidence.identities.copy()
    same[[10, 40, 60]] = 10
    finding = found("duplicate", dataclasses.replace(evidence, identities=same, near=same))
    assert [row.score > 0.5 for row in finding.rows] == [True, True, False]
    assert "2 of 100 pictures are copies" in finding.note
    assert REGISTRY["near_duplicate"](dataclasses.replace(evidence, identities=same, near=same)) is None
    versions = found("near_duplicate", dataclasses.replace(evidence, near=same))
    assert len(versions.rows) == 3


def test_labels_are_ranked_by_what_is_near_as_well_and_groups_are_no_neighbours() -> None:
    """The head is as unsure of each picture; those whose neighbours are of another class come first."""
    draws, evidence = np.random.default_rng(2), made(400, 4)
    centres = draws.normal(size=(4, 16))
    embeddings = (centres[evidence.targets] + 0.3 * draws.normal(size=(400, 16))).astype(np.float32)
    targets = evidence.targets.copy()
    targets[:12] = (targets[:12] + 1) % 4
    flat = np.full((400, 4), 0.25)
    seen = dataclasses.replace(
        evidence, targets=targets, embedded=np.arange(400), embeddings=embeddings, predicted=np.arange(400), probs=flat
    )
    score, _ = believed(with_neighbours(seen), targets)
    assert set(np.argsort(-score, kind="stable")[:12].tolist()) == set(range(12))
    one_group = dataclasses.replace(seen, groups=np.zeros(400, dtype=np.int64))
    np.testing.assert_allclose(with_neighbours(one_group), flat)
