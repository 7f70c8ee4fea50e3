"""Small pictures, and the short way to a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tellapart.data import Manifest
from tellapart.recipe import Recipe

Pixels = NDArray[np.uint8]


def noise(seed: int, width: int = 16, height: int = 12) -> Pixels:
    """Return a picture that no other seed gives, uint8 [height, width, 3]."""
    return np.random.default_rng([seed, width, height]).integers(0, 256, (height, width, 3)).astype(np.uint8)


def write_picture(path: Path, seed: int, width: int = 16, height: int = 12) -> Path:
    """Write the picture of a seed; the format is that of the name, PNG where it says none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    format = {".jpg": "JPEG", ".bmp": "BMP", ".gif": "GIF"}.get(path.suffix, "PNG")
    Image.fromarray(noise(seed, width, height)).save(path, format=format)
    return path


def write_classes(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    """Write folders with pictures that are all different."""
    seed = first
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            write_picture(root / name / f"{number:03d}.png", seed)
            seed += 1
    return root


Scan = Callable[..., Manifest]


@pytest.fixture
def scan_of(tmp_path: Path) -> Scan:
    """`scan_of(data, **options)` scans with a cache of this test's own."""

    def scanned(data: Path, **options: Any) -> Manifest:
        return Manifest.scan(data, Recipe.of(**options), cache=tmp_path / ".cache-of-test")

    return scanned


def labels(manifest: Manifest) -> dict[str, str]:
    """Return the label of each path."""
    return {row.path: row.label for row in manifest.rows}


def codes(manifest: Manifest) -> dict[str, str]:
    """Return the code of each path that was left out."""
    return {item.path: item.code for item in manifest.excluded}
