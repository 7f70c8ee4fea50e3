"""Whether a mirrored picture still is one of its class: asked of the training pictures, not assumed."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Decision, Steps
from tellapart.learn.rungs import IntArray

__all__ = ["Mirroring", "mirrored", "mirroring", "small_features"]

_SIDE = 12  # pixels: pictures are averaged down to this many a side
_CELLS = 4  # gradient histograms in this many cells a side
_BINS = 8
_TOLERANCE = 0.03  # accuracy that may be lost, besides what chance explains


@dataclasses.dataclass(frozen=True, slots=True)
class Mirroring:
    """`helps` says whether to mirror; the accuracies in [0, 1] on `n` pictures are its evidence, in words too."""

    helps: bool
    n: int
    accuracy: float
    mirrored_accuracy: float

    @property
    def words(self) -> str:
        """The evidence as a sentence."""
        verdict = "mirrored pictures stay in their class" if self.helps else "mirroring changes what a picture shows"
        if not self.n:
            verdict = "too few pictures to tell"
        return (
            f"a linear model of small pictures knows {self.accuracy:.0%} of {self.n:,} pictures it never saw, and "
            f"{self.mirrored_accuracy:.0%} of the same pictures mirrored: {verdict}"
        )


def mirroring(pixels: NDArray[np.uint8], targets: IntArray) -> Mirroring:
    """Return whether pictures uint8 [N, S, S, C] with `targets` int64 [N] may be mirrored left to right.

    A ridge classifier is fitted on every other picture and asked about the rest, as they are and mirrored. Where
    handedness tells classes apart (digits, letters, arrows) the mirrored ones are mistaken; in most photographs they
    are not. The loss must exceed what chance explains (two standard errors of the paired difference).
    With fewer than 16 pictures the answer is no.
    """
    if len(pixels) < 16:
        return Mirroring(False, 0, 0.0, 0.0)
    order = np.argsort(targets, kind="stable")  # every other picture of each class
    learn, ask = order[0::2], order[1::2]
    codes = np.eye(int(targets.max()) + 1, dtype=np.float64)[targets[learn]]
    features = small_features(pixels[learn])
    middle, spread = features.mean(0), features.std(0) + 1e-6
    design = (features - middle) / spread
    gram = design.T @ design
    gram[np.diag_indices_from(gram)] += max(1.0, 0.3 * len(design))
    weight = np.linalg.solve(gram, design.T @ (codes - codes.mean(0)))

    def right(asked: NDArray[np.uint8]) -> NDArray[np.float64]:
        scores = (small_features(asked) - middle) / spread @ weight + codes.mean(0)
        return np.asarray(scores.argmax(1) == targets[ask], dtype=np.float64)

    plain, mirrored = right(pixels[ask]), right(pixels[ask][:, :, ::-1])
    lost = plain - mirrored
    error = float(lost.std() / np.sqrt(len(lost)))
    helps = float(lost.mean()) <= _TOLERANCE + 2.0 * error
    return Mirroring(helps, len(ask), float(plain.mean()), float(mirrored.mean()))


def mirrored(wish: str, pixels: NDArray[np.uint8], targets: IntArray, name: str) -> Steps[bool]:
    """Return whether training pictures are mirrored: as `wish` says (`on`, `off`), or as `mirroring` finds (`auto`)."""
    if wish != "auto":
        yield Decision(name, wish == "on", "--flip")
        return wish == "on"
    found = mirroring(pixels, targets)
    yield Decision(name, found.helps, found.words)
    return found.helps


def small_features(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return float64 [N, F]: the picture at `_SIDE` px and histograms of its gradients, much as HOG has them."""
    count, size = pixels.shape[:2]
    grey = pixels.astype(np.float32).mean(3) / 255.0
    side = min(_SIDE, size)
    edges = np.arange(side) * size // side
    small = np.add.reduceat(np.add.reduceat(pixels.astype(np.float32), edges, 1), edges, 2)
    areas = np.diff(np.append(edges, size)).astype(np.float32)
    small = small / (areas[:, None] * areas[None, :])[None, :, :, None] / 255.0
    dy = np.zeros_like(grey)
    dx = np.zeros_like(grey)
    dy[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    dx[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    length = np.hypot(dx, dy)
    which = np.floor((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * _BINS).astype(np.int64) % _BINS
    cells = min(_CELLS, size)
    corners = np.arange(cells) * size // cells
    histograms = [
        np.add.reduceat(np.add.reduceat(np.where(which == k, length, 0.0), corners, 1), corners, 2)
        for k in range(_BINS)
    ]
    gradients = np.stack(histograms, -1).reshape(count, -1)
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True) + 1e-6
    return np.concatenate([small.reshape(count, -1), gradients], 1).astype(np.float64)
