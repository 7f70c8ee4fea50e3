"""Where a model looks, as a report shows it."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.judge.borders import Borders
from tellapart.judge.sanity import Sanity

__all__ = ["Attention"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """Whether maps may be shown (`sanity`), whether answers hang on borders, and `shown` mistakes with a map.

    `method` is how maps are made. `differences` float64 [h, w] adds up to 1: where pictures of one answer differ from
    those of others; None where maps are not shown.
    """

    method: str
    sanity: Sanity
    borders: Borders | None = None
    differences: NDArray[np.float64] | None = None
    shown: int = 0
