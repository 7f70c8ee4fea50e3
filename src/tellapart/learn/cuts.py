"""Where to cut a backbone: how much of it can be tuned in the time there is. Pure functions of measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["EMBEDDING", "Cut", "Place", "Sums", "choose_cut"]

EMBEDDING = "embedding"  # the highest cut: all of the backbone is below, and the head alone is tuned
_VIEWS = (8, 6, 4, 2)  # of a picture; a lower cut with fewer is worth more than a higher one with eight
_EPOCHS = (15, 10, 6)  # passes that a cut should leave time for; where none leaves as many, fewer have to do
_HARDLY = 0.9  # of the time is spent below: what is above has hardly more to learn than a head


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A place to cut: `name` is the unit above it (None: the input), `below` the share of the time spent under it.

    `num_bytes` is what one view of a picture takes there, in half precision.
    """

    name: str | None
    below: float
    num_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Sums:
    """What the choice hangs on: numbers of pictures, seconds for one picture, seconds and bytes that are left.

    `embed_seconds` is one picture through the whole network, `train_seconds` one picture forward and backward through
    all of it; `fits` is how many times all pictures are trained on, the folds included.
    """

    num_train: int
    num_val: int
    embed_seconds: float
    train_seconds: float
    fits: float
    seconds: float
    num_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """The cut, the number of views of each picture that are kept, and why, in words."""

    name: str | None
    num_views: int
    why: str


def choose_cut(places: Sequence[Place], sums: Sums) -> Cut | None:
    """Return the lowest cut of `places` (from input to output) that leaves time for enough passes, or None.

    A higher cut with fifteen passes is worth more than a lower one with ten or six, unless hardly anything is above it.
    Views are 8, 6, 4 or 2, as many as there is time and room for; at the input none are kept: each pass makes its own.
    """
    for epochs in _EPOCHS:
        dearer = ""
        for place in places:
            if place.below > _HARDLY and epochs != _EPOCHS[-1]:
                continue
            where = "the whole network" if place.name is None else f"from {place.name} on"
            passes = epochs * sums.fits * sums.num_train * sums.train_seconds * (1.0 - place.below)
            needed = 0.0
            for views in (0,) if place.name is None else _VIEWS:
                needed = passes + sums.embed_seconds * place.below * (sums.num_train * views + sums.num_val)
                room = place.num_bytes * (sums.num_train * views + sums.num_val)
                if needed <= sums.seconds and room <= sums.num_bytes:
                    why = (
                        f"tuned {where}, {epochs} passes take about {needed:.0f} s of {sums.seconds:.0f} that are left"
                    )
                    return Cut(place.name, views, why + dearer)
            dearer = f"; {where} it would be {needed:.0f} s"
    return None
