"""The linear head of uneven classes: which way of balancing them is best, asked out of fold, and the head by it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.events import Decision, Steps
from tellapart.learn.balancing import Balancing, balancing
from tellapart.learn.linear import LinearFit, fit_linear, stratified
from tellapart.learn.linear_head import linear_head
from tellapart.learn.rungs import FloatArray, IntArray
from tellapart.recipe import Balance

__all__ = ["balanced_head", "decided_balance"]

_COMPARED_ON = 3_000  # pictures


def decided_balance(
    X: FloatArray,
    targets: IntArray,
    num_classes: int,
    folds: IntArray,
    wish: Balance,
    seed: int = 0,
    name: str = "balance",
    of: IntArray | None = None,
) -> Steps[tuple[str, Mapping[str, LinearFit]]]:
    """Return the way to balance, and the heads (before any adjustment) that were fitted on all pictures meanwhile.

    By itself, where the largest class has twice the pictures of the smallest, linear heads on features float32 [n, d]
    are compared out of fold by balanced accuracy, on at most some 3,000 pictures: weighted, adjusted, and as they are.
    The last must be better by a standard error of the paired difference. `of` are the targets of all pictures, where
    `targets` are of some.
    """
    counts = np.bincount(targets if of is None else of, minlength=num_classes)
    present = counts[counts > 0]
    words = f"the largest class has {present.max() / present.min():.1f} times the pictures of the smallest"
    if wish != "auto":
        yield Decision(name, wish, f"{words}; asked for by --balance")
        return wish, {}
    if not judge.is_unbalanced(present):
        yield Decision(name, "none", words)
        return "none", {}
    rows = stratified(targets, _COMPARED_ON, seed)
    few, truth, part = (X, targets, folds) if len(rows) == len(targets) else (X[rows], targets[rows], folds[rows])
    fits = {}
    for kind in ("none", "weights"):
        way = balancing(kind, truth, num_classes)
        fits[kind] = yield from fit_linear(few, truth, num_classes, part, way.weights, seed=seed)
    scored = fits["none"].rows
    if not len(scored):
        yield Decision(name, "weights", f"{words}; too few pictures to compare on")
        return "weights", {}
    adjusted = balancing("logit", truth, num_classes).applied(fits["none"])
    logits = {name: one.out_of_fold for name, one in {**fits, "logit": adjusted}.items()}
    right = {kind: one.argmax(axis=1) == truth[scored] for kind, one in logits.items()}
    shares = {kind: _balanced(one, truth[scored]) for kind, one in right.items()}
    best = max(("weights", "logit"), key=lambda kind: shares[kind])
    error = _error(right["none"].astype(float) - right[best], truth[scored])
    best = "none" if shares["none"] > shares[best] + error else best
    names = {"weights": "with weights", "logit": "with adjusted logits", "none": "without"}
    told = ", ".join(f"{shares[kind]:.3f} {said}" for kind, said in names.items())
    words += f"; balanced accuracy of {len(scored):,} predictions out of fold: {told}"
    yield Decision(name, best, words)
    return best, fits if len(rows) == len(targets) else {}


def balanced_head(
    X: FloatArray, targets: IntArray, num_classes: int, folds: IntArray, wish: Balance, seed: int = 0
) -> Steps[tuple[LinearFit, Balancing]]:
    """Return `linear_head`, balanced as `wish` (`--balance`) says or as `decided_balance` finds, and how that is."""
    kind, fits = yield from decided_balance(X, targets, num_classes, folds, wish, seed)
    way = balancing(kind, targets, num_classes)
    begun = fits.get("none" if way.weights is None else "weights")
    if begun is None:
        begun = yield from fit_linear(X, targets, num_classes, folds, way.weights, seed=seed)
    return (yield from linear_head(X, targets, num_classes, folds, way.weights, seed, way.applied(begun))), way


def _balanced(right: NDArray[np.bool_], truth: IntArray) -> float:
    return float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))


def _error(gaps: NDArray[np.float64], truth: IntArray) -> float:
    """Return the standard error of the mean over classes of the mean of paired differences."""
    strata = [gaps[truth == label] for label in np.unique(truth)]
    return float(np.sqrt(sum(one.var() / len(one) for one in strata))) / len(strata)
