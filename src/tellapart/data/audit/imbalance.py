"""Classes of very different size, and classes so small that little can be learned or said of them."""

from __future__ import annotations

import math

import numpy as np

from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import Finding

__all__ = ["imbalance"]

_RATIO = 3.0
_TINY = 10


def imbalance(evidence: Evidence) -> Finding | None:
    """Return the classes' uneven sizes among the training pictures; the rows are the pictures of tiny classes."""
    if len(evidence) == 0:
        return None
    train = evidence.in_split("train")
    looked = train if train.any() else np.ones(len(evidence), dtype=bool)
    kind = "training pictures" if train.any() else "pictures"
    counts = np.bincount(evidence.targets[looked], minlength=evidence.num_classes)
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    ratio = counts[largest] / max(1, counts[smallest])
    tiny = np.flatnonzero(counts < _TINY)
    if ratio < _RATIO and not len(tiny):
        return None
    rows = [
        evidence.suspect(
            row, 1.0 - counts[evidence.targets[row]] / _TINY, f"one of {counts[evidence.targets[row]]:,} {kind}"
        )
        for row in np.flatnonzero(looked & np.isin(evidence.targets, tiny) & evidence.open).tolist()
    ]
    parts = []
    if ratio >= _RATIO:
        parts.append(
            f"{evidence.classes[largest]} has {counts[largest]:,} {kind}, {evidence.classes[smallest]} "
            f"{counts[smallest]:,}: {ratio:.1f} times fewer."
        )
    if len(tiny):
        named = ", ".join(f"{evidence.classes[index]} ({counts[index]:,})" for index in tiny[:5])
        rest = f" and {len(tiny) - 5:,} more" if len(tiny) > 5 else ""
        parts.append(f"{len(tiny):,} class(es) have fewer than {_TINY} {kind}: {named}{rest}.")
    return Finding.of(
        "imbalance",
        max(0.15 * math.log10(ratio), 0.5 * len(tiny) / evidence.num_classes),
        rows,
        " ".join(parts),
        "Photograph more of the small classes; meanwhile each class counts equally in training and in the headline.",
    )
