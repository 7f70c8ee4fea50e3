"""Who goes where: a split that is a function of the seed and the pictures, and moves little when pictures are added."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from tellapart.data.manifest import Split

__all__ = ["Group", "bounds", "draw", "place"]


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Pictures that stay together: a `name` (the smallest sha256 of them), and how many there are of each class.

    `pinned` is the split that they keep, whatever the draw says.
    """

    name: str
    counts: Mapping[str, int]
    pinned: Split | None = None


def draw(seed: int, name: str) -> float:
    """Return a number in [0, 1) that depends on the seed and the group's name alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big") / (1 << 56)


def bounds(count: int, share: float) -> tuple[int, int]:
    """Return the least and the most of `count` pictures that is a fair `share`: within 1 %, or the nearest number."""
    slack = max(0.5, 0.01 * count)
    return max(0, math.ceil(share * count - slack)), max(0, math.floor(share * count + slack))


def place(groups: Sequence[Group], seed: int, val: float, test: float) -> dict[str, Split]:
    """Return the split of each group. `val` and `test` are shares of the pictures; the rest, more than 0, is train.

    A group is drawn into test below `test`, into val below `test + val`, else into train. Then each class is repaired:
    test and val get their share of it, within 1 % or the nearest number, train so within 2 %. The groups that move are
    those whose draws are nearest to the threshold. A class of one group has it in train; of two, in train and test (in
    train and val when there is no test); of three or more, in every split whose share is not 0. Groups that hold
    several classes move only where that brings the classes nearer to their shares together, so their shares are
    approached, not promised. Pinned groups count and never move.
    """
    draws = {group.name: draw(seed, group.name) for group in groups}
    ordered = sorted(groups, key=lambda group: (draws[group.name], group.name))
    sizes: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for group in ordered:
        for label, count in group.counts.items():
            sizes[label] += count
            numbers[label] += 1
    tested = {group.name for group in ordered if group.pinned == "test"}
    if test > 0:
        wants = {
            label: _Want(
                *bounds(sizes[label], test), int(numbers[label] >= 2), 1 + int(numbers[label] >= 3 and val > 0)
            )
            for label in sizes
        }
        tested = _cut(ordered, draws, test, wants, "test")
    rest = [group for group in ordered if group.name not in tested]
    validated = {group.name for group in rest if group.pinned == "val"}
    if val > 0:
        enough = 3 if test > 0 else 2
        wants = {label: _Want(*bounds(sizes[label], val), int(numbers[label] >= enough), 1) for label in sizes}
        validated = _cut(rest, draws, test + val, wants, "val")
    return {
        group.name: "test" if group.name in tested else "val" if group.name in validated else "train"
        for group in groups
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Want:
    """For one class: the least and most pictures inside of a cut, the least groups inside, the least groups outside."""

    low: int
    high: int
    groups_inside: int
    groups_outside: int


class _Tally:
    """How far every class is from what it wants, while groups go in and out."""

    def __init__(self, groups: Sequence[Group], inside: set[str], wants: Mapping[str, _Want]) -> None:
        self._wants = wants
        self._pictures: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()
        self._outside: Counter[str] = Counter()
        for group in groups:
            for label, count in group.counts.items():
                if group.name in inside:
                    self._pictures[label] += count
                    self._groups[label] += 1
                else:
                    self._outside[label] += 1
        # One empty split weighs more than all shares together.
        self._heavy = 1 + sum(sum(group.counts.values()) for group in groups)

    def cost(self, label: str, sign: int = 0, count: int = 0) -> int:
        """Return how far a class is off, after `count` of its pictures in one group went in (sign 1) or out (-1)."""
        want = self._wants[label]
        pictures = self._pictures[label] + sign * count
        off = max(0, want.low - pictures, pictures - want.high)
        inside = max(0, want.groups_inside - (self._groups[label] + sign))
        outside = max(0, want.groups_outside - (self._outside[label] - sign))
        return off + self._heavy * (inside + outside)

    def gain(self, group: Group, sign: int) -> int:
        """Return by how much all classes together come nearer when the group moves."""
        return sum(self.cost(label) - self.cost(label, sign, count) for label, count in group.counts.items())

    def move(self, group: Group, sign: int) -> None:
        """Move a group in (1) or out (-1)."""
        for label, count in group.counts.items():
            self._pictures[label] += sign * count
            self._groups[label] += sign
            self._outside[label] -= sign

    def direction(self, label: str) -> int:
        """Return 1 when a class has too little inside, -1 when too much, 0 when it is as wanted."""
        want = self._wants[label]
        if self.cost(label) == 0:
            return 0
        if self._groups[label] < want.groups_inside:
            return 1
        if self._outside[label] < want.groups_outside:
            return -1
        return 1 if self._pictures[label] < want.low else -1


def _cut(
    ordered: Sequence[Group],
    draws: Mapping[str, float],
    threshold: float,
    wants: Mapping[str, _Want],
    split: Split,
) -> set[str]:
    """Return the names of the groups inside of a cut at `threshold`, which gives `split`, repaired for each class."""
    inside = {
        group.name
        for group in ordered
        if (group.pinned == split if group.pinned is not None else draws[group.name] < threshold)
    }
    tally = _Tally(ordered, inside, wants)
    members: dict[str, list[Group]] = {label: [] for label in wants}
    for group in sorted(ordered, key=lambda group: (abs(draws[group.name] - threshold), group.name)):
        if group.pinned is None:
            for label in group.counts:
                members[label].append(group)
    # Every move brings the classes nearer by a whole number, so this ends; the bound only keeps it short.
    for _ in range(8):
        moved = False
        for label in sorted(members, key=lambda label: (len(members[label]), label)):
            for group in members[label]:
                sign = tally.direction(label)
                if sign == 0:
                    break
                if (group.name in inside) == (sign < 0) and tally.gain(group, sign) > 0:
                    tally.move(group, sign)
                    inside ^= {group.name}
                    moved = True
        if not moved:
            break
    return inside
