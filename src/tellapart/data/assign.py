"""The split and the group of every picture, from given splits, an earlier manifest, and the draw."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tellapart.data.groups import components
from tellapart.data.manifest import SPLITS, Manifest, Split
from tellapart.data.split import Group, place
from tellapart.recipe import DataOptions

__all__ = ["Apart", "Assigned", "Picture", "assign", "carved_shares", "read_previous", "set_apart"]

_ENOUGH_TO_SET_APART = 8  # pictures of a class, on average: with fewer, one in a test split says nothing
_FEWEST = 30  # pictures in all: of fewer, a test split would be four or less
_USUAL_FOLDS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """A usable picture. `given` and `group` are what the data set says.

    `identity` is equal for equal pixels, `near` for pictures that are nearly the same, `series` for those of one burst
    or film; None where there is no other.
    """

    path: str
    label: str
    sha256: str
    identity: str
    given: Split | None = None
    group: str | None = None
    series: int | None = None
    near: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Assigned:
    """For each picture its split (None: set aside, it would bridge two splits) and its group's smallest sha256."""

    splits: tuple[Split | None, ...]
    groups: tuple[str, ...]
    notes: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Apart:
    """Shares to carve for `val` and `test`; where `folds` is not 0, so many folds are held out in turn, and why."""

    val: float
    test: float
    folds: int = 0
    why: str = ""


def read_previous(place: Path) -> Manifest:
    """Return the manifest of an earlier run, from its folder or its manifest.jsonl. Raises DataError."""
    return Manifest.read(place / "manifest.jsonl" if place.is_dir() else place)


def carved_shares(given: Sequence[Split], val: float, test: float) -> tuple[float, float]:
    """Return the shares of val and test to be carved out of train, where the data set came with the `given` splits.

    A missing val is carved. A missing test is carved only where val is missing too: whoever set val apart has chosen
    what there is to be. Shares are of the pictures that are carved, not of all.
    """
    return (0.0 if "val" in given else val, 0.0 if "val" in given or "test" in given else test)


def set_apart(
    pictures: Sequence[Picture], given: Sequence[Split], options: DataOptions, previous: Manifest | None
) -> Apart:
    """Return what is set apart for validation and test, and whether folds stand in for it.

    With `--folds N` no share is carved that was not asked for by another value of `--val` or `--test`; splits that are
    given stay. By itself it is so where nothing is to be set apart, and where pictures are too few for it and neither
    splits nor shares were given. A run that is resumed keeps to what it began with.
    """
    usual = DataOptions()
    wanted = (options.val, options.test) != (usual.val, usual.test)
    if options.folds == "off":
        return Apart(options.val, options.test)
    before = previous.facts.get("folds") if previous is not None else None
    few = "" if given or wanted or previous is not None else _too_few(pictures)
    if "val" not in given and "test" not in given and max(options.val, options.test) == 0.0:
        few = "nothing is set apart for validation or test"
    if options.folds == "auto" and not few and not before:
        return Apart(options.val, options.test)
    val, test = (
        0.0 if own == default else own for own, default in ((options.val, usual.val), (options.test, usual.test))
    )
    if options.folds != "auto":
        return Apart(val, test, options.folds, "asked for by --folds")
    return Apart(val, test, _USUAL_FOLDS, few or "as this run began")


def _too_few(pictures: Sequence[Picture]) -> str:
    """Return why no picture is set apart for validation and test, where there are so few; else nothing."""
    count, classes = len(pictures), len({picture.label for picture in pictures})
    if count >= max(_FEWEST, _ENOUGH_TO_SET_APART * classes):
        return ""
    return f"{count} picture(s) in {classes} classes are too few to set some apart"


def assign(
    pictures: Sequence[Picture],
    given: Sequence[Split],
    seed: int,
    val: float,
    test: float,
    previous: Manifest | None = None,
) -> Assigned:
    """Assign every picture. `given` are the splits that came with the data, if any; they are kept.

    Pictures of the previous manifest keep their split (by sha256), and so do newcomers that are in a group with them.
    A newcomer whose group has old pictures in two splits is set aside.
    """
    old = _Old(previous) if previous is not None else None
    roots = components([_keys(picture, old) for picture in pictures])
    smallest: dict[int, str] = {}
    for root, picture in zip(roots, pictures, strict=True):
        smallest[root] = min(smallest.get(root, picture.sha256), picture.sha256)
    groups = tuple(smallest[root] for root in roots)

    val, test = carved_shares(given, val, test)
    carved = {"train", *(["val"] if val > 0 else []), *(["test"] if test > 0 else [])}
    splits: list[Split | None] = [picture.given for picture in pictures]
    pool = [index for index, split in enumerate(splits) if split is None or split == "train"]
    before = [old.split_of(picture) if old is not None else None for picture in pictures]
    notes: list[tuple[str, str]] = []
    strayed = [index for index in pool if (kept := before[index]) is not None and kept not in carved and given]
    if strayed:
        notes.append(
            ("warning", f"{len(strayed)} picture(s) of another split before are given as train now, and are train.")
        )
        for index in strayed:
            before[index] = "train"

    pins: dict[str, set[Split]] = {}
    for index in pool:
        if (kept := before[index]) is not None:
            pins.setdefault(groups[index], set()).add(kept)
    counts: dict[str, Counter[str]] = {}
    pinned: dict[str, Split | None] = {}
    names: dict[int, str] = {}
    bridging = 0
    for index in pool:
        held = pins.get(groups[index], set())
        pin = before[index] if len(held) > 1 else next(iter(held), None)
        if len(held) > 1 and pin is None:
            bridging += 1
            splits[index] = None
            continue
        # Old pictures of one group in two splits stay where they are, as if they were two groups.
        names[index] = f"{groups[index]}/{pin}" if len(held) > 1 else groups[index]
        counts.setdefault(names[index], Counter())[pictures[index].label] += 1
        pinned[names[index]] = pin
    placed = place([Group(name, counts[name], pinned[name]) for name in counts], seed, val, test)
    for index, name in names.items():
        splits[index] = placed[name]
    if bridging:
        notes.append(
            (
                "warning",
                f"{bridging} new picture(s) were set aside: each belongs to older pictures of two splits "
                "(the same or nearly the same picture, or group), so neither split could have it.",
            )
        )
    notes += _leaks(splits, groups)
    return Assigned(tuple(splits), groups, tuple(notes))


class _Old:
    """What an earlier manifest says of pictures, by content and place."""

    def __init__(self, manifest: Manifest) -> None:
        self._by_place = {(row.sha256, row.path): row.split for row in manifest.rows}
        self._by_content: dict[str, Split] = {}
        self.group: dict[str, str] = {}
        for row in manifest.rows:
            self._by_content.setdefault(row.sha256, row.split)
            self.group.setdefault(row.sha256, row.group)

    def split_of(self, picture: Picture) -> Split | None:
        by_content = self._by_content.get(picture.sha256)
        return self._by_place.get((picture.sha256, picture.path), by_content)


def _keys(picture: Picture, old: _Old | None) -> list[tuple[str, str]]:
    keys = [("content", picture.sha256), ("pixels", picture.identity)]
    if picture.group is not None:
        keys.append(("group", picture.group))
    if picture.series is not None:
        keys.append(("series", str(picture.series)))
    if picture.near is not None:
        keys.append(("near", picture.near))
    if old is not None and picture.sha256 in old.group:
        keys.append(("before", old.group[picture.sha256]))
    return keys


def _leaks(splits: Sequence[Split | None], groups: Sequence[str]) -> list[tuple[str, str]]:
    """Say of how many pictures a split shares with an earlier one; only given splits, or old ones, can."""
    seen: dict[str, set[Split]] = {}
    for split, group in zip(splits, groups, strict=True):
        if split is not None:
            seen.setdefault(group, set()).add(split)
    notes = []
    for later in ("val", "test"):
        earlier = SPLITS[: SPLITS.index(later)]
        count = sum(
            split == later and not seen[group].isdisjoint(earlier) for split, group in zip(splits, groups, strict=True)
        )
        if count:
            notes.append(
                (
                    "warning",
                    f"{count} picture(s) of the {later} split are in {' or '.join(earlier)} too (the same or nearly "
                    "the same picture, or group): its numbers will look better than they are.",
                )
            )
    return notes
