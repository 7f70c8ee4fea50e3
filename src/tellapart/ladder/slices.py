"""The pictures of a split in parts: by what the scan measured of them, and by where they lie."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from tellapart.data.audit import Evidence
from tellapart.data.manifest import Split
from tellapart.judge import Slices, compare_slices
from tellapart.ladder.show import Measured
from tellapart.learn.rungs import IntArray

__all__ = ["sliced"]


def sliced(evidence: Evidence, rows: IntArray, split: Split, found: Measured) -> Slices:
    """Compare the parts of a split, of whose pictures those at `rows` int64 [n] are `found`, with the rest.

    One picture of each group is looked at, since those of a group are right or wrong together.
    """
    of_split = np.array([row for row, own in enumerate(evidence.assigned) if own == split], dtype=np.int64)
    rows = of_split[rows]
    _, first = np.unique(evidence.groups[rows], return_index=True)
    rows, right = rows[first], found.right[first]
    sides = np.sort(evidence.sizes[rows].astype(np.float64), axis=1)
    measures = evidence.measures[rows]
    folders = [PurePosixPath(evidence.paths[row]).parent.as_posix() for row in rows.tolist()]
    return compare_slices(
        right,
        {
            "shorter side in pixels": sides[:, 0],
            "longer over shorter side": sides[:, 1] / np.maximum(sides[:, 0], 1.0),
            "brightness, 0 to 255": measures["brightness"].astype(np.float64),
            "sharpness": measures["sharpness"].astype(np.float64),
        },
        {"folder": folders},
    )
