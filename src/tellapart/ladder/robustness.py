"""Accuracy on corrupted pictures, through the bundle itself."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import PictureError
from tellapart.events import Progress, Steps
from tellapart.images import map_ordered, prepare_guarded
from tellapart.images.corrupt import CORRUPTIONS, STRENGTHS, corrupt
from tellapart.judge import Robustness, compare_corrupted
from tellapart.learn.draws import picture_keys
from tellapart.learn.rungs import Pictures
from tellapart.runtime.predictor import Predictor

__all__ = ["robustness"]

_MOST = 200
_ALL = [(corruption, strength) for corruption in CORRUPTIONS for strength in STRENGTHS]


def robustness(predictor: Predictor, pictures: Pictures) -> Steps[tuple[Robustness, ...]]:
    """Measure the bundle on at most 200 of the pictures, each corrupted in every way, at the size the network sees.

    The pictures are those with the lowest digests, and the digest decides a picture's noise: nothing is drawn anew.
    """
    chosen = sorted(range(len(pictures)), key=pictures.digests.__getitem__)[:_MOST]
    keys = picture_keys([pictures.digests[row] for row in chosen]).tolist()
    one = functools.partial(_answers, predictor, pictures)
    rows: list[NDArray[np.bool_]] = []
    for done, right in enumerate(map_ordered(one, list(zip(chosen, keys, strict=True)), predictor.threads), 1):
        if right is not None:
            rows.append(right)
        yield Progress("evaluate", done, len(chosen), "corrupted pictures")
    table = np.stack(rows) if rows else np.zeros((0, 1 + len(_ALL)), dtype=bool)
    return compare_corrupted(table[:, 0], {name: table[:, place] for place, name in enumerate(_ALL, 1)})


def _answers(predictor: Predictor, pictures: Pictures, asked: Sequence[int]) -> NDArray[np.bool_] | None:
    """Return whether the picture is told right as it is and under each corruption, bool [16]; None if unreadable."""
    row, key = asked
    try:
        image = prepare_guarded(pictures.files[row], predictor.bundle.preprocess)
    except PictureError:
        return None
    seen = [image, *(corrupt(image, corruption, strength, key) for corruption, strength in _ALL)]
    run = predictor.bundle.session.run
    best = [int(run(one[None], ("logits",))["logits"][0].argmax()) for one in seen]
    return np.asarray(np.array(best) == pictures.targets[row])
