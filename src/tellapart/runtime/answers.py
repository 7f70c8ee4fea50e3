"""From logits and embeddings to what a picture is answered: probabilities, novelty, and one of three words."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_QUANTILES", "Answer", "NoveltyScorer", "answers", "softmax"]

Answer = Literal["label", "unsure", "unknown"]
NEIGHBOURS = 3
MAX_QUANTILES = 1001


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities float64 [..., K] of logits [..., K]; no overflow at any finite logit."""
    wide = np.asarray(logits, dtype=np.float64)
    raised = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


class NoveltyScorer:
    """How far an embedding lies from reference embeddings, as a share of held-out training pictures.

    Distances are cosine, after the references' mean is taken away; the raw score is the mean distance to the nearest
    three (Sun et al., "Out-of-distribution detection with deep nearest neighbors", 2022). `reference` float16 [M, D],
    M >= 1, `mean` float32 [D], `quantiles` float32 [Q]: rising raw scores of held-out pictures at equal steps from 0
    to 1, at most `MAX_QUANTILES`.
    """

    def __init__(
        self, reference: NDArray[np.float16], mean: NDArray[np.float32], quantiles: NDArray[np.float32]
    ) -> None:
        self._mean = np.asarray(mean, dtype=np.float32)
        self._reference = _unit_rows(np.asarray(reference, dtype=np.float32) - self._mean)
        self._quantiles = np.asarray(quantiles, dtype=np.float64)
        self._shares = np.linspace(0.0, 1.0, len(self._quantiles))

    def raw(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 [N] in [0, 2]: the mean cosine distance of each of [N, D] to its nearest references."""
        queries = _unit_rows(np.asarray(embeddings, dtype=np.float32) - self._mean)
        result = np.empty(len(queries), dtype=np.float32)
        near = min(NEIGHBOURS, len(self._reference))
        for row, query in enumerate(queries):  # one product for each picture: its bits do not depend on the others
            similar = self._reference @ query
            nearest = np.partition(similar, len(similar) - near)[len(similar) - near :]
            result[row] = 1.0 - nearest.mean(dtype=np.float64)
        # An embedding that is not finite is as far as can be.
        return np.clip(np.nan_to_num(result, nan=2.0), 0.0, 2.0)

    def score(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return float64 [N] in [0, 1]: the share of held-out pictures less novel than each of [N, D], interpolated."""
        return np.interp(self.raw(embeddings).astype(np.float64), self._quantiles, self._shares)


def answers(
    probs: NDArray[np.float64], novelty: NDArray[np.float64], min_prob: float, max_novelty: float
) -> list[Answer]:
    """Return `unknown` where novelty [N] is above `max_novelty`, else `unsure` below `min_prob`, else `label`.

    `probs` [N, K] are calibrated. A probability or novelty that is not a number is never answered with `label`.
    """
    known = (np.asarray(novelty) <= max_novelty).tolist()
    sure = (np.asarray(probs).max(axis=-1, initial=0.0) >= min_prob).tolist()
    return [("label" if s else "unsure") if k else "unknown" for k, s in zip(known, sure, strict=True)]


def _unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), dtype=np.float32)
