"""What several tests of the ladder share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tellapart.data.scan import scan
from tellapart.driving import finish
from tellapart.images import prepare
from tellapart.recipe import Recipe
from tests.ship.conv import fitted

CLASSES = ("ants", "bees")


@pytest.fixture(scope="session")
def conv_run(photos: Path, write_tiny_bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a bundle that can be quantized, and the manifest of its pictures. Not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    manifest = finish(scan(photos, Recipe(), tmp_path_factory.mktemp("cache")))
    manifest.write(folder / "manifest.jsonl")
    rows = manifest.where(split="train")
    preprocess = fitted(np.zeros((4, 16, 16, 3), np.uint8), np.array([0, 1, 0, 1])).preprocess
    pictures = np.stack([prepare(manifest.file(row), preprocess) for row in rows])
    targets = np.array([CLASSES.index(row.label) for row in rows])
    made = fitted(pictures, targets)
    embeddings = made.embeddings["train"]
    directions = embeddings - embeddings.mean(axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    write_tiny_bundle(
        folder / "bundle",
        fitted=made,
        temperature=1.0,
        targets=targets,
        reference_labels=targets,
        selftest=pictures[:8],
        thumbnails=[b"picture"] * len(rows),
        fingerprint=manifest.fingerprint,
        novelty={
            "reference": directions.astype(np.float16),
            "mean": embeddings.mean(axis=0),
            "quantiles": np.linspace(0.0, 0.5, 101, dtype=np.float32),
        },
    )
    return folder
