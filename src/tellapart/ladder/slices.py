"""The pictures of a split in parts: by what the scan measured of them, by where they lie, by columns of their table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from tellapart.data.manifest import Row
from tellapart.data.table_columns import numbers_of
from tellapart.judge import Slices, compare_slices

__all__ = ["sliced"]


def sliced(rows: Sequence[Row], columns: Sequence[str], measures: NDArray[np.void], right: NDArray[np.bool_]) -> Slices:
    """Compare the parts of a set of pictures with the rest: `rows`, their `measures` [n], which are `right` bool [n].

    `columns` name the rows' columns. One picture of each group is looked at, since those of a group are right or wrong
    together.
    """
    _, first = np.unique([row.group for row in rows], return_index=True)
    rows, measures, right = [rows[place] for place in first.tolist()], measures[first], right[first]
    sides = np.sort(np.array([(row.width, row.height) for row in rows], dtype=np.float64).reshape(-1, 2), axis=1)
    numbers = {
        "shorter side in pixels": sides[:, 0],
        "longer over shorter side": sides[:, 1] / np.maximum(sides[:, 0], 1.0),
        "brightness, 0 to 255": measures["brightness"].astype(np.float64),
        "sharpness": measures["sharpness"].astype(np.float64),
    }
    names: dict[str, Sequence[str]] = {"folder": [PurePosixPath(row.path).parent.as_posix() for row in rows]}
    for place, column in enumerate(columns):
        what = f"{column} (column)" if column in (*numbers, *names) else column
        values = [row.columns[place] for row in rows]
        counted = numbers_of(values)
        if counted is None:
            names[what] = values
        else:
            numbers[what] = counted
    return compare_slices(right, numbers, names)
