"""Pairs of classes that what is seen cannot tell apart."""

from __future__ import annotations

import numpy as np

from tellapart.data.audit.evidence import Evidence, Floats
from tellapart.data.audit.finding import Finding

__all__ = ["area_under_curve", "confusable_classes"]

_AREA = 0.75
_FEWEST = 10
_EXAMPLES = 12
_MOST_PAIRS = 20


def confusable_classes(evidence: Evidence) -> Finding | None:
    """Return pairs of classes whose pictures the predictions put in an order hardly better than chance.

    For a pair it is the area under the curve of the difference of the two log probabilities: 0.5 is chance. The rows
    are pictures that lie deepest in the other class.
    """
    if evidence.unlearned:
        return None
    targets = evidence.targets[evidence.predicted]
    logs = np.log(np.maximum(evidence.probs, 1e-12))
    large = [k for k in range(evidence.num_classes) if int((targets == k).sum()) >= _FEWEST]
    pairs = []
    for position, one in enumerate(large):
        for other in large[position + 1 :]:
            lean = logs[:, one] - logs[:, other]
            area = area_under_curve(lean[targets == one], lean[targets == other])
            if area < _AREA:
                pairs.append((area, one, other))
    pairs.sort()
    if not pairs:
        return None
    worst: dict[int, tuple[float, int]] = {}
    for _, one, other in pairs[:_MOST_PAIRS]:
        for mine, theirs in ((one, other), (other, one)):
            places = np.flatnonzero((targets == mine) & evidence.open[evidence.predicted])
            share = evidence.probs[places, theirs] / np.maximum(evidence.probs[places][:, [mine, theirs]].sum(1), 1e-12)
            for place in np.argsort(-share, kind="stable")[:_EXAMPLES].tolist():
                row = int(evidence.predicted[places[place]])
                worst[row] = max(worst.get(row, (0.0, theirs)), (float(share[place]), theirs))
    named = "; ".join(f"{evidence.classes[a]} and {evidence.classes[b]} ({area:.2f})" for area, a, b in pairs[:5])
    rest = f"; and {len(pairs) - 5:,} more" if len(pairs) > 5 else ""
    return Finding.of(
        "confusable_classes",
        0.2 + 2.0 * (_AREA - pairs[0][0]),
        [
            evidence.suspect(row, share, f"looks as much like {evidence.classes[theirs]}", theirs)
            for row, (share, theirs) in worst.items()
            if share > 0.5
        ],
        f"{len(pairs):,} pair(s) of classes look the same (0.5 is chance, 1 is told apart): {named}{rest}.",
        "Merge them, or make sure that the pictures show what tells them apart.",
    )


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """Return the chance that a value of `positive` is above one of `negative`, ties counting half."""
    values = np.concatenate([positive, negative])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2.0) / (n * m)) if n and m else 0.5
