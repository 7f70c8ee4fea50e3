"""Which pictures to label first: the most typical of every group, or with a model those it is least sure of.

All of it is a function of the set of embeddings and a seed: rows are looked at in an order of their own.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import MissingExtraError
from tellapart.events import Progress, Steps
from tellapart.learn.rungs import FloatArray, IntArray

__all__ = ["Groups", "find_groups", "margins", "most_typical", "teach_most", "unit"]

_FEWEST, _MOST_GROUPS = 2, 40
_TOGETHER = 500  # groups that representatives are taken from at a time; more come from these in turn
_NEIGHBOURS = 20
_CANDIDATES = 10  # times as many as are wanted: the least sure ones, among which what is unlike is chosen
_SILHOUETTE_ROWS = 1_500
_MANY = 20_000  # rows: beyond, groups are found on parts of them at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """`labels` int64 [n] in [0, number), the largest group first; `silhouette` in [-1, 1], None where it was not asked.

    `words` say how their number was found.
    """

    labels: IntArray
    number: int
    silhouette: float | None
    words: str


def unit(embeddings: FloatArray) -> FloatArray:
    """Return embeddings float32 [n, D] less their mean, with length 1 (0 for what is the mean)."""
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(lengths, 1e-12), dtype=np.float32)


def find_groups(X: FloatArray, number: int | None, seed: int) -> Steps[Groups]:
    """Return groups of unit vectors float32 [n, D] by k-means: `number` of them, or as many as are told apart best.

    Told apart best: the highest mean silhouette over at most 1,500 rows, among 2 to 40 groups. Source: Rousseeuw,
    "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis" (1987).
    """
    order = _order(X)
    rows = X[order]
    score: float | None = None
    if number is None:
        tried = [k for k in (*range(_FEWEST, 11), 12, 15, 20, 25, 30, _MOST_GROUPS) if k < len(X)]
        best, labels, words = -2.0, np.zeros(len(X), dtype=np.int64), "there are too few pictures to be in groups"
        few = np.linspace(0, len(X) - 1, min(len(X), _SILHOUETTE_ROWS)).astype(np.int64)
        for done, k in enumerate(tried, start=1):
            found = _k_means(rows, k, seed)
            told = _silhouette(rows[few], found[few])
            if told > best:
                best, labels = told, found
            yield Progress("group", done, len(tried), "numbers of groups")
        if tried:
            score, words = best, f"of {tried[0]} to {tried[-1]} groups these are told apart best: silhouette {best:.2f}"
    else:
        labels, words = _k_means(rows, min(number, len(X)), seed), "as asked for"
    by_row = np.empty(len(X), dtype=np.int64)
    by_row[order] = labels
    _, codes, counts = np.unique(by_row, return_inverse=True, return_counts=True)
    place = np.empty(len(counts), dtype=np.int64)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return Groups(place[codes.reshape(-1)], len(counts), score, words)


def most_typical(X: FloatArray, count: int, seed: int) -> IntArray:
    """Return `count` rows of unit vectors float32 [n, D] that stand for the rest, int64, the most telling first.

    The most typical row of each of `count` groups, those of large groups first: the one with the nearest neighbours in
    its group. Source: Hacohen, Dekel, Weinshall, "Active learning on a budget: opposite strategies suit high and low
    budgets" (2022), TypiClust.
    """
    count = min(count, len(X))
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    order = _order(X)
    rows = X[order]
    labels = _k_means(rows, min(count, _TOGETHER), seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    members.sort(key=lambda own: (-len(own), int(own[0])))
    ranked = [own[np.argsort(-_typicality(rows[own]), kind="stable")] for own in members]
    turns = [own[turn] for turn in range(max(map(len, ranked))) for own in ranked if turn < len(own)]
    return order[np.array(turns[:count], dtype=np.int64)]


def teach_most(X: FloatArray, probs: NDArray[np.float64], count: int, seed: int) -> IntArray:
    """Return `count` rows that a model would learn most from, int64, the least sure first.

    `X` float32 [n, D] are unit vectors, `probs` float64 [n, K] what the model says. Of ten times as many rows, those
    with the smallest margin between the two likeliest classes, k-means weighted by how small it is takes the nearest to
    each of `count` centres. Source: Zhdanov, "Diverse mini-batch active learning" (2019).
    """
    count = min(count, len(X))
    order = _order(X)
    unsure = (1.0 - margins(probs))[order]
    candidates = np.sort(np.argsort(-unsure, kind="stable")[: _CANDIDATES * count])
    rows, weights = X[order][candidates], unsure[candidates] + 1e-9
    chosen: list[int] = []
    if 0 < count < len(candidates):
        labels, centres = _centres(rows, count, seed, weights)
        for label in range(len(centres)):
            own = np.flatnonzero(labels == label)
            if len(own):
                chosen.append(int(own[np.square(rows[own] - centres[label]).sum(axis=1).argmin()]))
    rest = [row for row in np.argsort(-weights, kind="stable").tolist() if row not in set(chosen)]
    chosen = sorted([*chosen, *rest][:count], key=lambda row: -weights[row])
    return order[candidates[np.array(chosen, dtype=np.int64)]]


def margins(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the likeliest class's probability less that of the next, float64 [n]; 1 where there is one class."""
    if probs.shape[1] < 2:
        return np.ones(len(probs))
    top = np.partition(probs, probs.shape[1] - 2, axis=1)[:, -2:]
    return np.asarray(np.abs(top[:, 1] - top[:, 0]), dtype=np.float64)


def _order(X: FloatArray) -> IntArray:
    """Return an order of rows that does not hang on how they came, equal rows aside."""
    direction = np.random.Generator(np.random.Philox(key=1)).standard_normal(X.shape[1])
    return np.argsort(np.einsum("nd,d->n", X, direction), kind="stable").astype(np.int64)


def _typicality(rows: FloatArray) -> NDArray[np.float32]:
    """Return the mean cosine of each row with its 20 nearest ones, float32 [n]."""
    near = min(_NEIGHBOURS, len(rows) - 1)
    if near < 1:
        return np.zeros(len(rows), dtype=np.float32)
    found = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), 1000):
        similar = rows[start : start + 1000] @ rows.T
        similar[np.arange(len(similar)), np.arange(start, start + len(similar))] = -np.inf
        found[start : start + 1000] = np.partition(similar, len(rows) - near, axis=1)[:, -near:].mean(axis=1)
    return found


def _k_means(rows: FloatArray, number: int, seed: int) -> IntArray:
    return _centres(rows, number, seed, None)[0]


def _centres(
    rows: FloatArray, number: int, seed: int, weights: NDArray[np.float64] | None
) -> tuple[IntArray, FloatArray]:
    try:
        from sklearn.cluster import KMeans, MiniBatchKMeans
    except ImportError:
        raise MissingExtraError("train", "Finding groups of pictures") from None
    many = len(rows) > _MANY
    kind: Any = MiniBatchKMeans if many else KMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal rows, and so fewer groups than were asked for
        found = kind(number, n_init=1, random_state=seed, **({"batch_size": 4096} if many else {}))
        found.fit(rows, sample_weight=weights)
    return np.asarray(found.labels_, dtype=np.int64), np.asarray(found.cluster_centers_, dtype=np.float32)


def _silhouette(rows: FloatArray, labels: IntArray) -> float:
    from sklearn.metrics import silhouette_score

    number = len(np.unique(labels))
    return float(silhouette_score(rows, labels)) if 2 <= number < len(rows) else -1.0
