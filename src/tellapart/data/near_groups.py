"""What near-duplicates mean for a data set: which pictures stay together, and what is told of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from tellapart.data.assign import Picture
from tellapart.data.groups import components
from tellapart.data.listing import shown, some
from tellapart.data.manifest import Row
from tellapart.data.near import Near
from tellapart.events import Decision

__all__ = ["NearGroups", "near_groups"]

# Where more of a class is in pairs, they are rather pictures of one kind than copies; a few may be copies all the same.
_MOST_OF_A_CLASS = 0.2
_FEW = 10
_MOST_LISTED = 1000
_MOST_TOLD = 3


@dataclasses.dataclass(frozen=True)
class NearGroups:
    """`pairs` that keep pictures together: positions, and the difference; `lookalikes`: classes left out of that."""

    near: Near
    pairs: tuple[tuple[int, int, float], ...]
    lookalikes: tuple[str, ...]
    shares: tuple[str, ...]

    def joined(self, pictures: Sequence[Picture]) -> list[Picture]:
        """Return the pictures, those that stay together with an equal `near`."""
        links: list[list[int]] = [[] for _ in pictures]
        for number, (one, other, _) in enumerate(self.pairs):
            links[one].append(number)
            links[other].append(number)
        roots = components(links)
        return [
            dataclasses.replace(picture, near=str(root)) if linked else picture
            for picture, root, linked in zip(pictures, roots, links, strict=True)
        ]

    def notes(self, pictures: Sequence[Picture], rows: Collection[Row]) -> list[tuple[str, str]]:
        """Return sentences on classes that were left out, pairs in two splits, and pairs in two classes."""
        notes = []
        if self.lookalikes:
            notes.append(
                (
                    "warning",
                    f"Many pictures look nearly the same, so only equal bytes and pixels keep them together: "
                    f"{some(self.shares)}. --near-duplicates on goes by looks all the same.",
                )
            )
        apart, mixed = self._apart(pictures, rows), self._mixed(pictures)
        if apart:
            notes.append(("warning", f"Nearly the same pictures are in two splits: {_told(apart, pictures)}."))
        if mixed:
            notes.append(
                (
                    "warning",
                    f"Nearly the same pictures are in two classes: {_told(mixed, pictures)}. "
                    "They are used; look whether their labels are right.",
                )
            )
        return notes

    def facts(self, pictures: Sequence[Picture], rows: Collection[Row]) -> dict[str, object]:
        """Return what the manifest keeps: counts, and pairs of paths with their difference.

        At most 1,000 pairs, those in two splits first, then those in two classes, then the nearest.
        """
        apart, mixed = set(self._apart(pictures, rows)), set(self._mixed(pictures))
        ordered = sorted(self.pairs, key=lambda pair: (pair not in apart, pair not in mixed, pair[2], pair))
        return {
            "candidates": self.near.candidates,
            "confirmed": len(self.near.pairs),
            "threshold": self.near.threshold,
            "grouped": len(self._members()),
            "lookalikes": list(self.lookalikes),
            "two_splits": len(apart),
            "two_classes": len(mixed),
            "pairs": [[pictures[one].path, pictures[other].path, left] for one, other, left in ordered[:_MOST_LISTED]],
        }

    def paths(self, pictures: Sequence[Picture]) -> tuple[tuple[str, str], ...]:
        """Return every pair that keeps pictures together, as paths."""
        return tuple((pictures[one].path, pictures[other].path) for one, other, _ in self.pairs)

    def decision(self) -> Decision:
        """Return what was decided, with the evidence."""
        grouped = len(self._members())
        words = f"{grouped:,} pictures stay with one that is nearly the same" if grouped else "none are grouped"
        evidence = (
            f"pairs that look alike at first: {self.near.candidates:,}; of these {len(self.near.pairs):,} differ by "
            f"less than {self.near.threshold or 0:.3f} of their contrast, well under what different pictures of this "
            "set do"
        )
        if self.lookalikes:
            evidence += f"; too many of a class to be copies: {some(self.shares)}"
        return Decision("near_duplicates", words, evidence)

    def _members(self) -> set[int]:
        return {position for one, other, _ in self.pairs for position in (one, other)}

    def _apart(self, pictures: Sequence[Picture], rows: Collection[Row]) -> list[tuple[int, int, float]]:
        split = {row.path: row.split for row in rows}
        places = [split.get(picture.path) for picture in pictures]
        return [
            pair for pair in self.pairs if None not in (ends := {places[pair[0]], places[pair[1]]}) and len(ends) > 1
        ]

    def _mixed(self, pictures: Sequence[Picture]) -> list[tuple[int, int, float]]:
        return [pair for pair in self.pairs if pictures[pair[0]].label != pictures[pair[1]].label]


def near_groups(near: Near, keep: Sequence[int], labels: Sequence[str], force: bool) -> NearGroups:
    """Return what of the pairs groups the pictures at the positions `keep`, whose `labels` are given beside them.

    Unless by `force`, a class of which more than a fifth (and more than ten pictures) is in pairs takes no part.
    """
    places = {position: place for place, position in enumerate(keep)}
    pairs = [(places[one], places[other], left) for one, other, left in near.pairs if one in places and other in places]
    sizes = Counter(labels)
    paired = Counter(labels[place] for place in {place for one, other, _ in pairs for place in (one, other)})
    lookalikes = sorted(
        label for label, count in paired.items() if count > max(_FEW, _MOST_OF_A_CLASS * sizes[label]) and not force
    )
    shares = [f"{shown(label)} ({paired[label]} of {sizes[label]})" for label in lookalikes]
    pairs = [pair for pair in pairs if not {labels[pair[0]], labels[pair[1]]} & set(lookalikes)]
    return NearGroups(near, tuple(pairs), tuple(lookalikes), tuple(shares))


def _told(pairs: Iterable[tuple[int, int, float]], pictures: Sequence[Picture]) -> str:
    nearest = sorted(pairs, key=lambda pair: (pair[2], pair))
    told = [f"{shown(pictures[one].path)} and {shown(pictures[other].path)}" for one, other, _ in nearest[:_MOST_TOLD]]
    more = len(nearest) - len(told)
    return "; ".join(told) + (f"; and {more:,} pairs more" if more else "")
