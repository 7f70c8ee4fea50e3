"""A split is a function of the seed and the pictures, fair to each class, and moves little as a set grows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.data.split import Group, draw, place


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def singles(label: str, count: int, first: int = 0) -> list[Group]:
    return [Group(name(first + number), {label: 1}) for number in range(count)]


def counts(groups: list[Group], placed: Mapping[str, str], label: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for group in groups:
        found[placed[group.name]] += group.counts.get(label, 0)
    return found


shares = st.tuples(st.floats(0.0, 0.45), st.floats(0.0, 0.45))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=4), shares, st.integers(0, 9))
def test_each_class_has_its_share_of_every_split(sizes: list[int], share: tuple[float, float], seed: int) -> None:
    val, test = share
    groups = [g for n, size in enumerate(sizes) for g in singles(str(n), size, 10_000 * n)]
    placed = place(groups, seed, val, test)
    assert placed == place(list(reversed(groups)), seed, val, test)
    for n, size in enumerate(sizes):
        have = counts(groups, placed, str(n))
        least = {"train": 1, "test": int(test > 0 and size >= 2), "val": int(val > 0 and size >= 2 + (test > 0))}
        for split, wanted in (("val", val), ("test", test)):
            assert have[split] >= least[split]
            if size < 3:
                continue  # too few for every split: see the small classes below
            assert abs(have[split] - wanted * size) <= max(0.5, 0.01 * size) + least[split] + 1e-9
            if wanted * size >= 1:
                assert abs(have[split] - wanted * size) <= max(1, 0.01 * size)
        assert have["train"] >= 1
        if min(val, test) * size >= 1:
            assert abs(have["train"] - (1 - val - test) * size) <= max(2, 0.02 * size)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5), min_size=1), min_size=1, max_size=80),
    shares,
    st.integers(0, 9),
)
def test_groups_stay_whole_and_every_class_is_trained_on(
    contents: list[dict[str, int]], share: tuple[float, float], seed: int
) -> None:
    groups = [Group(name(number), content) for number, content in enumerate(contents)]
    placed = place(groups, seed, *share)
    assert set(placed) == {group.name for group in groups}
    alone = all(len(content) == 1 for content in contents)
    for label in "abcd":
        have = counts(groups, placed, label)
        number = sum(label in group.counts for group in groups)
        if number and alone:
            assert have["train"] >= 1
        if number >= 3 and alone:
            assert have["val"] >= (share[0] > 0)
            assert have["test"] >= (share[1] > 0)


def test_groups_that_hold_all_classes_are_shared_out_too() -> None:
    patients = [Group(name(n), {"ill": 1 + n % 3, "well": 2}) for n in range(60)]
    for seed in range(20):
        placed = place(patients, seed, 0.15, 0.15)
        for label in ("ill", "well"):
            have = counts(patients, placed, label)
            assert abs(have["test"] - 18) <= 6
            assert abs(have["val"] - 18) <= 6


def test_few_groups_that_hold_all_classes_reach_every_split() -> None:
    patients = [Group(name(n), {"ill": 3, "well": 2}) for n in range(5)]
    for seed in range(20):
        assert set(place(patients, seed, 0.15, 0.15).values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [
        (1, (0.15, 0.15), {"train": 1}),
        (2, (0.15, 0.15), {"train": 1, "test": 1}),
        (2, (0.15, 0.0), {"train": 1, "val": 1}),
        (3, (0.15, 0.15), {"train": 1, "val": 1, "test": 1}),
        (5, (0.0, 0.0), {"train": 5}),
        (100, (0.15, 0.15), {"train": 70, "val": 15, "test": 15}),
    ],
)
def test_small_classes_go_where_they_are_needed_most(
    count: int, share: tuple[float, float], expected: dict[str, int]
) -> None:
    groups = singles("cat", count)
    have = counts(groups, place(groups, 0, *share), "cat")
    off = 1 if count == 100 else 0
    assert all(abs(have[split] - expected.get(split, 0)) <= 2 * off for split in ("train", "val", "test"))


def test_pictures_that_are_added_move_few_others() -> None:
    for seed in range(5):
        before = singles("cat", 500) + singles("dog", 60, 10_000)
        placed = place(before, seed, 0.15, 0.15)
        for more in (1, 10, 100):
            after = place([*before, *singles("cat", more, 50_000), *singles("dog", more, 70_000)], seed, 0.15, 0.15)
            moved = sum(after[key] != split for key, split in placed.items())
            assert moved <= 3 + more * 0.3
            assert moved <= 25


def test_what_is_repaired_is_nearest_to_the_threshold() -> None:
    groups = singles("cat", 30)
    placed = place(groups, 4, 0.0, 0.2)
    inside = [draw(4, key) for key, split in placed.items() if split == "test"]
    outside = [draw(4, key) for key, split in placed.items() if split == "train"]
    assert len(inside) == 6
    assert max(inside) < min(outside)


def test_a_new_seed_is_a_new_split_of_the_same_shares() -> None:
    groups = singles("cat", 300)
    one, two = place(groups, 1, 0.2, 0.2), place(groups, 2, 0.2, 0.2)
    assert sum(one[key] != two[key] for key in one) > 100


def test_pinned_groups_never_move_and_count() -> None:
    pinned = [Group(name(n), {"cat": 1}, "test" if n < 30 else "train") for n in range(60)]
    fresh = singles("cat", 100, 1000)
    placed = place([*pinned, *fresh], 0, 0.15, 0.15)
    assert all(placed[group.name] == group.pinned for group in pinned)
    assert sum(placed[group.name] == "test" for group in fresh) == 0  # the 30 are more than 15 % of 160 already
    assert abs(sum(split == "val" for split in placed.values()) - 24) <= 2


def test_draws_are_even() -> None:
    draws = [draw(0, name(n)) for n in range(20_000)]
    for edge in (0.1, 0.15, 0.3, 0.5, 0.9):
        assert abs(sum(value < edge for value in draws) / len(draws) - edge) < 0.012
