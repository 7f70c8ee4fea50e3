"""Pictures for these tests: made here, or taken from the shared archives where those are at hand."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """Give uint8 [375, 501, 3] that looks like a photo to a codec: smooth shapes, edges, and some fine grain."""
    y, x = np.mgrid[0:375, 0:501]
    waves = np.stack([np.sin(x / 31 + k) + np.cos(y / 23 - k) + np.sin((x + y) / 11) / 3 for k in range(3)], axis=-1)
    disc = ((x - 200) ** 2 + (y - 150) ** 2 < 90**2)[..., None] * np.array([70.0, -50.0, 20.0])
    grain = np.random.default_rng(0).normal(0, 4, (375, 501, 1))
    return np.asarray(np.clip(128 + 40 * waves + disc + grain, 0, 255), dtype=np.uint8)


@pytest.fixture(scope="session")
def hymenoptera() -> list[bytes]:
    """Give the files of 398 photos of ants and bees."""
    return _members("hymenoptera.tar", every=1)


@pytest.fixture(scope="session")
def clothing() -> list[bytes]:
    """Give the files of every twentieth of 3,781 photos of clothes."""
    return _members("clothing_small_320.tar", every=20)


def _members(archive: str, every: int) -> list[bytes]:
    path = SHARED / "data" / archive
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    with tarfile.open(path) as tar:
        files = sorted((member for member in tar if member.isfile()), key=lambda member: member.name)[::every]
        return [opened.read() for member in files if (opened := tar.extractfile(member)) is not None]
