"""Pictures unlike all others, by their distance to the nearest in the space of embeddings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tellapart.data.audit.evidence import Evidence, Floats
from tellapart.data.audit.finding import Finding
from tellapart.data.audit.robust import deviations

__all__ = ["distances", "outlier"]

_NEIGHBOURS = 5
_DEVIATIONS = 4.5
_FEWEST = 30
_BLOCK = 128  # rows of cosines, of which a few copies are made
_MOST_REFERENCES = 5_000


def outlier(evidence: Evidence) -> Finding | None:
    """Return the pictures whose nearest neighbours are far, told by the set's own spread (median and MAD of the log).

    Source: Ramaswamy, Rastogi, Shim, "Efficient Algorithms for Mining Outliers", SIGMOD 2000; Sun et al., "Out-of-
    Distribution Detection with Deep Nearest Neighbors", ICML 2022.
    """
    if len(evidence.embedded) < _FEWEST:
        return None
    away = deviations(np.log(distances(evidence.embeddings, evidence.near[evidence.embedded])), 0.05)
    found = np.flatnonzero((away > _DEVIATIONS) & evidence.open[evidence.embedded])
    if not len(found):
        return None
    rows = [
        evidence.suspect(
            int(evidence.embedded[place]),
            1.0 - _DEVIATIONS / (2.0 * away[place]),
            f"its nearest pictures are {away[place]:.1f} deviations farther than usual",
        )
        for place in found.tolist()
    ]
    return Finding.of(
        "outlier",
        0.05 + len(rows) / len(evidence.embedded),
        rows,
        f"{len(rows):,} of {len(evidence.embedded):,} pictures look like none of the others.",
        "Look at them: they may not belong here, or show a kind of which there is too little.",
    )


def distances(embeddings: NDArray[np.float32], near: NDArray[np.int64]) -> Floats:
    """Return the mean distance, float64 [m], of each picture to its five nearest that are no version of it.

    Distances are of directions, 0 to 2. Of many pictures some 5,000, evenly spread, are the neighbours looked at.
    """
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    step = -(-len(unit) // _MOST_REFERENCES)
    reference, versions = unit[::step], near[::step]
    k = min(_NEIGHBOURS, len(reference) - 1)
    found = np.zeros(len(unit))
    for start in range(0, len(unit), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosine = unit[block] @ reference.T
        cosine[near[block][:, None] == versions[None]] = -1.0
        nearest = -np.partition(-cosine, k - 1, axis=1)[:, :k]
        found[block] = np.sqrt(np.maximum(2.0 - 2.0 * nearest.astype(np.float64), 1e-12)).mean(axis=1)
    return found
