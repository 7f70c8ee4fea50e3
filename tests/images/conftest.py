"""Pictures for these tests."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """Give uint8 [375, 501, 3] that looks like a photo to a codec: smooth shapes, edges, and some fine grain."""
    y, x = np.mgrid[0:375, 0:501]
    waves = np.stack([np.sin(x / 31 + k) + np.cos(y / 23 - k) + np.sin((x + y) / 11) / 3 for k in range(3)], axis=-1)
    disc = ((x - 200) ** 2 + (y - 150) ** 2 < 90**2)[..., None] * np.array([70.0, -50.0, 20.0])
    grain = np.random.default_rng(0).normal(0, 4, (375, 501, 1))
    return np.asarray(np.clip(128 + 40 * waves + disc + grain, 0, 255), dtype=np.uint8)
