"""Pictures looked into part by part, on threads: their maps, and what the maps are worth."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import PictureError
from tellapart.images import map_ordered, prepare_guarded
from tellapart.judge.sanity import Trial, orders_for, trial
from tellapart.runtime.saliency import Looked, Saliency
from tellapart.runtime.saliency_trial import tried

__all__ = ["MOST_TRIED", "Seen", "seen", "try_maps"]

MOST_TRIED = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """A prepared picture uint8 [S, S, 3], what the network makes of its parts, and the map [h, w] of its answer."""

    image: NDArray[np.uint8]
    looked: Looked
    map: NDArray[np.float32]

    @property
    def answer(self) -> int:
        """The index of the likeliest class."""
        return int(self.looked.logits.argmax())


def seen(saliency: Saliency, sources: Sequence[Path | NDArray[np.uint8]], threads: int) -> list[Seen | None]:
    """Return each picture (a file, or prepared pixels) looked into; None for one that cannot be read."""

    def look(source: Path | NDArray[np.uint8]) -> Seen | None:
        try:
            image = source if isinstance(source, np.ndarray) else prepare_guarded(source, saliency.bundle.preprocess)
        except PictureError:
            return None
        looked = saliency.look(image)
        return Seen(image, looked, saliency.maps(looked, [int(looked.logits.argmax())])[0])

    return list(map_ordered(look, sources, threads))


def try_maps(saliency: Saliency, pictures: Sequence[Seen], threads: int) -> list[Trial]:
    """Return the trials of the pictures' maps, of those in which something speaks for the answer."""
    orders = orders_for(len(pictures))

    def put(item: tuple[int, Seen]) -> Trial | None:
        number, one = item
        return trial(one.map, tried(saliency, one.image, one.looked, one.map, orders, number))

    found = map_ordered(put, list(enumerate(pictures)), threads)
    return [one for one in found if one is not None]
