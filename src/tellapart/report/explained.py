"""One picture explained, as data: what the terminal, the page and the JSON of `explain` are made from."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.maps import Place
from tellapart.runtime.predictor import Prediction

__all__ = ["Evidence", "ExplainedPicture", "Neighbour"]


@dataclasses.dataclass(frozen=True, slots=True)
class Neighbour:
    """A training picture of the class: `similarity` is a cosine in [-1, 1], `number` its place among the references.

    `thumbnail` is a JPEG of 64 px, empty where the bundle keeps no pictures; the reference then is the class's mean.
    """

    number: int
    similarity: float
    thumbnail: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What speaks for one class: its map float32 [h, w] in logits, and training pictures.

    `map` is None where maps may not be shown or nothing speaks for the class; `where` is where half of it lies;
    `without` is the class's probability with those cells hidden. `layer` is the map as a PNG to lay over the photo.
    """

    label: str
    prob: float
    map: NDArray[np.float32] | None = None
    where: Place | None = None
    without: float | None = None
    neighbours: tuple[Neighbour, ...] = ()
    layer: bytes = b""

    def as_json(self) -> dict[str, Any]:
        """Return what `explain --json` holds of it."""
        drawn = None
        if self.map is not None and self.where is not None:
            drawn = {
                "where": self.where.words,
                "mass": self.where.mass,
                "area": self.where.area,
                "without": self.without,
                "values": [[round(value, 4) for value in row] for row in self.map.tolist()],
            }
        near = [{"reference": one.number, "similarity": round(one.similarity, 4)} for one in self.neighbours]
        return {"label": self.label, "prob": self.prob, "map": drawn, "neighbours": near}


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ExplainedPicture:
    """A picture with what speaks for its answer and for the runner-up.

    `nearest` counts the classes of the ten training pictures most like it, the most frequent first. `photo` is a JPEG
    made by us, `size` its width and height; `channels` is a PNG of what the last layer sees in it, and `responses` of
    what the first does; `png` is the name of the picture's own file. They are empty where they were not asked for.
    """

    prediction: Prediction
    said: Evidence
    runner_up: Evidence | None
    nearest: tuple[tuple[str, int], ...] = ()
    photo: bytes = b""
    size: tuple[int, int] = (1, 1)
    responses: bytes = b""
    channels: bytes = b""
    png: str = ""

    @property
    def path(self) -> str:
        """The picture as the user named it."""
        return self.prediction.path or ""

    def as_json(self) -> dict[str, Any]:
        """Return the object of `explain --json`: that of `predict`, and the evidence beside it."""
        return {
            **self.prediction.as_json(),
            "evidence": self.said.as_json(),
            "runner_up": None if self.runner_up is None else self.runner_up.as_json(),
            "nearest": dict(self.nearest),
            "png": self.png or None,
        }
