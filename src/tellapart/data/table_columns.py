"""Columns of a table that say more of the pictures: which are kept, and what they are when pictures are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_COLUMNS", "numbers_of", "told_apart"]

MOST_COLUMNS = 20
_MOST_VALUES = 100  # of a column that is not of numbers: with more it names pictures rather than kinds of them
_FEW_NUMBERS = 20  # different ones: so many are names, such as years or grades
_LONGEST = 200


def told_apart(columns: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return which columns are kept: those of two values or more, short ones, of numbers or of few different words."""
    kept = []
    for name, values in columns.items():
        different = {value.strip() for value in values} - {""}
        short = max(map(len, (name, *different))) <= _LONGEST
        if len(different) >= 2 and short and (len(different) <= _MOST_VALUES or numbers_of(values) is not None):
            kept.append(name)
    return tuple(kept)


def numbers_of(values: Sequence[str]) -> NDArray[np.float64] | None:
    """Return a column as numbers, float64 [n], NaN where it is blank; None where it is of words or of few numbers."""
    if len(set(values)) <= _FEW_NUMBERS:
        return None
    try:
        found = np.array([float(value) if value.strip() else math.nan for value in values])
    except ValueError:
        return None
    return None if np.isinf(found).any() else found
