"""Where to cut a backbone: how much of it can be tuned in the time there is. Pure functions of measurements."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["EMBEDDING", "Cut", "Place", "Sums", "choose_cut"]

EMBEDDING = "embedding"  # the highest cut: all of the backbone is below, and the head alone is tuned
_MOST_VIEWS, _FEWEST_VIEWS = 8, 2
_EPOCHS = 12  # passes that a cut should leave time for
_EPOCHS_WHOLE = 8  # and the whole network, which sees new views in every pass


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

    Views are as many as fit into the bytes, 2 to 8; at the input none are kept, for each pass makes its own.
    """
    dearer = ""
    for place in places:
        views = _MOST_VIEWS
        if place.name is None:
            views, kept, epochs = 0, 0.0, _EPOCHS_WHOLE
        else:
            views = min(_MOST_VIEWS, sums.num_bytes // max(1, place.num_bytes * (sums.num_train + sums.num_val)))
            kept = sums.embed_seconds * place.below * (sums.num_train * views + sums.num_val)
            epochs = _EPOCHS
        each = sums.train_seconds * (1.0 - place.below)
        needed = kept + epochs * sums.fits * sums.num_train * each
        where = "the whole network" if place.name is None else f"from {place.name} on"
        if place.name is not None and views < _FEWEST_VIEWS:
            dearer = f"; {where}, {_FEWEST_VIEWS} views of all pictures would take more room than there is"
            continue
        if needed <= sums.seconds:
            why = f"tuned {where}, {epochs} passes take about {needed:.0f} s, and {sums.seconds:.0f} s are left{dearer}"
            return Cut(place.name, views, why)
        dearer = f"; {where} it would be {needed:.0f} s"
    return None
