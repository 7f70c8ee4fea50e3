"""Given splits that are not alike: a later one has other pictures than the model learns from."""

from __future__ import annotations

import numpy as np

from tellapart.data.audit.confusable_classes import area_under_curve
from tellapart.data.audit.evidence import Evidence, Floats, Ints
from tellapart.data.audit.finding import Finding, Suspect
from tellapart.data.audit.robust import logit_level, spread_folds
from tellapart.data.manifest import Split

__all__ = ["shift_between", "split_shift"]

_AREA = 0.65
_Z = 4.0
_FOLDS = 5
_FEWEST = 30
_MOST = 6_000
_EXAMPLES = 20
_RIDGE = 0.1


def split_shift(evidence: Evidence) -> Finding | None:
    """Return given splits that a classifier can tell from train, classes put equal; the rows are the strangest.

    Source: Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017; here a linear one, out of fold.
    """
    if "train" not in evidence.given or len(evidence.given) < 2:
        return None
    rows: list[Suspect] = []
    parts: list[str] = []
    worst = 0.5
    for name, features, have in _looks(evidence):
        for split in evidence.given:
            if split == "train" or any(part.startswith(f"{split} ") for part in parts):
                continue
            area, z, places, lean = shift_between(evidence, split, features, have)
            if area < _AREA or z < _Z:
                continue
            worst = max(worst, area)
            parts.append(f"{split} differs from train in {name} (told apart {area:.2f}; 0.5 is chance, 1 always)")
            inside = np.flatnonzero(evidence.in_split(split)[places] & evidence.open[places])
            for place in inside[np.argsort(-lean[inside], kind="stable")][:_EXAMPLES].tolist():
                share = float((lean[inside] <= lean[place]).mean())
                rows.append(evidence.suspect(int(places[place]), share, f"least like train, of {split}"))
    if not parts:
        return None
    return Finding.of(
        "split_shift",
        0.2 + 1.5 * (worst - _AREA),
        rows,
        f"The given splits are not alike: {'; '.join(parts)}.",
        "Numbers of that split tell of other pictures than those learned from: draw the splits anew, or train on both.",
    )


def _looks(evidence: Evidence) -> list[tuple[str, Floats, Ints]]:
    """Return (what it is, features float64 [m, D], the rows they are of)."""
    m = evidence.measures
    log = [np.log1p(m[name].astype(np.float64)) for name in ("sharpness", "contrast", "saturation", "file_bytes")]
    sizes = np.log(np.maximum(evidence.sizes.astype(np.float64), 1))
    quality = m["jpeg_quality"].astype(np.float64) / 100
    bright = logit_level(m["brightness"].astype(np.float64))
    facts = np.column_stack([*log, bright, m["entropy"].astype(np.float64), sizes, quality, evidence.grey])
    looks = [("size, light or sharpness", np.asarray(facts), np.arange(len(evidence)))]
    if len(evidence.embedded):
        looks.insert(0, ("what is seen", evidence.embeddings.astype(np.float64), evidence.embedded))
    return looks


def shift_between(evidence: Evidence, split: Split, features: Floats, have: Ints) -> tuple[float, float, Ints, Floats]:
    """Return the area under the curve of `split` against train, its z score, the rows looked at, and how each leans.

    Class by class the mean is taken off, so that other shares of the classes are no shift; a picture's versions stay in
    one fold, and whatever is in both splits is left out.
    """
    nothing = 0.5, 0.0, np.zeros(0, dtype=np.int64), np.zeros(0)
    later, train = (evidence.in_split(name)[have] for name in (split, "train"))
    near = evidence.near[have]
    apart = ~np.isin(near, near[later]) | ~np.isin(near, near[train])
    usable = np.flatnonzero((later | train) & apart)
    usable = usable[:: max(1, -(-len(usable) // _MOST))]
    y = later[usable]
    if min(y.sum(), (~y).sum()) < _FEWEST:
        return nothing
    rows = have[usable]
    X = features[usable]
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-6)
    targets = evidence.targets[rows]
    kept = np.zeros(len(rows), dtype=bool)
    for k in np.unique(targets):
        mine = targets == k
        if min((mine & y).sum(), (mine & ~y).sum()) >= 2:
            X[mine] -= (X[mine & y].mean(axis=0) + X[mine & ~y].mean(axis=0)) / 2
            kept |= mine
    rows, X, y = rows[kept], X[kept], y[kept]
    if min(y.sum(), (~y).sum()) < _FEWEST:
        return nothing
    lean = np.zeros(len(rows))
    folds = spread_folds(y.astype(np.int64), np.unique(evidence.groups[rows], return_inverse=True)[1], _FOLDS)
    for fold in range(_FOLDS):
        held = folds == fold
        one, other = X[~held & y], X[~held & ~y]
        if not held.any() or min(len(one), len(other)) < 2:
            continue
        spread = (np.cov(one.T) + np.cov(other.T)) / 2
        weight = np.linalg.solve(
            spread + _RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread)), one.mean(0) - other.mean(0)
        )
        lean[held] = (X[held] - (one.mean(0) + other.mean(0)) / 2) @ weight
    n, m = int(y.sum()), int((~y).sum())
    area = area_under_curve(lean[y], lean[~y])
    z = (area - 0.5) / np.sqrt((n + m + 1) / (12.0 * n * m))
    return area, float(z), rows, lean
