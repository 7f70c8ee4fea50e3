"""The arrays of a bundle: the head, what novelty and drift are measured against, and the pictures of the self-test."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import BundleError
from tellapart.runtime.novelty import GAUSSIAN_METHODS, METHODS, Blend, Gaussian, NoveltyScorer

__all__ = [
    "LEARNED_BESIDE",
    "MAX_OTHERS",
    "MAX_REFERENCES",
    "MAX_SELFTEST",
    "THUMBNAIL_PX",
    "LearnedBeside",
    "Reference",
    "parse_reference",
    "parse_selftest",
    "reference_of",
]

MAX_REFERENCES = 2000
MAX_OTHERS = 3000
_FURTHEST = 1e6  # so that squares of embeddings can be added up
MAX_QUANTILES = 1001
MAX_SELFTEST = 8
MAX_DIRECTIONS = 512
THUMBNAIL_PX = 64
_MAX_HEADER_BYTES = 1 << 16  # two dozen arrays take some 2 kB


@dataclasses.dataclass(frozen=True, eq=False)
class LearnedBeside:
    """Training pictures that a bundle keeps the embeddings of, float32 [n, D]; `labels` int64 [n] are their classes.

    `digests` uint64 [n] are the first 8 bytes of the sha256 of their files. `off` float32 [n] is by how much a number
    of one may be off for having been rounded to 8 bits the last time; in half precision, as directions of references
    are, it is 0. What a class was added to more than once was rounded as often.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    digests: NDArray[np.uint64]
    off: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """`reference.safetensors`, K classes, D numbers an embedding, M reference pictures.

    The head is linear, `embedding @ head_weight + head_bias`, or else `head_graph` holds it as the bytes of an ONNX
    model from `embedding` to `logits`; its temperature is folded in.
    `novelty_reference` are centred directions (see `Neighbours`), with `reference_labels` beside them. Novelty is the
    distance to them or, where there are `novelty_methods` (places in `runtime.novelty.METHODS`), a blend of scores.
    Where the bundle keeps pictures, `thumbnails` are JPEG files one after the other, each of which ends at its
    `thumbnail_ends`. `reference_lengths` are how far from the mean each reference lies, and `other_embeddings` times
    `other_scales` are more training pictures as seen from the mean, of the classes `other_labels`: what a class more
    is learned beside. Digests are the first 8 bytes of the sha256 of these pictures' files.
    Drift is measured against the training pictures' statistics: mean and standard deviation of each number of the
    embedding, share of each class, and mean and standard deviation of the brightness (the mean over prepared pixels
    and channels, in 0..255) of a picture.
    """

    novelty_reference: NDArray[np.float16]
    novelty_mean: NDArray[np.float32]
    novelty_quantiles: NDArray[np.float32]
    reference_labels: NDArray[np.int64]
    embedding_mean: NDArray[np.float32]
    embedding_std: NDArray[np.float32]
    class_priors: NDArray[np.float32]
    brightness: NDArray[np.float32]
    head_weight: NDArray[np.float32] | None = None
    head_bias: NDArray[np.float32] | None = None
    head_graph: NDArray[np.uint8] | None = None
    thumbnails: NDArray[np.uint8] | None = None
    thumbnail_ends: NDArray[np.int64] | None = None
    reference_lengths: NDArray[np.float32] | None = None
    other_embeddings: NDArray[np.int8] | None = None
    other_scales: NDArray[np.float32] | None = None
    other_labels: NDArray[np.int64] | None = None
    reference_digests: NDArray[np.uint64] | None = None
    other_digests: NDArray[np.uint64] | None = None
    novelty_methods: NDArray[np.int64] | None = None
    novelty_centre: NDArray[np.float32] | None = None
    novelty_weight: NDArray[np.float32] | None = None
    novelty_gaussian_mean: NDArray[np.float32] | None = None
    novelty_gaussian_project: NDArray[np.float32] | None = None
    novelty_gaussian_centres: NDArray[np.float32] | None = None
    novelty_gaussian_variance: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """The length of an embedding, D, and the number of classes, K."""
        return len(self.embedding_mean), len(self.class_priors)

    def thumbnail(self, number: int) -> bytes | None:
        """Return the JPEG file of a reference picture, 64 px on its longer side; None where no picture is kept."""
        if self.thumbnails is None or self.thumbnail_ends is None:
            return None
        start = int(self.thumbnail_ends[number - 1]) if number else 0
        return self.thumbnails[start : int(self.thumbnail_ends[number])].tobytes()

    def similarities(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosine of each reference with an embedding float32 [D], float32 [M], both as seen from the mean.

        With `thumbnails` the references are training pictures, else means of classes.
        """
        wide = embedding.astype(np.float64) - self.novelty_mean
        length = float(np.linalg.norm(wide))
        query = (wide / length if 0 < length < np.inf else np.zeros_like(wide)).astype(np.float32)
        return np.asarray(np.einsum("md,d->m", self.novelty_reference.astype(np.float32), query))

    def learned_beside(self) -> LearnedBeside | None:
        """Return what is kept to learn a class beside, references first; None where a bundle does not keep it."""
        if self.reference_lengths is None or self.reference_digests is None:
            return None
        seen = [self.reference_lengths[:, None] * self.novelty_reference.astype(np.float32)]
        labels, digests = [self.reference_labels], [self.reference_digests]
        off = [np.zeros(len(self.reference_labels), dtype=np.float32)]
        if self.other_embeddings is not None:
            assert self.other_scales is not None
            assert self.other_labels is not None
            assert self.other_digests is not None
            seen.append(self.other_scales[:, None] * self.other_embeddings.astype(np.float32))
            labels.append(self.other_labels)
            digests.append(self.other_digests)
            off.append(np.float32(0.5) * self.other_scales)
        embeddings = self.novelty_mean + np.concatenate(seen)
        return LearnedBeside(embeddings, np.concatenate(labels), np.concatenate(digests), np.concatenate(off))

    def novelty(self) -> NoveltyScorer:
        """Return what scores the novelty of embeddings."""
        blend = None
        if self.novelty_methods is not None:
            assert self.novelty_centre is not None
            assert self.novelty_weight is not None
            methods = tuple(METHODS[place] for place in self.novelty_methods.tolist())
            blend = Blend(methods, self.novelty_centre, self.novelty_weight, self._gaussian())
        return NoveltyScorer(self.novelty_reference, self.novelty_mean, self.novelty_quantiles, blend)

    def _gaussian(self) -> Gaussian | None:
        parts = [getattr(self, name) for name in sorted(_GAUSSIAN)]
        centres, mean, project, variance = parts
        return None if mean is None else Gaussian(mean, project, centres, variance)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are there, by name, as they are stored."""
        named = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: np.ascontiguousarray(array) for name, array in named.items() if array is not None}


# Element type and shape: a letter is a length that must be the same wherever it stands.
_LAYOUT: dict[str, tuple[type[np.generic], tuple[str | int, ...]]] = {
    "novelty_reference": (np.float16, ("M", "D")),
    "novelty_mean": (np.float32, ("D",)),
    "novelty_quantiles": (np.float32, ("Q",)),
    "reference_labels": (np.int64, ("M",)),
    "embedding_mean": (np.float32, ("D",)),
    "embedding_std": (np.float32, ("D",)),
    "class_priors": (np.float32, ("K",)),
    "brightness": (np.float32, (2,)),
    "head_weight": (np.float32, ("D", "K")),
    "head_bias": (np.float32, ("K",)),
    "head_graph": (np.uint8, ("G",)),
    "thumbnails": (np.uint8, ("B",)),
    "thumbnail_ends": (np.int64, ("M",)),
    "reference_lengths": (np.float32, ("M",)),
    "other_embeddings": (np.int8, ("N", "D")),
    "other_scales": (np.float32, ("N",)),
    "other_labels": (np.int64, ("N",)),
    "reference_digests": (np.uint64, ("M",)),
    "other_digests": (np.uint64, ("N",)),
    "novelty_methods": (np.int64, ("J",)),
    "novelty_centre": (np.float32, ("J", "K")),
    "novelty_weight": (np.float32, ("J", "K")),
    "novelty_gaussian_mean": (np.float32, ("D",)),
    "novelty_gaussian_project": (np.float32, ("D", "R")),
    "novelty_gaussian_centres": (np.float32, ("S", "R")),
    "novelty_gaussian_variance": (np.float32, ("R",)),
}
_BLEND = frozenset(name for name in _LAYOUT if name in ("novelty_methods", "novelty_centre", "novelty_weight"))
_GAUSSIAN = frozenset(name for name in _LAYOUT if name.startswith("novelty_gaussian_"))
_OTHERS = frozenset(name for name in _LAYOUT if name.startswith("other_"))
_OF_REFERENCES = frozenset({"reference_lengths", "reference_digests"})
LEARNED_BESIDE = _OTHERS | _OF_REFERENCES
"""Arrays that only learning a class more needs."""
_OPTIONAL = (
    frozenset({"head_weight", "head_bias", "head_graph", "thumbnails", "thumbnail_ends"})
    | LEARNED_BESIDE
    | _BLEND
    | _GAUSSIAN
)
_MOST = {"M": MAX_REFERENCES, "N": MAX_OTHERS, "Q": MAX_QUANTILES, "J": len(METHODS), "R": MAX_DIRECTIONS}


def parse_reference(content: bytes) -> Reference:
    """Return the arrays in a `reference.safetensors`. Raises BundleError (`bundle_arrays`)."""
    return reference_of(_load(content, "reference.safetensors"))


def reference_of(arrays: Mapping[str, NDArray[Any]]) -> Reference:
    """Return named arrays as a Reference, every type, shape and range checked. Raises BundleError (`bundle_arrays`)."""
    lengths: dict[str, int] = {}
    for name in arrays:
        if name not in _LAYOUT:
            raise _refusal(f"an array {name[:60]!r} is not known")
    for name, (kind, shape) in _LAYOUT.items():
        if name not in arrays:
            if name in _OPTIONAL:
                continue
            raise _refusal(f"the array {name} is missing")
        array = arrays[name]
        if array.dtype != kind or array.ndim != len(shape):
            raise _refusal(f"{name} is {array.dtype} {list(array.shape)}")
        for asked, got in zip(shape, array.shape, strict=True):
            wanted = asked if isinstance(asked, int) else lengths.setdefault(asked, got)
            if got != wanted or got == 0 or got > _MOST.get(str(asked), got):
                raise _refusal(f"{name} is {list(array.shape)}, which does not fit the others")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _refusal(f"{name} holds numbers that are not finite")
    if {"head_weight", "head_bias", "head_graph"} & arrays.keys() not in ({"head_weight", "head_bias"}, {"head_graph"}):
        raise _refusal("the head is neither a weight with a bias nor a graph")
    for name in ("reference_labels", "other_labels"):
        labels = arrays.get(name)
        if labels is not None and (labels.min() < 0 or labels.max() >= lengths["K"]):
            raise _refusal(f"{name} name classes that are not there")
    _check_learned_beside(arrays)
    if (np.diff(arrays["novelty_quantiles"]) < 0).any():
        raise _refusal("novelty_quantiles are not sorted")
    _check_blend(arrays)
    _check_thumbnails(arrays)
    return Reference(**arrays)


def _check_learned_beside(arrays: Mapping[str, NDArray[Any]]) -> None:
    others, own = _OTHERS & arrays.keys(), _OF_REFERENCES & arrays.keys()
    if own not in (frozenset(), _OF_REFERENCES) or others not in (frozenset(), _OTHERS) or (others and not own):
        raise _refusal("some of the arrays of embeddings to learn beside are missing")
    for name in ("reference_lengths", "other_scales"):
        if name in arrays and not ((arrays[name] >= 0) & (arrays[name] < _FURTHEST)).all():
            raise _refusal(f"{name} are below zero, or further than any embedding")


def _check_blend(arrays: Mapping[str, NDArray[Any]]) -> None:
    blend, gaussian = _BLEND & arrays.keys(), _GAUSSIAN & arrays.keys()
    if blend not in (frozenset(), _BLEND) or gaussian not in (frozenset(), _GAUSSIAN):
        raise _refusal("some of the arrays of a blend of novelty scores are missing")
    places = arrays["novelty_methods"].tolist() if blend else []
    if len(set(places)) != len(places) or not all(0 <= place < len(METHODS) for place in places):
        raise _refusal("novelty_methods name scores that this tellapart does not know")
    if bool(gaussian) != any(METHODS[place] in GAUSSIAN_METHODS for place in places):
        raise _refusal("novelty_methods and the novelty_gaussian arrays do not belong together")
    if gaussian and (
        len(arrays["novelty_gaussian_centres"]) < 2 or not (arrays["novelty_gaussian_variance"] > 0).all()
    ):
        raise _refusal("the novelty_gaussian arrays hold no class, or no variance")


def _check_thumbnails(arrays: Mapping[str, NDArray[Any]]) -> None:
    thumbnails, ends = arrays.get("thumbnails"), arrays.get("thumbnail_ends")
    if (thumbnails is None) != (ends is None):
        raise _refusal("thumbnails and thumbnail_ends belong together")
    if (
        thumbnails is not None
        and ends is not None
        and (ends[-1] != len(thumbnails) or (np.diff(ends, prepend=0) <= 0).any())
    ):
        raise _refusal("thumbnail_ends do not fit the thumbnails")


def parse_selftest(content: bytes, image_size: int, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return images uint8 [n, S, S, 3] and logits float32 [n, K], n in 1..8. Raises BundleError (`bundle_arrays`)."""
    arrays = _load(content, "selftest.safetensors")
    if set(arrays) != {"images", "logits"}:
        raise _refusal("the self-test does not hold images and logits alone")
    images, logits = arrays["images"], arrays["logits"]
    n = len(images) if images.ndim else 0
    if not 1 <= n <= MAX_SELFTEST or images.shape != (n, image_size, image_size, 3) or images.dtype != np.uint8:
        raise _refusal(f"the self-test's images are {images.dtype} {list(images.shape)}")
    if logits.shape != (n, num_classes):
        raise BundleError(
            "bundle_classes",
            f"The card names {num_classes} classes; the self-test has {list(logits.shape)} logits.",
            "Take a fresh copy, or train again.",
        )
    if logits.dtype != np.float32 or not np.isfinite(logits).all():
        raise _refusal("the self-test's logits are not finite float32 numbers")
    return images, logits


def _load(content: bytes, name: str) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    if int.from_bytes(content[:8], "little") > _MAX_HEADER_BYTES:
        raise _refusal(f"{name} has too large a header to be a safetensors file of ours")
    try:
        return load(content)
    except Exception as error:  # the library has several kinds, and a KeyError for types numpy lacks
        raise _refusal(f"{name} is not a safetensors file ({str(error)[:120]})") from None


def _refusal(reason: str) -> BundleError:
    return BundleError(
        "bundle_arrays", f"The bundle's arrays are wrong: {reason}.", "Take a fresh copy, or train again."
    )
