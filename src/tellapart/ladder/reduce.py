"""Embeddings in a few directions: enough for telling what is near, and small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tellapart.learn.linear_solver import one_blas_thread
from tellapart.learn.rungs import FloatArray

__all__ = ["reduced"]

_WIDTH = 64
_MORE = 16
_SAMPLE = 4_000


def reduced(parts: Sequence[FloatArray]) -> list[FloatArray]:
    """Return each part, float32 [n, D], in the at most 64 directions in which a sample of all of them varies most.

    Source: Halko, Martinsson, Tropp, "Finding Structure with Randomness", SIAM Review 53, 2011, with one power step.
    """
    total = sum(map(len, parts))
    sample = np.concatenate([part[:: max(1, -(-total // _SAMPLE))] for part in parts])
    if len(sample) <= 2 or sample.shape[1] <= _WIDTH:
        return list(parts)
    with one_blas_thread():
        middle = sample.mean(axis=0)
        sample = sample - middle
        random = np.random.Generator(np.random.Philox(key=0))
        start = random.standard_normal((sample.shape[1], _WIDTH + _MORE)).astype(np.float32)
        basis, _ = np.linalg.qr(sample.T @ (sample @ start))
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
        _, _, turned = np.linalg.svd(sample @ basis, full_matrices=False)
        directions = basis @ turned[:_WIDTH].T
        return [np.asarray(part @ directions - middle @ directions, dtype=np.float32) for part in parts]
