"""Pictures that belong together share a split, today's and yesterday's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.data.assign import Assigned, Picture, assign, carved_shares
from tellapart.data.groups import components
from tellapart.data.manifest import Manifest, Row, Split
from tellapart.errors import DataError

from .conftest import Scan, codes, write_classes, write_picture


def picture(number: int, label: str = "cat", identity: str = "", group: str | None = None) -> Picture:
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    return Picture(f"{label}/{number}.png", label, sha256, identity or sha256, None, group)


def manifest_of(pictures: Sequence[Picture], assigned: Assigned) -> Manifest:
    rows = tuple(
        Row(p.path, p.label, split, group, p.sha256, 8, 8)
        for p, split, group in zip(pictures, assigned.splits, assigned.groups, strict=True)
        if split is not None
    )
    return Manifest(Path(), rows, tuple(sorted({row.label for row in rows})))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30), st.integers(0, 30), st.one_of(st.none(), st.integers(0, 8)), st.sampled_from("ab")
        ),
        max_size=60,
    )
)
def test_a_group_is_what_any_chain_of_equal_keys_joins(items: list[tuple[int, int, int | None, str]]) -> None:
    pictures = [
        picture(content, label, f"pixels{pixels}", None if group is None else str(group))
        for content, pixels, group, label in items
    ]
    assigned = assign(pictures, (), 0, 0.2, 0.2)
    groups = [*range(len(pictures))]  # the oracle: merge until nothing changes
    changed = True
    while changed:
        changed = False
        for i, one in enumerate(pictures):
            for j, two in enumerate(pictures):
                same = one.sha256 == two.sha256 or one.identity == two.identity
                if (same or (one.group is not None and one.group == two.group)) and groups[i] != groups[j]:
                    groups[i] = groups[j] = min(groups[i], groups[j])
                    changed = True
    for i in range(len(pictures)):
        together = [k for k in range(len(pictures)) if groups[k] == groups[i]]
        assert {assigned.groups[k] for k in together} == {min(pictures[k].sha256 for k in together)}
        assert len({assigned.splits[k] for k in together}) == 1


def test_components_join_long_chains() -> None:
    assert components([(n, n + 1) for n in range(5000)]) == [0] * 5000
    assert components([("a",), ("b",), (), ("a", "c"), ("c",)]) == [0, 1, 2, 0, 0]


@pytest.mark.parametrize(
    ("given_splits", "expected"),
    [
        ((), (0.1, 0.2)),
        (("train",), (0.1, 0.2)),
        (("train", "test"), (0.1, 0.0)),
        (("train", "val"), (0.0, 0.0)),
        (("train", "val", "test"), (0.0, 0.0)),
    ],
)
def test_only_missing_splits_are_carved(given_splits: tuple[Split, ...], expected: tuple[float, float]) -> None:
    assert carved_shares(given_splits, 0.1, 0.2) == expected


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 120), st.integers(0, 3), st.integers(0, 3))
def test_old_pictures_keep_their_split_whatever_comes(old: int, new: int, seed: int, other_seed: int) -> None:
    before = [picture(n, "ab"[n % 2]) for n in range(old)]
    first = assign(before, (), seed, 0.2, 0.2)
    after = [*(picture(1000 + n, "ab"[n % 2]) for n in range(new)), *reversed(before)]
    second = assign(after, (), other_seed, 0.1, 0.3, manifest_of(before, first))
    assert second.splits[new:] == tuple(reversed(first.splits))
    assert None not in second.splits


def test_a_newcomer_joins_the_split_of_its_group() -> None:
    old = [picture(n, group=f"g{n}") for n in range(60)]
    first = assign(old, (), 0, 0.2, 0.2)
    newcomers = [picture(500 + n, group=f"g{n}") for n in range(30)]
    newcomers += [picture(600 + n, identity=old[n].identity) for n in range(30, 60)]
    second = assign([*newcomers, *old], (), 0, 0.2, 0.2, manifest_of(old, first))
    assert second.splits[:60] == first.splits
    assert set(first.splits) == {"train", "val", "test"}


def test_a_newcomer_that_bridges_two_splits_is_set_aside_and_told() -> None:
    old = [picture(n) for n in range(40)]
    first = assign(old, (), 0, 0.2, 0.2)
    train, test = (old[first.splits.index(split)] for split in ("train", "test"))
    newcomers = [
        picture(900, identity=train.identity, group="family"),
        picture(901, identity=test.identity, group="family"),
        picture(902, identity=train.identity),
        picture(903),
    ]
    second = assign([*old, *newcomers], (), 0, 0.2, 0.2, manifest_of(old, first))
    assert second.splits[:40] == first.splits
    assert second.splits[40:42] == (None, None)
    assert second.splits[43] is not None
    assert any("set aside" in text for _, text in second.notes)


def test_pictures_that_were_together_before_stay_together() -> None:
    old = [picture(n, group="family" if n < 3 else None) for n in range(30)]
    first = assign(old, (), 0, 0.2, 0.2)
    now = [picture(n) for n in range(30)]
    second = assign(now, (), 0, 0.2, 0.2, manifest_of(old, first))
    assert len({second.groups[n] for n in range(3)}) == 1


def test_given_splits_win_over_an_earlier_manifest() -> None:
    old = [picture(n) for n in range(30)]
    first = assign(old, (), 0, 0.2, 0.2)
    now = [
        Picture(p.path, p.label, p.sha256, p.identity, "test" if n < 5 else "train", None) for n, p in enumerate(old)
    ]
    second = assign(now, ("train", "test"), 0, 0.2, 0.2, manifest_of(old, first))
    assert second.splits[:5] == ("test",) * 5
    for before, after in zip(first.splits[5:], second.splits[5:], strict=True):
        assert after == ("val" if before == "val" else "train")
    assert any("given as train now" in text for _, text in second.notes)


def test_a_run_folder_or_its_manifest_keeps_the_split_of_a_growing_folder(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 20, "dog": 20})
    first = scan_of(root, seed=1)
    (tmp_path / "run").mkdir()
    first.write(tmp_path / "run/manifest.jsonl")
    for number in range(20, 40):
        write_picture(root / f"cat/{number:03d}.png", 1000 + number)
    write_picture(root / "dog/copy.bmp", 25)
    split = {row.path: row.split for row in first.rows}
    for place in (tmp_path / "run", tmp_path / "run/manifest.jsonl"):
        second = scan_of(root, seed=2, previous=str(place))
        now = {row.path: row.split for row in second.rows}
        assert {path: now[path] for path in split} == split
        assert now["dog/copy.bmp"] == split["dog/005.png"]
    assert {row.path: row.split for row in scan_of(root, seed=2).rows if row.path in split} != split


def test_bridging_pictures_are_left_out_of_the_manifest_with_their_code(tmp_path: Path, scan_of: Scan) -> None:
    for number in range(30):
        write_picture(tmp_path / f"{number}.png", number)
    lines = [f"{number}.png,{'ab'[number % 2]},g{number}" for number in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,group", *lines]))
    first = scan_of(tmp_path / "t.csv")
    first.write(tmp_path / "manifest.jsonl")
    by_split = {row.split: row for row in first.rows if row.label == "a"}
    write_picture(tmp_path / "new.bmp", int(by_split["train"].path[:-4]))
    lines.append(f"new.bmp,a,g{by_split['test'].path[:-4]}")
    (tmp_path / "t.csv").write_text("\n".join(["path,label,group", *lines]))
    second = scan_of(tmp_path / "t.csv", previous=str(tmp_path / "manifest.jsonl"))
    assert codes(second) == {"new.bmp": "bridges_splits"}
    assert second.found == 31


def test_a_previous_that_is_no_manifest_is_refused(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    for place in (tmp_path / "nowhere", root):
        with pytest.raises(DataError, match="cannot be read as a manifest"):
            scan_of(root, previous=str(place))
