"""How novel a picture is, by its embedding and its logits: several scores, one of them or a blend in each bundle."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "GAUSSIAN_METHODS",
    "METHODS",
    "Blend",
    "Gaussian",
    "Neighbours",
    "NoveltyMethod",
    "NoveltyScorer",
    "blend_arrays",
    "energy",
]

NEIGHBOURS = 3

NoveltyMethod = Literal["neighbours", "mahalanobis", "relative_mahalanobis", "energy", "max_logit", "residual"]
METHODS: tuple[NoveltyMethod, ...] = get_args(NoveltyMethod)
"""In a bundle a method is named by its place here: new ones go to the end."""

GAUSSIAN_METHODS: tuple[NoveltyMethod, ...] = ("mahalanobis", "relative_mahalanobis", "residual")
"""Those that a `Gaussian` gives, in the order of `Gaussian.distances`."""

_SMALLEST_DIRECTION = 1e-9  # of its squared length: less is not a direction of its own
_SMALLEST_RESIDUAL = 1e-4  # of the squared length: less is what float32 leaves


def energy(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return float64 [...], less the log of the summed exponentials of logits [..., K]: high where nothing fits.

    Source: Liu et al., "Energy-based out-of-distribution detection" (2020), at temperature 1.
    """
    wide = np.asarray(logits, dtype=np.float64)
    highest = wide.max(axis=-1, keepdims=True)
    return np.asarray(-(highest[..., 0] + np.log(np.exp(wide - highest).sum(axis=-1))))


class Neighbours:
    """The mean cosine distance to the 3 nearest references, in [0, 2].

    `reference` float16 [M, D], M >= 1, are embeddings with `mean` float32 [D] taken off, scaled to length 1 (0 for an
    embedding that is the mean). Source: Sun et al., "Out-of-distribution detection with deep nearest neighbors" (2022).
    """

    def __init__(self, reference: NDArray[np.float16], mean: NDArray[np.float32]) -> None:
        self._directions = np.ascontiguousarray(reference, dtype=np.float32)
        self._mean = mean.astype(np.float64)
        self._smallest = 1e-6 * float(np.linalg.norm(self._mean)) + 1e-30

    def distance(self, embedding: NDArray[np.float32]) -> float:
        """Return the score of one embedding float32 [D]; 2 where it is not finite."""
        wide = embedding.astype(np.float64) - self._mean
        length = float(np.linalg.norm(wide))
        if not length < np.inf:
            return 2.0
        # Where only rounding is left of the difference, it has no direction.
        query = (wide / length if length > self._smallest else np.zeros_like(wide)).astype(np.float32)
        # Not a BLAS product: that takes all processors for a moment, and beside the model on them is ten times slower.
        similar = np.einsum("md,d->m", self._directions, query)
        near = min(NEIGHBOURS, len(similar))
        nearest = np.partition(similar, len(similar) - near)[len(similar) - near :]
        return float(np.float32(1.0 - nearest.mean(dtype=np.float64)))


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """One normal distribution for each class, all with the same covariance, in a space of R leading directions.

    `project` float32 [D, R] takes an embedding less `mean` float32 [D] to where the covariance within classes is the
    identity and that of all pictures is diagonal, `variance` float32 [R]; `centres` float32 [1 + G, R] are there the
    mean of all pictures, then those of G >= 1 classes. Sources: Lee et al., "A simple unified framework for detecting
    out-of-distribution samples" (2018); the relative distance: Ren et al., "A simple fix to Mahalanobis distance"
    (2021).
    """

    mean: NDArray[np.float32]
    project: NDArray[np.float32]
    centres: NDArray[np.float32]
    variance: NDArray[np.float32]

    def distances(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64 [N, 3] of embeddings [N, D]: the squared distance to the nearest class; the same less the
        squared distance to the pictures as a whole; the share, in [0, 1], of the length of an embedding less `mean`
        that lies beyond the R directions.

        Source of the last: Wang et al., "ViM: out-of-distribution with virtual-logit matching" (2022), there a length.
        """
        centred = np.asarray(embeddings, dtype=np.float32) - self.mean
        # As in `Neighbours`: no BLAS product for a single picture.
        alone = len(centred) == 1
        within = np.einsum("nd,dr->nr", centred, self.project) if alone else centred @ self.project
        within = within.astype(np.float64)
        nearest = np.min([np.square(within - centre).sum(axis=1) for centre in self.centres[1:]], axis=0)
        overall = (np.square(within - self.centres[0]) / self.variance).sum(axis=1)
        length = np.square(centred.astype(np.float64)).sum(axis=1)
        straight = np.einsum("nr,sr->ns", within, self._straight) if alone else within @ self._straight.T
        inside = np.square(straight).sum(axis=1)
        left = 1.0 - inside / np.where(length > 0.0, length, np.inf)
        beyond = np.sqrt(np.where((left > _SMALLEST_RESIDUAL) & (length > 0.0), left, 0.0))
        return np.stack([nearest, nearest - overall, beyond], axis=1)

    @functools.cached_property
    def _straight(self) -> NDArray[np.float64]:
        """What takes a place in the R directions [R] to lengths along orthonormal ones, float64 [R, R].

        The inverse of Cholesky's factor of their products, written out: LAPACK would take all processors for it, and on
        busy ones a second. A direction that the earlier ones hold already counts for nothing.
        """
        directions = self.project.astype(np.float64)
        products: NDArray[np.float64] = np.einsum("dr,ds->rs", directions, directions)
        factor, inverse = np.zeros_like(products), np.zeros_like(products)
        for place in range(len(products)):
            column = products[place:, place] - np.einsum("ij,j->i", factor[place:, :place], factor[place, :place])
            if not column[0] > _SMALLEST_DIRECTION * products[place, place]:
                continue
            factor[place:, place] = column / np.sqrt(column[0])
            inverse[place] = -np.einsum("j,jk->k", factor[place, :place], inverse[:place])
            inverse[place, place] += 1.0
            inverse[place] /= factor[place, place]
        return inverse


@dataclasses.dataclass(frozen=True, eq=False)
class Blend:
    """Scores added up: sum over j of `weight[j, c]` * (score j - `centre[j, c]`), c being the likeliest class.

    `methods` are J different ones; `centre` and `weight` float32 [J, K]; `gaussian` is there where a method needs it.
    A score is measured by what held-out pictures of the same answer show, because classes differ in how sure a model
    is of them: what is ordinary for one is novel for another.
    """

    methods: tuple[NoveltyMethod, ...]
    centre: NDArray[np.float32]
    weight: NDArray[np.float32]
    gaussian: Gaussian | None = None

    def add_up(self, scores: Sequence[NDArray[np.float64]], classes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64 [N] of the methods' scores, float64 [N] each, and the likeliest classes int [N]."""
        total = np.zeros(len(classes), dtype=np.float64)
        for score, centre, weight in zip(scores, self.centre, self.weight, strict=True):
            total += weight[classes].astype(np.float64) * (score - centre[classes])
        return total


def blend_arrays(blend: Blend) -> dict[str, NDArray[Any]]:
    """Return what has to be stored of a blend: `methods` int64 [J], `centre`, `weight`, and those of its gaussian."""
    arrays: dict[str, NDArray[Any]] = {
        "methods": np.array([METHODS.index(method) for method in blend.methods], dtype=np.int64),
        "centre": blend.centre,
        "weight": blend.weight,
    }
    if blend.gaussian is not None:
        for field in dataclasses.fields(blend.gaussian):
            arrays[f"gaussian_{field.name}"] = getattr(blend.gaussian, field.name)
    return arrays


class NoveltyScorer:
    """How novel a picture is, as the share of held-out training pictures that are less so.

    Its raw score is that of `Neighbours`, or of `blend` where there is one; `quantiles` float32 [Q], Q >= 1, are the
    sorted raw scores of held-out pictures.
    """

    def __init__(
        self,
        reference: NDArray[np.float16],
        mean: NDArray[np.float32],
        quantiles: NDArray[np.float32],
        blend: Blend | None = None,
    ) -> None:
        self._blend = blend
        needed = blend is None or "neighbours" in blend.methods
        self._neighbours = Neighbours(reference, mean) if needed else None
        self._quantiles = quantiles.astype(np.float64)

    def raw(self, embedding: NDArray[np.float32], logits: NDArray[np.float32] | None = None) -> float:
        """Return the raw score of one embedding float32 [D] with its logits float32 [K]; the highest if not finite.

        Only a blend needs logits.
        """
        if self._blend is None:
            assert self._neighbours is not None
            return self._neighbours.distance(embedding)
        assert logits is not None, "a blend depends on the class"
        if not (np.isfinite(embedding).all() and np.isfinite(logits).all()):
            return float(np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            far = None if self._blend.gaussian is None else self._blend.gaussian.distances(embedding[None])[0]
            scores = [np.atleast_1d(self._score(method, embedding, logits, far)) for method in self._blend.methods]
            return float(self._blend.add_up(scores, np.atleast_1d(logits.argmax()))[0])

    def _score(
        self,
        method: NoveltyMethod,
        embedding: NDArray[np.float32],
        logits: NDArray[np.float32],
        far: NDArray[np.float64] | None,
    ) -> float:
        if method == "energy":
            return float(energy(logits))
        if method == "max_logit":
            return -float(logits.max())
        if method == "neighbours":
            assert self._neighbours is not None
            return self._neighbours.distance(embedding)
        assert far is not None
        return float(far[GAUSSIAN_METHODS.index(method)])

    def score(self, embedding: NDArray[np.float32], logits: NDArray[np.float32] | None = None) -> float:
        """Return in [0, 1] the share of held-out pictures less novel than one embedding float32 [D] with its logits.

        Interpolated between their raw scores; 1 beyond the most novel of them, and among equals their lowest place.
        """
        raw, known, count = self.raw(embedding, logits), self._quantiles, len(self._quantiles)
        if np.isnan(raw):
            return 1.0
        right = int(np.searchsorted(known, raw, side="left"))
        if right in (0, count):
            return right / count
        below, above = known[right - 1], known[right]
        return float((right - 1 + (raw - below) / (above - below)) / count)
