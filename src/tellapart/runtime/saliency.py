"""Where in a picture the evidence for a class lies: from a bundle's own outputs, without gradients and without torch.

Where the embedding is the mean of the graph's feature map and the head is linear, each cell of that map has a share of
its own in every logit (class activation; Zhou et al., "Learning deep features for discriminative localization", 2016).
Elsewhere cells of the picture are hidden one after the other, and what that takes from a logit is the cell's share
(occlusion; Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2014).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.runtime.bundle import Bundle

__all__ = ["Looked", "Saliency", "SaliencyMethod", "hidden"]

SaliencyMethod = Literal["class_activation", "occlusion"]

_GRID = 7  # cells a side that are hidden in turn: as many as the feature map of a usual network has
_LEAST_CELL_PX = 2
_BATCH = 8
_SAME = 1e-2  # of the largest value of an embedding: numbers of half precision come as near
_VEIL_PX = 4  # what hides a cell: the picture, so small that only its colours are left, and large again


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """One picture seen part by part: `logits` float32 [K], `embedding` float32 [D], `cells` float32 [h, w, D].

    By class activation `cells` are the embeddings of its parts, by occlusion those of the picture without each part.
    `feature_map` float32 [C, h, w] is the graph's, None where it has none.
    """

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    cells: NDArray[np.float32]
    feature_map: NDArray[np.float32] | None


class Saliency:
    """Maps of evidence for a bundle's answers; `method` says how they are made, as found by running it.

    The mean of the feature map counts as the embedding when it is that, up to a positive factor for each picture (as a
    scaling to length 1 leaves it), on the pictures of the self-test; names are not believed.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.method: SaliencyMethod = "class_activation" if _is_pooled(bundle) else "occlusion"

    def look(self, image: NDArray[np.uint8]) -> Looked:
        """Return what maps are made from, for one prepared picture uint8 [S, S, 3]."""
        has_map = "feature_map" in self.bundle.session.outputs
        seen = self.bundle.session.run(image[None])
        logits, embedding = seen["logits"][0], seen["embedding"][0]
        features = seen["feature_map"][0] if has_map and seen["feature_map"].ndim == 4 else None
        if self.method == "class_activation":
            assert features is not None
            cells = np.moveaxis(features, 0, -1) * _factor(features.mean(axis=(1, 2)), embedding)
        else:
            grid = max(2, min(_GRID, len(image) // _LEAST_CELL_PX))
            cells = self.run(image, _windows(grid, len(image)))[1].reshape(grid, grid, -1)
        return Looked(logits, embedding, np.ascontiguousarray(cells, dtype=np.float32), features)

    def run(
        self, image: NDArray[np.uint8], masks: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return logits [V, K] and embeddings [V, D] of one picture with the pixels of each mask [V, S, S] hidden."""
        outputs = [
            self.bundle.session.run(hidden(image, masks[start : start + _BATCH]), ("logits", "embedding"))
            for start in range(0, len(masks), _BATCH)
        ]
        logits, embeddings = (np.concatenate([part[name] for part in outputs]) for name in ("logits", "embedding"))
        return logits, embeddings

    def maps(self, looked: Looked, classes: Sequence[int], shuffled: int | None = None) -> NDArray[np.float32]:
        """Return the evidence of each cell for each of `classes` (indices), float32 [len(classes), h, w], in logits.

        It is counted against the mean of all classes, for what is added to every logit changes no answer. By class
        activation a cell is compared with the average training picture: the cells' mean is how far this picture's logit
        lies above that one's, wherever the head keeps what it takes off. With `shuffled` (a seed) the head gets its
        inputs in a random order, each on the scale of the one whose place it takes: a head of the same kind that knows
        nothing.
        """
        height, width, _ = looked.cells.shape
        reference = self.bundle.reference
        flat = looked.cells.reshape(height * width, -1)
        whole = reference.embedding_mean if self.method == "class_activation" else looked.embedding
        rows = np.concatenate([flat, whole[None]])
        if shuffled is not None:
            order = np.random.default_rng(shuffled).permutation(rows.shape[1])
            mean, spread = reference.embedding_mean, np.maximum(reference.embedding_std, 1e-12)
            rows = ((rows - mean) / spread)[:, order] * spread + mean
        logits = self.bundle.logits_from(np.asarray(rows, dtype=np.float32)).astype(np.float64)
        lead = (logits - logits.mean(axis=1, keepdims=True))[:, list(classes)]
        gained = lead[:-1] - lead[-1] if self.method == "class_activation" else lead[-1] - lead[:-1]
        return np.asarray(gained.T.reshape(len(classes), height, width), dtype=np.float32)


def hidden(image: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return uint8 [V, S, S, 3]: the picture uint8 [S, S, 3] with the pixels of each mask [V, S, S] blurred beyond
    recognition.

    A blur keeps colours and leaves no edge that was not there, as a grey patch would.
    """
    picture = Image.fromarray(image)
    small = picture.resize((_VEIL_PX, _VEIL_PX), Image.Resampling.BOX)
    veil = np.asarray(small.resize(picture.size, Image.Resampling.BILINEAR))
    return np.where(masks[..., None], veil, image)


def _is_pooled(bundle: Bundle) -> bool:
    """Return whether the embedding is the mean of the feature map, and the head linear, so that cells have shares."""
    if bundle.reference.head_weight is None or "feature_map" not in bundle.session.outputs:
        return False
    seen = bundle.session.run(bundle.selftest, ("embedding", "feature_map"))
    features, embeddings = seen["feature_map"], seen["embedding"]
    if features.ndim != 4 or features.shape[1] != embeddings.shape[1]:
        return False
    pooled = features.mean(axis=(2, 3))
    for mean, embedding in zip(pooled, embeddings, strict=True):
        factor = _factor(mean, embedding)
        if not (factor > 0 and np.abs(mean * factor - embedding).max() <= _SAME * max(np.abs(embedding).max(), 1e-6)):
            return False
    return True


def _factor(mean: NDArray[np.float32], embedding: NDArray[np.float32]) -> np.float32:
    """Return the factor that brings `mean` [D] nearest to `embedding` [D]; 0 where there is none."""
    square = float(mean @ mean)
    return np.float32(float(mean @ embedding) / square if square > 0 else 0.0)


def _windows(grid: int, side_px: int) -> NDArray[np.bool_]:
    """Return masks bool [grid * grid, S, S]: a window twice as wide as a cell around the middle of each cell."""
    middles = (np.arange(grid) + 0.5) * side_px / grid
    inside = np.abs(np.arange(side_px)[None] + 0.5 - middles[:, None]) < side_px / grid
    return np.asarray(inside[:, None, :, None] & inside[None, :, None, :]).reshape(-1, side_px, side_px)
