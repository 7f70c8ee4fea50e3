"""From logits to what a picture is answered: probabilities, and one of three words."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answer", "answer", "softmax"]

Answer = Literal["label", "unsure", "unknown"]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return probabilities float64 [..., K] of logits [..., K]; no overflow at any finite logit."""
    wide = np.asarray(logits, dtype=np.float64)
    raised = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def answer(prob: float, novelty: float, min_prob: float, max_novelty: float) -> Answer:
    """Return `unknown` where novelty is above `max_novelty`, else `unsure` where `prob` is below `min_prob`.

    `prob` is the calibrated probability of the likeliest class. What is not a number is never answered with `label`.
    """
    if not novelty <= max_novelty:
        return "unknown"
    return "label" if prob >= min_prob else "unsure"
