"""What the checks look at: arrays, side by side, one entry for each labelled picture that decodes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.data.audit.finding import Suspect
from tellapart.data.groups import components
from tellapart.data.manifest import Excluded, Split

__all__ = ["Evidence", "Floats", "Ints"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """The pictures of one data set. `n` of them are labelled and decode, and every array has an entry for each.

    `targets` int64 index `classes`. `splits` are those the pictures came in, or are in where they came in none;
    `assigned` those they are in now; `given` are the splits that came with the data. Equal numbers of int64
    `identities` mean equal pixels; of `near`, nearly the same picture; of `series`, one burst or film; of `groups`,
    pictures that are kept in one split; `series_kept` says that series are. `grey`: no colour anywhere. `measures` are
    records of `images.measure.MEASURES`. `thumbnails` uint8 [n, 8, 8, 3]. `excluded` are the files left out. `kept` are
    rows that the user has looked at and wants as they are: the checks are silent about them.

    What a network says is of some pictures alone: `embeddings` float32 [m, D] of the rows `embedded`, and `probs`
    float64 [p, K] of the rows `predicted`, by models that did not see them. `unlearned`: there was no
    network, and features by hand or colours stand for embeddings.
    """

    paths: Sequence[str]
    digests: Sequence[str]
    classes: Sequence[str]
    targets: Ints
    splits: Sequence[Split]
    identities: Ints
    near: Ints
    series: Ints
    groups: Ints
    sizes: Ints
    grey: NDArray[np.bool_]
    measures: NDArray[np.void]
    thumbnails: NDArray[np.uint8]
    assigned: Sequence[Split] = ()
    given: tuple[Split, ...] = ()
    unlearned: bool = False
    series_kept: bool = False
    excluded: Sequence[Excluded] = ()
    kept: frozenset[int] = frozenset()
    embedded: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    embeddings: NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.zeros((0, 1), dtype=np.float32))
    predicted: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    probs: Floats = dataclasses.field(default_factory=lambda: np.zeros((0, 1)))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def label(self, row: int) -> str:
        """Return the label of a picture."""
        return self.classes[int(self.targets[row])]

    def suspect(self, row: int, score: float, why: str = "", suggested: int | None = None) -> Suspect:
        """Return a picture as a row of a finding; `suggested` is a class index."""
        name = None if suggested is None else self.classes[suggested]
        return Suspect(self.paths[row], self.label(row), float(score), name, why, self.digests[row])

    @functools.cached_property
    def together(self) -> Ints:
        """What must not be torn apart by folds, int64 [n]: pictures of one group, version or series."""
        keys = zip(self.groups.tolist(), self.near.tolist(), self.series.tolist(), strict=True)
        return np.array(components([list(enumerate(own)) for own in keys]), dtype=np.int64)

    @property
    def open(self) -> NDArray[np.bool_]:
        """Which pictures may be named by a finding, bool [n]."""
        may = np.ones(len(self), dtype=bool)
        may[list(self.kept)] = False
        return may

    def in_split(self, split: Split) -> NDArray[np.bool_]:
        """Return which pictures are in a split, bool [n]."""
        return np.array([found == split for found in self.splits], dtype=bool)
