"""What every rung of the ladder gives, whatever made it: a trunk, a head, and honest predictions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.events import Epoch, Steps
from tellapart.images.preprocess import Preprocess
from tellapart.runtime.session import Session

__all__ = [
    "Fitted",
    "FloatArray",
    "GraphHead",
    "Head",
    "IntArray",
    "Later",
    "OutOfFold",
    "Pictures",
    "Soup",
    "Variations",
]

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

    @property
    def shape(self) -> tuple[int, int]:
        """The length of an embedding, D, and the number of classes, K."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def finite(self) -> bool:
        """Whether every number of it is finite."""
        return bool(np.isfinite(self.weight).all() and np.isfinite(self.bias).all())


@dataclasses.dataclass(frozen=True)
class GraphHead:
    """A head that is not linear: `graph` is ONNX bytes, `embedding` float32 [N, D] to `logits` float32 [N, K].

    `shape` is (D, K). Operators are those of the default domain and of `ai.onnx.ml`.
    """

    graph: bytes
    shape: tuple[int, int]

    def logits(self, embeddings: FloatArray) -> FloatArray:
        """Return float32 [N, K] from embeddings float32 [N, D], from the runtime that ships."""
        if not len(embeddings):
            return np.zeros((0, self.shape[1]), dtype=np.float32)
        return self._session.run(np.ascontiguousarray(embeddings, dtype=np.float32), ["logits"])["logits"]

    def tempered(self, temperature: float) -> GraphHead:
        """Return the head whose logits are divided by `temperature` (> 0). Needs the package onnx."""
        import onnx
        from onnx import helper, numpy_helper

        model = onnx.load_model_from_string(self.graph)
        for node in model.graph.node:
            node.output[:] = ["hot_logits" if name == "logits" else name for name in node.output]
            node.input[:] = ["hot_logits" if name == "logits" else name for name in node.input]
        model.graph.initializer.append(numpy_helper.from_array(np.array(temperature, np.float32), "temperature"))
        model.graph.node.append(helper.make_node("Div", ["hot_logits", "temperature"], ["logits"]))
        return dataclasses.replace(self, graph=model.SerializeToString(deterministic=True))

    @property
    def finite(self) -> bool:
        """Whether every number of it is finite."""
        import onnx
        from onnx import numpy_helper

        arrays = onnx.load_model_from_string(self.graph).graph.initializer
        return all(bool(np.isfinite(numpy_helper.to_array(array)).all()) for array in arrays)

    @functools.cached_property
    def _session(self) -> Session:
        return Session(self.graph)


@dataclasses.dataclass(frozen=True)
class OutOfFold:
    """Predictions for training pictures by models that did not see them (nor pictures of their group).

    `rows` int64 [n] indexes the training rows in the manifest's order; `logits` float32 [n, K], before calibration.
    `before` float32 [n, K] are those of what these models went on from, a probe's head, fitted on the same pictures.
    """

    rows: IntArray
    logits: FloatArray
    before: FloatArray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Variations:
    """How training pictures were varied: in `words`, and some of them to look at.

    `share` in [0, 1] of the time of a training step went into it, where that was measured. `pictures` uint8
    [r, v, s, s, 3] are the training pictures `rows` int64 [r], the first of each as it is.
    """

    words: str
    share: float | None
    rows: IntArray
    pictures: NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained rung, before it ships.

    `trunk` is an ONNX graph (bytes): input `image` uint8 [N, S, S, 3], outputs `embedding` float32 [N, D] and, where
    there is one, `feature_map` float32 [N, C, h, w]; normalisation inside. Logits are the head on the embedding: a
    linear one, except where another shape of it is clearly better.
    `embeddings` holds float32 [n, D] for `train` and `val`, from the runtime that ships, in the manifest's order.
    `held_out` int64 indexes the training rows that the trunk never learned from (all of them for a frozen trunk).
    `looked_at` int64, sorted, are the training pictures that have embeddings, where it learned from more than these:
    every row of training pictures here is then a place in it.
    """

    method: str
    trunk: bytes
    head: Head | GraphHead
    preprocess: Preprocess
    out_of_fold: OutOfFold
    embeddings: Mapping[str, FloatArray]
    held_out: IntArray
    backbone: str | None = None
    licence: str | None = None
    epochs: tuple[Epoch, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = dataclasses.field(default_factory=dict)
    variations: Variations | None = None
    looked_at: IntArray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Soup:
    """Networks of one rung as one, their weights averaged; `words` say what was averaged, or why nothing was."""

    words: str
    fitted: Fitted | None = None


@dataclasses.dataclass(eq=False)
class Later:
    """What a rung leaves for where there is time after it: `soup`, given the seconds left, averages more networks."""

    soup: Callable[[Callable[[], float]], Steps[Soup]] | None = None

    def soup_within(self, left: Callable[[], float]) -> Callable[[], Steps[Soup]] | None:
        """Return what makes the soup within `left()` seconds, or None where there is nothing to make it from."""
        return None if self.soup is None else functools.partial(self.soup, left)
