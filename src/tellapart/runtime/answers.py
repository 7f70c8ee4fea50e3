"""From logits and embeddings to what a picture is answered: probabilities, novelty, and one of three words."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "NoveltyScorer", "answer", "softmax"]

Answer = Literal["label", "unsure", "unknown"]
NEIGHBOURS = 3


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities float64 [..., K] of logits [..., K]; no overflow at any finite logit."""
    wide = np.asarray(logits, dtype=np.float64)
    raised = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


class NoveltyScorer:
    """How far an embedding lies from reference embeddings, as a share of held-out training pictures.

    `reference` float16 [M, D], M >= 1, are embeddings with `mean` float32 [D] taken off, scaled to length 1 (0 for an
    embedding that is the mean); `quantiles` float32 [Q], Q >= 1, are the sorted raw scores of held-out pictures. The
    raw score is the mean cosine distance to the 3 nearest references (Sun et al., "Out-of-distribution detection with
    deep nearest neighbors", 2022).
    """

    def __init__(
        self, reference: NDArray[np.float16], mean: NDArray[np.float32], quantiles: NDArray[np.float32]
    ) -> None:
        self._directions = np.ascontiguousarray(reference, dtype=np.float32)
        self._mean = mean.astype(np.float64)
        self._smallest = 1e-6 * float(np.linalg.norm(self._mean)) + 1e-30
        self._quantiles = quantiles.astype(np.float64)

    def raw(self, embedding: NDArray[np.float32]) -> float:
        """Return the raw score, in [0, 2], of one embedding float32 [D]; 2 where it is not finite."""
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

    def score(self, embedding: NDArray[np.float32]) -> float:
        """Return in [0, 1] the share of held-out pictures less novel than one embedding float32 [D].

        Interpolated between their raw scores; 1 beyond the most novel of them, and among equals their lowest place.
        """
        raw, known, count = self.raw(embedding), self._quantiles, len(self._quantiles)
        right = int(np.searchsorted(known, raw, side="left"))
        if right in (0, count):
            return right / count
        below, above = known[right - 1], known[right]
        return float((right - 1 + (raw - below) / (above - below)) / count)


def answer(prob: float, novelty: float, min_prob: float, max_novelty: float) -> Answer:
    """Return `unknown` where novelty is above `max_novelty`, else `unsure` where `prob` is below `min_prob`.

    `prob` is the calibrated probability of the likeliest class. What is not a number is never answered with `label`.
    """
    if not novelty <= max_novelty:
        return "unknown"
    return "label" if prob >= min_prob else "unsure"
