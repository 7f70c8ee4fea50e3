"""The linear head of frozen features: logistic regression, or class means where a class has a handful of pictures."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Decision, Steps
from tellapart.learn.balancing import Balancing
from tellapart.learn.linear import LinearFit, fit_linear
from tellapart.learn.prototype import FEW, fit_prototypes
from tellapart.learn.rungs import FloatArray, Head, IntArray

__all__ = ["linear_head", "mirrored_views_help"]


def linear_head(
    X: FloatArray,
    targets: IntArray,
    num_classes: int,
    folds: IntArray,
    weights: NDArray[np.float64] | None,
    seed: int = 0,
    begun: LinearFit | None = None,
) -> Steps[LinearFit]:
    """Return logistic regression on features float32 [n, d], class means, or the mean of both: the best out of fold.

    `begun` is the regression, where it was fitted already. The latter two are asked only where the smallest class has
    fewer than eight pictures: there a regression sees so few that leaving one out tips it towards the other classes.
    Without predictions out of fold class means are taken.
    """
    fitted = begun or (yield from fit_linear(X, targets, num_classes, folds, weights, seed=seed))
    counts = np.bincount(targets, minlength=num_classes)
    if counts[counts > 0].min() >= FEW:
        return fitted
    means = fit_prototypes(X, targets, num_classes, folds)
    if not len(means.rows):
        yield Decision("head", "class_means", "a class of one picture leaves nothing to compare heads on")
        return means
    truth = targets[means.rows]
    found = {"class_means": means, "logistic_regression": fitted, "mean_of_both": _mean_of(means, fitted, truth)}
    losses = {name: _loss(one.out_of_fold, truth) for name, one in found.items()}
    best = min(losses, key=lambda name: losses[name])
    told = ", ".join(f"{loss:.3f} by {name.replace('_', ' ')}" for name, loss in losses.items())
    yield Decision("head", best, f"log loss of {len(truth)} predictions out of fold: {told}")
    return found[best]


def _mean_of(means: LinearFit, regression: LinearFit, truth: IntArray) -> LinearFit:
    """Return the head whose logits are the mean of two heads', each at its best temperature out of fold."""
    heads, logits = [], []
    for one in (means, regression):
        temperature = judge.fit_temperature(one.out_of_fold, truth)
        heads.append(one.head.tempered(2 * temperature))
        logits.append(one.out_of_fold / np.float32(2 * temperature))
    head = Head(heads[0].weight + heads[1].weight, heads[0].bias + heads[1].bias)
    return dataclasses.replace(regression, head=head, out_of_fold=np.asarray(sum(logits), dtype=np.float32))


def _loss(logits: FloatArray, truth: IntArray) -> float:
    scaled = logits / np.float32(judge.fit_temperature(logits, truth))
    return float(-judge.log_softmax(scaled)[np.arange(len(truth)), truth].mean())


def mirrored_views_help(
    plain: FloatArray,
    mirrored: FloatArray,
    targets: IntArray,
    folds: IntArray,
    way: Balancing,
    num_classes: int,
    seed: int,
    worth: float = 1.0,
) -> Steps[tuple[bool, str]]:
    """Cross-validate with and without mirrored views on the same pictures and folds; compare log losses in pairs.

    They help when the mean difference is more than `worth` standard errors below zero: one where they take twice the
    time for what may be nothing; at -1 they are added unless they are worse by a standard error.
    """
    without = yield from fit_linear(plain, targets, num_classes, folds, way.weights, seed=seed)
    both = np.concatenate([plain, mirrored])
    with_them = yield from fit_linear(both, targets, num_classes, folds, way.weights, views=2, seed=seed)
    without, with_them = way.applied(without), way.applied(with_them)
    if not len(without.rows):
        return False, "too few pictures for folds"
    comparison = judge.compare(
        targets[without.rows],
        judge.softmax(with_them.out_of_fold),
        judge.softmax(without.out_of_fold),
        balanced=way.alike,
        names=("mirrored views added", "pictures as they are"),
    )
    standard_error = (comparison.high - comparison.low) / 4
    helps = comparison.difference < -worth * standard_error
    if worth < 0:
        verdict = "not worse by a standard error: added" if helps else "worse by a standard error: left out"
    else:
        verdict = "more than a standard error better: added" if helps else "less than a standard error better: left out"
    return helps, f"{comparison.words} Mirrored views are {verdict}."
