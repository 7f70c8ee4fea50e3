"""Writes a bundle, and hands it out only after reading it back and finding what was trained."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__, files
from tellapart.errors import GateError
from tellapart.learn.rungs import Fitted, FloatArray, GraphHead, Head, IntArray
from tellapart.runtime.bundle import Bundle, read_card
from tellapart.runtime.card import CARD, MODEL, REFERENCE, SELFTEST, Card, Thresholds, seal_card
from tellapart.runtime.onnx_bytes import inspect_model
from tellapart.runtime.reference import MAX_SELFTEST, reference_of
from tellapart.runtime.session import Session
from tellapart.ship.graph import compose

__all__ = ["PARITY", "safetensors_bytes", "with_metrics", "write_bundle"]

PARITY = 1e-4  # of the largest logit, or of 1 where all are smaller


def write_bundle(
    path: Path,
    fitted: Fitted,
    *,
    classes: Sequence[str],
    temperature: float,
    thresholds: Mapping[str, Any],
    novelty: Mapping[str, NDArray[Any]],
    reference_labels: IntArray,
    targets: IntArray,
    brightness: tuple[float, float],
    selftest: NDArray[np.uint8],
    selftest_embeddings: FloatArray | None = None,
    thumbnails: Sequence[bytes] | None = None,
    learned_beside: Mapping[str, NDArray[Any]] | None = None,
    metrics: Mapping[str, Mapping[str, Any] | None] | None = None,
    recipe: Mapping[str, Any] | None = None,
    fingerprint: str = "",
    lineage: Mapping[str, Any] | None = None,
) -> Bundle:
    """Write a bundle at `path`, replacing an older one only when the new one is whole and passes the gate; open it.

    `thresholds` has the fields of `runtime.Thresholds`; `novelty` is what `judge.Novelty.arrays` gives (references
    [M, D] among it), `reference_labels` the class of each reference; `targets` int64 [n] are the classes of
    `fitted.embeddings["train"]`; `brightness` is (mean, standard deviation) as in `Gallery`; `selftest`
    uint8 [1..8, S, S, 3] are prepared pictures, and `selftest_embeddings` float32 [n, D] what training had for them.
    `learned_beside` are arrays of `runtime.reference.LEARNED_BESIDE`.
    `thumbnails` are JPEG files; without them no picture is kept: pass then `class_means` and `synthetic_pictures` too.
    Raises GateError (`parity`, `graph`, `not_finite`) when the bundle would not answer as what was trained; then
    nothing of it is left.
    """
    head = fitted.head.tempered(temperature)
    if not head.finite:
        raise GateError("not_finite", "The trained head holds numbers that are not finite.", "Train again.")
    model = compose(fitted.trunk, head, fitted.preprocess.image_size)
    mean, deviation = _moments(fitted.embeddings["train"])
    arrays: dict[str, NDArray[Any] | None] = {
        **_head_arrays(head),
        **{f"novelty_{name}": array for name, array in novelty.items()},
        "reference_labels": reference_labels.astype(np.int64),
        "embedding_mean": mean,
        "embedding_std": deviation,
        "class_priors": (np.bincount(targets, minlength=len(classes)) / max(1, len(targets))).astype(np.float32),
        "brightness": np.array(brightness, dtype=np.float32),
        **(learned_beside or {}),
        "thumbnails": None if thumbnails is None else np.frombuffer(b"".join(thumbnails), np.uint8),
        "thumbnail_ends": None if thumbnails is None else np.cumsum([len(jpeg) for jpeg in thumbnails], dtype=np.int64),
    }
    reference = reference_of({name: array for name, array in arrays.items() if array is not None})
    selftest = np.ascontiguousarray(selftest[:MAX_SELFTEST])
    session = Session(model)
    logits = np.concatenate([session.run(picture[None], ["logits"])["logits"] for picture in selftest])
    contents = {
        MODEL: model,
        REFERENCE: safetensors_bytes(reference.arrays()),
        SELFTEST: safetensors_bytes({"images": selftest, "logits": logits}),
    }
    made = {"parent": None, "created": datetime.now(UTC).isoformat(timespec="seconds"), "tellapart": __version__}
    card = Card(
        classes=tuple(classes),
        preprocess=fitted.preprocess,
        method=fitted.method,
        backbone=fitted.backbone,
        backbone_licence=fitted.licence,
        metrics=files.finite(dict(metrics or {})),
        thresholds=Thresholds.model_validate(dict(thresholds)),
        temperature=temperature,
        recipe=files.finite(dict(recipe or {})),
        fingerprint=fingerprint,
        lineage=files.finite({**made, **(lineage or {})}),
        outputs=tuple(value.name for value in inspect_model(model).outputs),
        digests={name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        sizes={name: len(content) for name, content in contents.items()},
    )
    with files.new_folder(path) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        (temporary / CARD).write_bytes(seal_card(card))
        bundle = Bundle(temporary, made_here=True)
        _check_parity(bundle, fitted.trunk, head, selftest, selftest_embeddings)
    bundle.path = path
    return bundle


def with_metrics(path: Path, metrics: Mapping[str, Mapping[str, Any] | None]) -> Card:
    """Put `metrics` (`val`, `test`) into the card of the bundle at `path`, in one step; return the new card.

    The reported numbers come from the bundle itself, so they can only be written after it. Nothing else changes.
    Raises BundleError when the card is damaged.
    """
    card = read_card(path).model_copy(update={"metrics": files.finite(dict(metrics))})
    # The temporary file lies beside the bundle: a stray file inside would make it be refused.
    temporary = path.parent / f".{path.name}.{CARD}"
    files.write_bytes(temporary, seal_card(card))
    os.replace(temporary, path / CARD)
    files.sync_folder(path)
    return card


def _head_arrays(head: Head | GraphHead) -> dict[str, NDArray[Any] | None]:
    if isinstance(head, GraphHead):
        return {"head_graph": np.frombuffer(head.graph, np.uint8)}
    return {"head_weight": head.weight.astype(np.float32), "head_bias": head.bias.astype(np.float32)}


def _check_parity(
    bundle: Bundle, trunk: bytes, head: Head | GraphHead, pictures: NDArray[np.uint8], embeddings: FloatArray | None
) -> None:
    """Refuse a bundle whose logits are not those of the trained trunk and head."""
    alone = Session(trunk)
    passed = np.concatenate([alone.run(picture[None], ["embedding"])["embedding"] for picture in pictures])
    got = np.concatenate([bundle.session.run(picture[None], ["logits"])["logits"] for picture in pictures])
    expected = {
        "the trunk and the head": head.logits(passed),
        "the head that is kept beside it": bundle.logits_from(passed),
    }
    if embeddings is not None:
        expected["training"] = head.logits(embeddings[: len(pictures)])
    for what, logits in expected.items():
        allowed = PARITY * max(1.0, float(np.abs(logits).max()))
        difference = float(np.abs(got - logits).max())
        if not difference <= allowed:
            raise GateError(
                "parity",
                f"The bundle's logits differ from those of {what} by {difference:.3g}; {allowed:.3g} is allowed.",
                "Nothing was written. Please report it.",
            )


def _moments(embeddings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation float32 [D], without a copy of all embeddings in double precision."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    total = np.zeros_like(mean)
    for start in range(0, len(embeddings), 1024):
        total += np.square(embeddings[start : start + 1024] - mean).sum(axis=0)
    return mean.astype(np.float32), np.sqrt(total / len(embeddings)).astype(np.float32)


def safetensors_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return named arrays as the bytes of a safetensors file."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
