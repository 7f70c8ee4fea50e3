"""How uneven classes are made to count alike: by weights, by drawing them evenly, by adjusted logits, or not at all.

Adjusted logits: Menon and others, "Long-tail learning via logit adjustment" (ICLR 2021). A linear head with a free bias
that is fitted on all pictures at once gives the same whether the logarithms of the classes' shares are added in its
loss or taken from its logits afterwards; and drawing pictures evenly is, for it, the same as weighting them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.learn.linear import LinearFit
from tellapart.learn.rungs import FloatArray, Head, IntArray

__all__ = ["Balancing", "balancing", "class_weights_of", "log_priors_of"]


@dataclasses.dataclass(frozen=True)
class Balancing:
    """One way: `weights` float64 [N] of pictures where they are weighted, `log_priors` float32 [K] where these are
    taken from logits; `kind` is `none`, `weights`, `sampler` or `logit`.
    """

    kind: str
    weights: NDArray[np.float64] | None = None
    log_priors: FloatArray | None = None

    @property
    def alike(self) -> bool:
        """Whether classes count alike."""
        return self.kind != "none"

    def of(self, rows: IntArray) -> Balancing:
        """Return the same for some of the pictures."""
        return self if self.weights is None else dataclasses.replace(self, weights=self.weights[rows])

    def among(self, targets: IntArray, num_classes: int, weights: NDArray[np.float64]) -> Balancing:
        """Return the same for a head that learns from others too: `targets` and `weights` of all that it learns from.

        Weights are theirs already; adjusted logits go by the shares of classes in what is learned.
        """
        priors = None if self.log_priors is None else log_priors_of(targets, num_classes, weights)
        return Balancing(self.kind, None if self.weights is None else weights, priors)

    def applied(self, fitted: LinearFit) -> LinearFit:
        """Return a head, fitted with `weights`, and its logits out of fold, adjusted where that is the way."""
        if self.log_priors is None:
            return fitted
        return dataclasses.replace(
            fitted, head=self.adjusted(fitted.head), out_of_fold=fitted.out_of_fold - self.log_priors
        )

    def adjusted(self, head: Head) -> Head:
        """Return a head adjusted where that is the way."""
        return head if self.log_priors is None else Head(head.weight, head.bias - self.log_priors)


def class_weights_of(targets: IntArray, num_classes: int) -> NDArray[np.float64]:
    """Return weights float64 [K] by which classes count alike, their mean over pictures being 1; 0 for absent ones."""
    counts = np.bincount(targets, minlength=num_classes)
    each = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, each, 0.0)


def balancing(kind: str, targets: IntArray, num_classes: int) -> Balancing:
    """Return what a linear head needs for `none`, `weights`, `sampler` (the same, for it) or `logit`."""
    if kind in ("weights", "sampler"):
        return Balancing(kind, weights=class_weights_of(targets, num_classes)[targets])
    if kind == "logit":
        return Balancing(kind, log_priors=log_priors_of(targets, num_classes))
    return Balancing(kind)


def log_priors_of(targets: IntArray, num_classes: int, weights: NDArray[np.float64] | None = None) -> FloatArray:
    """Return float32 [K], the logarithms of the classes' shares; an absent class has that of half a picture.

    `weights` float64 [N] are what the pictures count for, None for 1 each.
    """
    counts = np.maximum(np.bincount(targets, weights=weights, minlength=num_classes), 0.5)
    shares: FloatArray = np.log(counts / counts.sum()).astype(np.float32)
    return shares
