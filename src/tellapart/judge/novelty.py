"""How unlike the training pictures a picture is, as a percentile: nearest neighbours, or a blend of scores."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.arrays import Floats, Ints
from tellapart.runtime.novelty import NEIGHBOURS, Blend, NoveltyScorer, blend_arrays

__all__ = ["Novelty", "pick_reference", "spaced"]

MOST_REFERENCES = 2000
MOST_HELD_OUT = 2000
MOST_QUANTILES = 1001
# A picture is more novel than another when it exceeds it by more than this: rounding of a float32 product stays below.
TOLERANCE = np.float32(2e-6)
SIMILARITIES_AT_ONCE = 1_000_000
ROWS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True, eq=False)
class Novelty:
    """A picture's distance to the training pictures, on the scale of what held-out training pictures show.

    `reference` float16 [M, D] (M <= 2,000) are embeddings with `mean` float32 [D] taken off, scaled to length 1 (0 for
    an embedding that is the mean); `quantiles` float32 [Q] (Q <= 1,001) are the sorted raw scores of held-out
    pictures. The raw score is the mean cosine distance to the 3 nearest references, in [0, 2], or that of `blend`;
    it and its place among the quantiles come from `runtime.novelty.NoveltyScorer`, the code that a bundle runs.
    """

    reference: NDArray[np.float16]
    mean: NDArray[np.float32]
    quantiles: NDArray[np.float32]
    blend: Blend | None = None

    @classmethod
    def fit(
        cls,
        reference: Floats,
        held_out: Floats,
        reference_groups: Ints | None = None,
        held_out_groups: Ints | None = None,
    ) -> Novelty:
        """Fit from reference embeddings [M, D], M in 1..2,000, and held-out ones [H, D], H >= 1.

        A held-out picture never meets the references of its own group (int [M] and int [H], given both or not at all);
        without groups, it does not meet references with the very same embedding, so that training pictures may be
        given as both. Of more than 2,000 held-out pictures, 2,000 evenly spaced ones are used. A single reference, or
        references that are all alike, tell nothing apart: then nothing scores as novel. Raises ValueError for shapes
        that disagree, no rows, and values that are not finite.
        """
        reference, held_out = _embeddings(reference, "reference"), _embeddings(held_out, "held_out")
        if not 1 <= len(reference) <= MOST_REFERENCES or not len(held_out) or reference.shape[1] != held_out.shape[1]:
            raise ValueError(
                f"reference must be [1 to {MOST_REFERENCES}, D] and held_out [1 or more, D], "
                f"got {reference.shape} and {held_out.shape}"
            )
        if reference_groups is None and held_out_groups is None:
            reference_groups, held_out_groups = _groups_by_content(reference, held_out)
        if reference_groups is None or held_out_groups is None:
            raise ValueError("reference_groups and held_out_groups belong together: give both or none")
        reference_groups, held_out_groups = np.asarray(reference_groups), np.asarray(held_out_groups)
        if reference_groups.shape != reference.shape[:1] or held_out_groups.shape != held_out.shape[:1]:
            raise ValueError("groups must have one number for each embedding")
        if len(held_out) > MOST_HELD_OUT:
            kept = spaced(np.arange(len(held_out)))
            held_out, held_out_groups = held_out[kept], held_out_groups[kept]

        mean = reference.mean(axis=0, dtype=np.float64).astype(np.float32)
        # Scores are computed from the half-precision values, so that they are the same after a round trip.
        halves = _directions(reference, mean).astype(np.float16)
        queries = _directions(held_out, mean)
        raw = _distances(queries, halves, held_out_groups, reference_groups)
        if np.isnan(raw).all():
            raw = _distances(queries, halves, np.zeros(len(queries), np.int64), np.ones(len(halves), np.int64))
        return cls(halves, mean, _quantiles(raw[~np.isnan(raw)], TOLERANCE))

    def blended(self, blend: Blend, held_out: NDArray[np.float64]) -> Novelty:
        """Return what scores by `blend`, whose raw scores of held-out pictures are float64 [H], H >= 1."""
        slack = np.float32(10 * TOLERANCE * max(1.0, float(np.abs(held_out).max())))
        return dataclasses.replace(self, quantiles=_quantiles(held_out, slack), blend=blend)

    def distances(
        self, embeddings: Floats, groups: Ints | None = None, reference_groups: Ints | None = None
    ) -> NDArray[np.float32]:
        """Return the mean distance float32 [N] of embeddings [N, D] to their 3 nearest references.

        With groups, int [N] and int [M], those of a picture's own group do not count; NaN where none is left.
        """
        queries = _directions(_embeddings(embeddings, "embeddings"), self.mean)
        if groups is None or reference_groups is None:
            groups, reference_groups = np.zeros(len(queries), np.int64), np.ones(len(self.reference), np.int64)
        return _distances(queries, self.reference, groups, reference_groups)

    def score(self, embeddings: Floats, logits: Floats | None = None) -> NDArray[np.float64]:
        """Return novelty float64 [N] in [0, 1] of embeddings [N, D], for a blend with their logits [N, K].

        It is the share of held-out training pictures less novel than this one, interpolated between them; 1 beyond
        the most novel of them. Raises ValueError for another D and for values that are not finite.
        """
        embeddings = _embeddings(embeddings, "embeddings")
        if embeddings.shape[1] != len(self.mean):
            raise ValueError(f"embeddings must be [N, {len(self.mean)}], got {embeddings.shape}")
        scorer = NoveltyScorer(self.reference, self.mean, self.quantiles, self.blend)
        beside = [None] * len(embeddings) if logits is None else np.asarray(logits, dtype=np.float32)
        return np.array([scorer.score(*pair) for pair in zip(embeddings, beside, strict=True)], dtype=np.float64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what has to be stored: `reference`, `mean`, `quantiles`, and those of a blend (`blend_arrays`)."""
        own: dict[str, NDArray[Any]] = {"reference": self.reference, "mean": self.mean, "quantiles": self.quantiles}
        return own if self.blend is None else {**own, **blend_arrays(self.blend)}


def pick_reference(labels: Ints, keys: Sequence[str], most: int = MOST_REFERENCES) -> NDArray[np.int64]:
    """Return at most `most` sorted row numbers that stand for all rows, int64.

    Each class of `labels` int [N] has its share, and at least one row where there are no more classes than `most`.
    Within a class the order is that of a hash of `keys` (one for each row, such as its sha256), so the choice does not
    depend on the order of rows.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if labels.shape != (len(keys),):
        raise ValueError(f"labels and keys must have one value for each row, got {labels.shape} and {len(keys)}")
    if len(keys) <= most:
        return np.arange(len(keys), dtype=np.int64)
    hashes = [hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).digest() for key in keys]
    counts = np.bincount(labels)
    seen = np.zeros(len(counts), dtype=np.int64)
    places: list[tuple[bool, float, bytes, int]] = []
    for row in sorted(range(len(keys)), key=lambda row: hashes[row]):
        label = labels[row]
        # Evenly spaced places within each class, merged and cut, leave each class its share of what is kept.
        places.append((bool(seen[label]), (seen[label] + 0.5) / counts[label], hashes[row], row))
        seen[label] += 1
    return np.array(sorted(row for *_, row in sorted(places)[:most]), dtype=np.int64)


def spaced(rows: NDArray[np.int64], most: int = MOST_HELD_OUT) -> NDArray[np.int64]:
    """Return at most `most` of `rows`, evenly spaced: 2,000 held-out pictures are what a `Novelty` is fitted on."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.int64)]


def _quantiles(raw: NDArray[np.floating], slack: np.float32) -> NDArray[np.float32]:
    """Return at most 1,001 sorted scores that stand for all, each a little higher, so that rounding is not novel."""
    raw = np.sort(raw)
    if len(raw) > MOST_QUANTILES:
        raw = np.quantile(raw, np.linspace(0.0, 1.0, MOST_QUANTILES))
    return np.asarray(raw + slack, dtype=np.float32)


def _embeddings(values: Floats, name: str) -> NDArray[np.float32]:
    """Return `values` as float32 [N, D]."""
    array = np.asarray(values, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must be [N, D] with D >= 1, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array


def _directions(embeddings: NDArray[np.float32], mean: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings less the mean, with length 1; 0 where only rounding is left of the difference."""
    directions = np.empty(embeddings.shape, dtype=np.float32)
    smallest = 1e-6 * np.linalg.norm(mean.astype(np.float64)) + 1e-30
    for start in range(0, len(embeddings), ROWS_AT_ONCE):
        wide = embeddings[start : start + ROWS_AT_ONCE].astype(np.float64) - mean
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        real = lengths > smallest
        directions[start : start + ROWS_AT_ONCE] = np.where(real, wide / np.where(real, lengths, 1.0), 0.0)
    return directions


def _distances(
    queries: NDArray[np.float32], reference: NDArray[np.float16], query_groups: Ints, reference_groups: Ints
) -> NDArray[np.float32]:
    """Return `NoveltyScorer.raw` where each query meets the references of other groups only; NaN where none is left.

    It multiplies many queries at once, which is several times faster and differs from the scorer by rounding alone.
    """
    columns = reference.astype(np.float32).T
    chunk = max(1, SIMILARITIES_AT_ONCE // len(reference))
    neighbours = min(NEIGHBOURS, len(reference))
    results = []
    for start in range(0, len(queries), chunk):
        rows = slice(start, start + chunk)
        similarities = queries[rows] @ columns
        similarities[query_groups[rows, None] == reference_groups[None, :]] = -np.inf
        nearest = np.partition(similarities, len(reference) - neighbours, axis=1)[:, -neighbours:]
        met = nearest > -np.inf
        total, count = np.where(met, 1.0 - nearest, 0.0).sum(axis=1), met.sum(axis=1)
        results.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.concatenate(results).astype(np.float32)


def _groups_by_content(
    reference: NDArray[np.float32], held_out: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return group numbers that are equal for embeddings that are equal, int64 [M] and [H]."""
    numbers: dict[bytes, int] = {}
    groups = [
        np.array([numbers.setdefault(hashlib.blake2b(row.tobytes()).digest(), len(numbers)) for row in rows], np.int64)
        for rows in (reference, held_out)
    ]
    return groups[0], groups[1]
