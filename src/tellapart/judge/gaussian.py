"""Fits one normal distribution for each class with a shared covariance, for novelty by Mahalanobis distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints
from tellapart.runtime.novelty import Gaussian

__all__ = ["MOST_DIRECTIONS", "fit_gaussian", "most_directions", "principal_directions"]

MOST_DIRECTIONS = 128
# Of the mean variance, this share is added in every direction (and taken off the rest): few pictures say little of the
# smallest ones.
SHRINKAGE = 0.05
_FEWEST_A_DIRECTION = 4  # pictures
_ROUNDS, _SPARE = 3, 8


def most_directions(num_pictures: int) -> int:
    """Return how many directions so many pictures carry: 128 at the most, so that none is made of single pictures."""
    return max(1, min(MOST_DIRECTIONS, num_pictures // _FEWEST_A_DIRECTION))


def fit_gaussian(embeddings: Floats, targets: Ints, directions: int | None = None) -> Gaussian:
    """Fit on embeddings [N, D], N >= 2, of classes int [N], in so many leading `directions`, else `most_directions`.

    Distances in more directions are larger: those that are to be compared need the same number. Both covariances are
    shrunk to a multiple of the identity. The result is a function of the values alone.
    """
    X = np.asarray(embeddings, dtype=np.float32)
    mean = X.mean(axis=0, dtype=np.float64).astype(np.float32)
    X = X - mean
    basis = principal_directions(X, min(most_directions(len(X)) if directions is None else directions, X.shape[1]))
    low = (X @ basis).astype(np.float64)
    classes, places = np.unique(np.asarray(targets), return_inverse=True)
    centres = np.stack([low[places == place].mean(axis=0) for place in range(len(classes))])
    whiten = _root_of_inverse(_shrunk(low - centres[places]))
    spread, turn = np.linalg.eigh(whiten.T @ _shrunk(low) @ whiten)
    to = whiten @ turn
    inside = np.concatenate([np.zeros((1, len(to))), centres]) @ to
    project = np.asarray(basis @ to, dtype=np.float32)
    return Gaussian(mean, project, inside.astype(np.float32), np.maximum(spread, 1e-6).astype(np.float32))


def principal_directions(centred: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return float32 [D, size], orthonormal columns that hold about as much variance of [N, D] as any do.

    Subspace iteration from a fixed random start. Source: Halko et al., "Finding structure with randomness" (2011).
    """
    width = min(size + _SPARE, centred.shape[1])
    random = np.random.Generator(np.random.Philox(key=0))
    basis = random.standard_normal((centred.shape[1], width), dtype=np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    _, _, right = np.linalg.svd(centred @ basis, full_matrices=False)
    return np.ascontiguousarray(basis @ right.T[:, :size])


def _shrunk(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of deviations [N, R], shrunk; the identity where there is no variance at all."""
    covariance = deviations.T @ deviations / len(deviations)
    size = len(covariance)
    level = np.trace(covariance) / size
    if not level > 0.0:
        return np.eye(size)
    return np.asarray((1.0 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(size))


def _root_of_inverse(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return W with W.T @ covariance @ W the identity."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors / np.sqrt(values))
