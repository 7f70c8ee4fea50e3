"""What graphs cost: milliseconds a picture on one thread, and megabytes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from tellapart.events import Progress, Steps
from tellapart.images.decode import Pixels
from tellapart.ladder.choose import Candidate
from tellapart.runtime.session import Session

__all__ = ["megabytes", "milliseconds"]

_ROUNDS = 7


def milliseconds(models: Sequence[Candidate], stage: str) -> Steps[list[float]]:
    """Return what the graph of each model takes for a picture on one thread, the best of seven rounds in turn."""
    rng = np.random.default_rng(0)
    pictures: list[Pixels] = [
        rng.integers(0, 256, (1, *(2 * (one.fitted.preprocess.image_size,)), 3)).astype(np.uint8) for one in models
    ]
    sessions = [Session(one.fitted.trunk) for one in models]
    best = [float("inf")] * len(models)
    for done in range(_ROUNDS):
        for place, (session, picture) in enumerate(zip(sessions, pictures, strict=True)):
            began = time.perf_counter()
            session.run(picture, ["embedding"])
            best[place] = min(best[place], time.perf_counter() - began)
        yield Progress(stage, done + 1, _ROUNDS, "rounds")
    return [round(1e3 * seconds, 3) for seconds in best]


def megabytes(model: Candidate) -> float:
    """Return the size of a model's graph."""
    return round(len(model.fitted.trunk) / 1e6, 1)
