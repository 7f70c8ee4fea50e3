"""The pictures that lie in a folder for those without a label: which of them a model may learn from."""

from __future__ import annotations

import numpy as np

from tellapart.data.manifest import UNLABELLED, Manifest
from tellapart.learn.rungs import Pictures

__all__ = ["unlabelled_pictures"]

_MOST = 10_000  # more would not fit the graph of neighbours into a few seconds


def unlabelled_pictures(manifest: Manifest) -> Pictures | None:
    """Return them, each content once, at most 10,000 by their content; None where there are none.

    A file that is used with a label is not among them, and so no picture of validation or test is. Targets are -1.
    """
    taken = {row.sha256 for row in manifest.rows}
    found = {
        item.sha256: item.path for item in manifest.excluded if item.code == UNLABELLED and item.sha256 not in taken
    }
    digests = sorted(digest for digest in found if digest)[:_MOST]
    if not digests:
        return None
    files = tuple(manifest.root / found[digest] for digest in digests)
    return Pictures(files, tuple(digests), tuple(digests), np.full(len(digests), -1, dtype=np.int64))
