"""Facts beside what the picture shows that alone tell the class: a network would learn them instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tellapart.data.audit.evidence import Evidence, Floats, Ints
from tellapart.data.audit.finding import Finding
from tellapart.data.audit.robust import balanced_accuracy, spread_folds

__all__ = ["Told", "shortcut", "told_by_facts"]

_FOLDS = 5
_SHUFFLES = 199
_FAR_ABOVE = 0.5  # of the way from chance to always right
# Share of a class found, less the share of others taken for it: by what a file says, by what its pixels show.
_ONE_CLASS, _ONE_CLASS_SEEN = 0.8, 0.9
_SEEN = ("border colour", "background")
_FEWEST = 40
_FEWEST_OF_CLASS = 10
_MOST = 20_000
_BINS = 12
_EXAMPLES = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
    """How well one fact tells the class: out-of-fold classes `said` int64 [m], and how often chance did as well."""

    name: str
    said: Ints
    accuracy: float
    chance: float
    p_value: float
    classes: tuple[int, ...]


def shortcut(evidence: Evidence) -> Finding | None:
    """Return the facts that tell the class far above chance, out of fold, and pictures that they place rightly.

    The model is a table: the class seen most, each class counting equally, among training pictures with nearly the same
    fact. Its balanced accuracy is held against that on shuffled labels (permutation test, 199 times).
    """
    looked = np.arange(0, len(evidence), max(1, -(-len(evidence) // _MOST)))
    if len(looked) < _FEWEST or evidence.num_classes < 2:
        return None
    targets = evidence.targets[looked]
    found = [told for told in told_by_facts(evidence, looked) if _far(told, evidence.num_classes) or told.classes]
    if not found:
        return None
    worst: dict[int, tuple[float, str]] = {}
    parts = []
    for told in sorted(found, key=lambda told: -told.accuracy):
        right = (told.said == targets) & evidence.open[looked]
        if told.classes:
            right &= np.isin(targets, told.classes)
        examples = [np.flatnonzero(right & (targets == k))[:_EXAMPLES] for k in np.unique(targets[right])]
        for place in np.concatenate(examples)[: 2 * _EXAMPLES].tolist() if examples else []:
            worst.setdefault(int(looked[place]), (told.accuracy, f"its {told.name} alone tells the class"))
        of = ""
        if told.classes and not _far(told, evidence.num_classes):
            of = f" for {', '.join(evidence.classes[k] for k in told.classes[:4])}"
        parts.append(f"{told.name}{of} ({told.accuracy:.0%} balanced, chance {told.chance:.0%}, p {told.p_value:.3f})")
    lift = max(max((told.accuracy - told.chance) / (1 - told.chance), 0.5) for told in found)
    return Finding.of(
        "shortcut",
        0.2 + 0.7 * lift,
        [evidence.suspect(row, score, why) for row, (score, why) in worst.items()],
        f"Without a look at what is shown, of {len(looked):,} pictures the class is told by: {'; '.join(parts)}.",
        "Collect the classes in the same way (camera, size, background, software), or what is learned will be this.",
    )


def told_by_facts(evidence: Evidence, looked: Ints) -> Iterator[Told]:
    """Yield how well each fact alone tells the class of the pictures in the rows `looked`."""
    targets = evidence.targets[looked]
    folds = spread_folds(targets, evidence.groups[looked], _FOLDS)
    shuffles = _shuffled(targets, evidence.groups[looked])
    for name, cells in _facts(evidence, looked):
        if cells.max() == 0:
            continue
        said = _by_table(cells, targets, folds, evidence.num_classes)
        accuracy = balanced_accuracy(targets, said)
        chance = 1.0 / len(np.unique(targets))
        least = _ONE_CLASS_SEEN if name in _SEEN else _ONE_CLASS
        classes = tuple(k for k in range(evidence.num_classes) if _gives_away(targets, said, k, least))
        p_value = 1.0
        if classes or accuracy - chance >= _FAR_ABOVE * (1 - chance):
            others = [
                balanced_accuracy(other, _by_table(cells, other, folds, evidence.num_classes)) for other in shuffles
            ]
            p_value = (1 + sum(value >= accuracy for value in others)) / (1 + len(others))
        if p_value <= 0.01:
            yield Told(name, said, accuracy, chance, p_value, classes)


def _far(told: Told, _: int) -> bool:
    return told.accuracy - told.chance >= _FAR_ABOVE * (1 - told.chance)


def _gives_away(targets: Ints, said: Ints, k: int, least: float) -> bool:
    mine = targets == k
    if mine.sum() < _FEWEST_OF_CLASS or mine.all():
        return False
    return bool((said[mine] == k).mean() - (said[~mine] == k).mean() >= least)


def _facts(evidence: Evidence, looked: Ints) -> Iterator[tuple[str, Ints]]:
    """Yield each fact by name, as the number of a cell for each picture: pictures in one cell have it nearly equal."""
    m = evidence.measures[looked]
    sizes = evidence.sizes[looked].astype(np.float64)
    pixels = np.maximum(sizes.prod(axis=1), 1)
    yield "file size", _binned(m["file_bytes"].astype(np.float64))
    yield "dimensions", _crossed(_binned(sizes[:, 0]), _binned(sizes[:, 1]))
    yield "camera", np.unique(m["camera"], return_inverse=True)[1].astype(np.int64)
    bits = m["file_bytes"].astype(np.float64) / pixels
    made = _crossed(m["format"].astype(np.int64), m["jpeg_quality"].astype(np.int64), m["mode"].astype(np.int64))
    yield "compression", made
    yield "bytes per pixel", _binned(bits)
    border = [_binned(m["border"][:, channel].astype(np.float64), 5) for channel in range(3)]
    yield "border colour", _crossed(*border)
    corners = evidence.thumbnails[looked][:, [0, 0, -1, -1], [0, -1, 0, -1]].astype(np.float64).mean(axis=2)
    yield "background", _crossed(*(_binned(corners[:, place], 3) for place in range(4)))


def _binned(values: Floats, bins: int = _BINS) -> Ints:
    """Return the bin of each value: one for each value where they are few, else of about equal numbers of pictures."""
    different = np.unique(values)
    if len(different) <= 2 * bins:
        return np.searchsorted(different, values).astype(np.int64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _crossed(*parts: Ints) -> Ints:
    whole = np.zeros(len(parts[0]), dtype=np.int64)
    for part in parts:
        whole = whole * (int(part.max()) + 1) + part
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def _by_table(cells: Ints, targets: Ints, folds: Ints, num_classes: int) -> Ints:
    """Return for each picture the class that its cell has most of in the other folds, each class counting equally."""
    num_cells = int(cells.max()) + 1
    each = np.zeros((_FOLDS, num_cells * num_classes))
    for fold in range(_FOLDS):
        inside = folds == fold
        each[fold] = np.bincount(cells[inside] * num_classes + targets[inside], minlength=num_cells * num_classes)
    others = (each.sum(axis=0) - each).reshape(_FOLDS, num_cells, num_classes)
    totals = np.maximum(others.sum(axis=1, keepdims=True), 1.0)
    share = (others + 0.1 / num_cells) / totals
    return np.asarray(share.argmax(axis=2)[folds, cells], dtype=np.int64)


def _shuffled(targets: Ints, groups: Ints) -> list[NDArray[np.int64]]:
    """Return labels shuffled between pictures, always in the same way."""
    random = np.random.Generator(np.random.Philox(key=len(groups)))
    return [targets[random.permutation(len(targets))] for _ in range(_SHUFFLES)]
