"""A bundle beside another one: which of the two names more of the same pictures right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.data.manifest import Manifest, Row
from tellapart.errors import DataError, did_you_mean
from tellapart.events import Progress, Steps
from tellapart.judge import Paired, paired_accuracy
from tellapart.learn.rungs import FloatArray
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.predictor import Failure, Predictor

__all__ = ["against", "refuse_unknown", "seen"]


def against(
    other: Bundle, manifest: Manifest, rows: Sequence[Row], right: NDArray[np.bool_], threads: int
) -> Steps[Paired]:
    """Return how the bundle that was `right`, bool [n], about the pictures of `rows` compares with `other` on them.

    Each reads the files by its own rules. A picture that the other one cannot read counts as one it did not name.
    """
    kept, embeddings = yield from seen(Predictor(other, threads), manifest, rows)
    named = dict.fromkeys((row.path for row in rows), "")
    if kept:
        best = other.logits_from(embeddings).argmax(axis=1).tolist()
        named |= {row.path: other.classes[place] for row, place in zip(kept, best, strict=True)}
    theirs = np.array([named[row.path] == row.label for row in rows], dtype=bool)
    return paired_accuracy(right, theirs, [row.group for row in rows], ("this model", "the other"))


def refuse_unknown(bundle: Bundle, rows: Sequence[Row], data: str, name: str) -> None:
    """Raise DataError (`unknown_class`) where pictures have a class that the bundle, called `name`, does not know."""
    unknown = sorted({row.label for row in rows} - set(bundle.classes))
    if unknown:
        raise DataError(
            "unknown_class",
            f"{data} has the class {unknown[0]!r}, which {name} does not know."
            f"{did_you_mean(unknown[0], bundle.classes)}",
            f"Its classes are {', '.join(bundle.classes[:20])}.",
        )


def seen(predictor: Predictor, manifest: Manifest, rows: Sequence[Row]) -> Steps[tuple[list[Row], FloatArray]]:
    """Return the rows that could be read, with their embeddings float32 [n, D]."""
    kept, embeddings = [], []
    for done, (row, outputs) in enumerate(zip(rows, predictor.outputs(map(manifest.file, rows)), strict=True), 1):
        if not isinstance(outputs, Failure):
            kept.append(row)
            embeddings.append(outputs[1])
        if done % 20 == 0 or done == len(rows):
            yield Progress("evaluate", done, len(rows))
    return kept, np.stack(embeddings) if embeddings else np.zeros((0, 1), dtype=np.float32)
