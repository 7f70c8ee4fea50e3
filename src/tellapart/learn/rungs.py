"""What every rung of the ladder gives, whatever made it: a trunk, a linear head, and honest predictions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Epoch
from tellapart.images.preprocess import Preprocess

__all__ = ["Fitted", "FloatArray", "Head", "IntArray", "OutOfFold", "Pictures"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Labelled pictures of one split, in the manifest's order: `digests` are the sha256 of the bytes (64 hex digits).

    `groups` are equal for pictures that must not be torn apart by folds; `targets` int64 [N] are class indices.
    """

    files: tuple[Path, ...]
    digests: tuple[str, ...]
    groups: tuple[str, ...]
    targets: IntArray

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: IntArray) -> Pictures:
        """Return the pictures at `rows` (int64 [n]), in that order."""
        index = rows.tolist()
        return Pictures(
            tuple(self.files[i] for i in index),
            tuple(self.digests[i] for i in index),
            tuple(self.groups[i] for i in index),
            self.targets[rows],
        )


@dataclasses.dataclass(frozen=True)
class Head:
    """A linear head: `weight` float32 [D, K], `bias` float32 [K]."""

    weight: FloatArray
    bias: FloatArray

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """Return float32 [N, K] from embeddings float32 [N, D]."""
        return np.asarray(embeddings @ self.weight + self.bias, dtype=np.float32)

    def tempered(self, temperature: float) -> Head:
        """Return the head whose logits are divided by `temperature` (> 0)."""
        scale = np.float32(1.0 / temperature)
        return Head(self.weight * scale, self.bias * scale)


@dataclasses.dataclass(frozen=True)
class OutOfFold:
    """Predictions for training pictures by models that did not see them (nor pictures of their group).

    `rows` int64 [n] indexes the training rows in the manifest's order; `logits` float32 [n, K], before calibration.
    """

    rows: IntArray
    logits: FloatArray


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained rung, before it ships.

    `trunk` is an ONNX graph (bytes): input `image` uint8 [N, S, S, 3], outputs `embedding` float32 [N, D] and, where
    there is one, `feature_map` float32 [N, C, h, w]; normalisation inside. Logits are the head on the embedding.
    `embeddings` holds float32 [n, D] for `train` and `val`, from the runtime that ships, in the manifest's order.
    `held_out` int64 indexes the training rows that the trunk never learned from (all of them for a frozen trunk).
    """

    method: str
    trunk: bytes
    head: Head
    preprocess: Preprocess
    out_of_fold: OutOfFold
    embeddings: Mapping[str, FloatArray]
    held_out: IntArray
    backbone: str | None = None
    licence: str | None = None
    epochs: tuple[Epoch, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = dataclasses.field(default_factory=dict)
