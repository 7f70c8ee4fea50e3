"""Whether a graph that resizes by itself sees what this package sees, on the files of real pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tellapart.errors import PictureError
from tellapart.events import Progress, Steps
from tellapart.images import decode_guarded, prepare_guarded, resize
from tellapart.images.preprocess import Preprocess
from tellapart.runtime.session import Runs, Session
from tellapart.ship.any_size import of_any_size, squares_alone

__all__ = ["Resized", "compare_resize"]

_MOST = 200
_VALUES, _LEVELS, _SAME = 0.02, 8, 0.995


@dataclasses.dataclass(frozen=True, slots=True)
class Resized:
    """On `n` pictures: the share of `values` that differ in the worst of them, by how many `levels` of 255 at the most,
    both from a picture decoded in full; the share of pictures that are named the `same` as by `prepare`.
    """

    n: int
    values: float
    levels: int
    same: float

    @property
    def good(self) -> bool:
        """Whether that is little enough: 2 % of values, 8 levels, 99.5 % of names."""
        return self.n > 0 and self.values <= _VALUES and self.levels <= _LEVELS and self.same >= _SAME


def compare_resize(plain: Runs, whole: Runs, preprocess: Preprocess, files: Sequence[Path]) -> Steps[Resized]:
    """Compare a graph for squares with itself behind the resize of a graph, on at most 200 evenly spaced `files`."""
    places = np.unique(np.linspace(0, len(files) - 1, min(_MOST, len(files))).astype(np.int64)).tolist()
    squares = Session(of_any_size(squares_alone(preprocess.image_size), preprocess))
    seen, values, levels, same = 0, 0.0, 0, 0
    for done, place in enumerate(places, 1):
        try:
            pixels = decode_guarded(files[place], None, preprocess.decode)
            ours = prepare_guarded(files[place], preprocess)
        except PictureError:
            continue
        seen += 1
        theirs = squares.run(pixels[None])["square"][0].astype(np.int16)
        away = np.abs(theirs - resize(pixels, preprocess).astype(np.int16))
        values, levels = max(values, float((away > 0).mean())), max(levels, int(away.max()))
        first, second = (
            graph.run(image[None], ["logits"])["logits"].argmax() for graph, image in ((plain, ours), (whole, pixels))
        )
        same += int(first == second)
        yield Progress("resize", done, len(places))
    return Resized(seen, values, levels, same / max(1, seen))
