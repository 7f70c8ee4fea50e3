"""Made-up evidence: pictures of random looks, in classes that a network tells apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tellapart.data.audit import Evidence
from tellapart.images.measure import MEASURES

Make = Callable[..., Evidence]


def made(n: int = 200, num_classes: int = 4, seed: int = 0, **changes: Any) -> Evidence:
    """Return evidence on `n` ordinary pictures, with `changes`."""
    random = np.random.default_rng(seed)
    targets = np.arange(n) % max(1, num_classes)
    measures = np.zeros(n, dtype=MEASURES)
    measures["file_bytes"] = random.integers(20_000, 60_000, n)
    measures["jpeg_quality"] = 90
    measures["brightness"] = random.normal(120, 15, n)
    measures["contrast"] = random.normal(60, 8, n)
    measures["saturation"] = random.normal(80, 10, n)
    measures["sharpness"] = random.normal(20, 3, n)
    measures["slope"] = measures["sharpness"] * 0.8
    measures["entropy"] = random.normal(7.3, 0.2, n)
    measures["border"] = random.integers(0, 256, (n, 3))
    measures["border_spread"] = random.normal(40, 5, n)
    centres = random.normal(0, 1, (max(1, num_classes), 16)) * 3
    logits = random.normal(0, 1, (n, max(1, num_classes)))
    logits[np.arange(n), targets] += 5
    rows = np.arange(n, dtype=np.int64)
    evidence = Evidence(
        paths=[f"class{target}/{number:04d}.jpg" for number, target in enumerate(targets)],
        digests=[f"{number:064x}" for number in range(n)],
        classes=tuple(f"class{k}" for k in range(num_classes)),
        targets=targets.astype(np.int64),
        splits=["train"] * n,
        identities=rows,
        near=rows,
        series=rows,
        groups=rows,
        sizes=np.tile([320, 240], (n, 1)),
        grey=np.zeros(n, dtype=bool),
        measures=measures,
        thumbnails=random.integers(0, 256, (n, 8, 8, 3)).astype(np.uint8),
        embedded=rows,
        embeddings=(centres[targets] + random.normal(0, 1, (n, 16))).astype(np.float32).reshape(n, 16),
        predicted=rows,
        probs=np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) if num_classes else np.zeros((n, 0)),
    )
    return dataclasses.replace(evidence, **changes)


@pytest.fixture
def make() -> Make:
    """Give what makes evidence."""
    return made
