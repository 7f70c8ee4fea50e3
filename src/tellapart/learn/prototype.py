"""Nearest class means: what a head can be where a class has one picture, or a handful.

With one picture a class its mean is that picture; distances stand for unlikeness, and no class counts for more because
it has more pictures. Source: J. Snell, K. Swersky, R. Zemel, "Prototypical networks for few-shot learning", NeurIPS
2017, without their training.
"""

from __future__ import annotations

import numpy as np

from tellapart.learn.linear import LinearFit
from tellapart.learn.rungs import FloatArray, Head, IntArray

__all__ = ["FEW", "fit_prototypes"]

FEW = 8  # pictures of the smallest class: with as many, logistic regression needs no such help
_SURE = 2.0  # nats by which a class mean is nearer to itself than to another, where nothing tells how sure to be


def fit_prototypes(X: FloatArray, targets: IntArray, num_classes: int, folds: IntArray) -> LinearFit:
    """Return the head of nearest class means of features float32 [n, D], with logits out of fold.

    `folds` int [n]: each fold's pictures are predicted by means that they are not in; -1 is never predicted. `penalty`
    is 0: there is none. How sure the logits are comes from how far apart the means lie; calibration does the rest.
    """
    scored = np.flatnonzero(folds >= 0)
    whole = _means(X, targets, num_classes)
    scale = _scale(whole)
    logits = np.zeros((len(scored), num_classes), dtype=np.float32)
    for fold in np.unique(folds[scored]):
        kept = folds != fold
        held_out = folds[scored] == fold
        head = _head(_means(X[kept], targets[kept], num_classes)).tempered(1 / scale)
        logits[held_out] = head.logits(X[scored][held_out])
    return LinearFit(_head(whole).tempered(1 / scale), 0.0, (), scored.astype(np.int64), logits)


def _means(X: FloatArray, targets: IntArray, num_classes: int) -> FloatArray:
    means = np.zeros((num_classes, X.shape[1]), dtype=np.float32)
    for label in range(num_classes):
        own = X[targets == label]
        means[label] = own.mean(axis=0) if len(own) else X.mean(axis=0)
    return means


def _head(means: FloatArray) -> Head:
    """Return minus half the squared distance to each mean, up to what all classes have in common."""
    middle = means.mean(axis=0)
    centred = means - middle
    bias = -0.5 * np.square(centred).sum(axis=1) - centred @ middle
    return Head(np.ascontiguousarray(centred.T), bias.astype(np.float32))


def _scale(means: FloatArray) -> float:
    """Return what makes a class mean `_SURE` nats nearer to itself than to the others, on average."""
    num_classes = len(means)
    between = 2 * float(np.square(means - means.mean(axis=0)).sum()) / max(1, num_classes - 1)  # mean squared distance
    return 2 * _SURE / between if between > 1e-12 else 1.0
