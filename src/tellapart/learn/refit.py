"""A head fitted anew on embeddings that are at hand, of the kind that a bundle has."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Steps
from tellapart.learn.balanced_head import balanced_head, decided_balance
from tellapart.learn.balancing import balancing
from tellapart.learn.draft import Draft
from tellapart.learn.kernel_machine import fit_kernel_machine
from tellapart.learn.learners import MACHINES, best_learner
from tellapart.learn.linear import cross_validate
from tellapart.learn.prototype import fit_prototypes
from tellapart.learn.rungs import FloatArray, GraphHead, Head, IntArray
from tellapart.recipe import Balance

__all__ = ["Refit", "directions", "of_directions", "out_of_fold_as", "refit"]


@dataclasses.dataclass(frozen=True)
class Refit:
    """A head, its logits out of fold float32 [n, K] for the pictures `rows` int64 [n], and what it was tuned to."""

    head: Head | GraphHead
    rows: IntArray
    out_of_fold: FloatArray
    penalty: float
    details: Mapping[str, Any]


def refit(
    X: FloatArray,
    targets: IntArray,
    folds: IntArray,
    num_classes: int,
    machine: bool,
    left: Callable[[], float],
    seed: int,
    wish: Balance = "auto",
) -> Steps[Refit]:
    """Return a linear head on features float32 [n, D], or with `machine` a support vector machine where that is better.

    `targets` int [n]; `folds` as `make_folds` gives them; `left` tells the seconds that a machine may take; `wish` is
    how uneven classes are balanced (`balanced_head`).
    """
    linear, way = yield from balanced_head(X, targets, num_classes, folds, wish, seed)
    details: dict[str, Any] = {"penalty": linear.penalty} if linear.penalty > 0 else {"head": "class_means"}
    details |= {"class_weights": way.weights is not None, "balance": way.kind}
    if machine:
        other = yield from fit_kernel_machine(X, targets, num_classes, folds, way, left)
        details["learner"] = "linear"
        best = None if other is None else best_learner(other, linear, targets, way)[0]
        if other is not None and best is not None and best.name in MACHINES:
            tuned = {"learner": best.name, "gamma": other.gamma, "cost": other.cost}
            return Refit(best.head, best.rows, best.out_of_fold, linear.penalty, {**details, **tuned})
    return Refit(linear.head, linear.rows, linear.out_of_fold, linear.penalty, details)


def out_of_fold_as(
    made: Refit,
    X: FloatArray,
    targets: IntArray,
    folds: IntArray,
    num_classes: int,
    left: Callable[[], float],
    seed: int,
    wish: Balance = "auto",
) -> Steps[tuple[IntArray, FloatArray]]:
    """Return rows and out-of-fold logits of a head like `made` on some of its pictures: fewer classes, equal folds.

    `wish` is how the classes that are left are balanced.
    """
    if isinstance(made.head, GraphHead):
        again = yield from refit(X, targets, folds, num_classes, True, left, seed, wish)
        return again.rows, again.out_of_fold
    if not made.penalty:
        means = fit_prototypes(X, targets, num_classes, folds)
        return means.rows, means.out_of_fold
    kind, _ = yield from decided_balance(X, targets, num_classes, folds, wish, seed)
    way = balancing(kind, targets, num_classes)
    logits = yield from cross_validate(X, targets, num_classes, folds, [made.penalty], way.weights)
    rows = np.flatnonzero(folds >= 0).astype(np.int64)
    found = logits[0][rows]
    return rows, found if way.log_priors is None else found - way.log_priors


def directions(embeddings: FloatArray, mean: NDArray[np.float32]) -> FloatArray:
    """Return embeddings float32 [n, D] less `mean` float32 [D], scaled to length 1; 0 for what is the mean."""
    centred = embeddings - mean
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(lengths, _SMALLEST), dtype=np.float32)


def of_directions(head: Head, mean: NDArray[np.float32]) -> GraphHead:
    """Return the head on embeddings that is `head` on their `directions`."""
    draft = Draft()
    centred = draft.op("Sub", "embedding", draft.floats(mean))
    # A product with ones sums in the operators of every version; a reduction would not.
    squares = draft.op("MatMul", draft.op("Mul", centred, centred), draft.floats(np.ones((len(mean), 1))))
    length = draft.op("Sqrt", squares)
    unit = draft.op("Div", centred, draft.op("Max", length, draft.floats(_SMALLEST)))
    logits = draft.op("Gemm", unit, draft.floats(head.weight), draft.floats(head.bias))
    width, num_classes = head.shape
    given: tuple[str, str, list[int | str]] = ("embedding", "FLOAT", ["N", width])
    return GraphHead(draft.model(given, {"logits": (logits, ["N", num_classes])}, "head"), head.shape)


_SMALLEST = np.float32(1e-12)
