"""A bundle made from another: the same classes, answers and pictures, with another graph inside."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__, files
from tellapart.errors import GateError
from tellapart.learn.rungs import FloatArray
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.card import CARD, MODEL, REFERENCE, SELFTEST, seal_card
from tellapart.runtime.reference import LEARNED_BESIDE, parse_selftest
from tellapart.runtime.session import Session
from tellapart.ship.bundle import PARITY, safetensors_bytes
from tellapart.ship.gallery import synthetic_pictures
from tellapart.ship.graph import head_of

__all__ = ["derive", "moved_quantiles"]

_FEWEST_TO_MOVE = 50


def derive(
    parent: Bundle,
    path: Path,
    model: bytes,
    *,
    quantiles: NDArray[np.float32],
    embedding_shift: FloatArray,
    metrics: Mapping[str, Mapping[str, Any] | None],
    how: Mapping[str, Any],
    companions: Mapping[str, bytes] = MappingProxyType({}),
    keep_pictures: bool = True,
) -> Bundle:
    """Write at `path` a bundle like `parent` with the graph `model`, and return it, opened.

    `quantiles` float32 [Q] are those of novelty on the new graph's scale, `embedding_shift` float32 [D] what its
    embeddings are more than the parent's on average; `how` goes into the lineage beside the digest of the parent's
    card. `companions` are written and listed beside the rest. Without `keep_pictures` thumbnails are left out and the
    self-test is of made-up pictures: there is nothing to look at. Raises GateError (`parity`) when the new graph is not
    its own head on its own embedding; nothing is left then.
    """
    card = parent.card
    images, _ = parse_selftest((parent.path / SELFTEST).read_bytes(), card.preprocess.image_size, len(card.classes))
    if not keep_pictures:
        images = synthetic_pictures(card.preprocess.image_size)
    session = Session(model)
    values = [session.run(image[None], ["logits", "embedding"]) for image in images]
    logits = np.concatenate([value["logits"] for value in values])
    kept = parent.reference.arrays()
    arrays = {name: array for name, array in kept.items() if name not in LEARNED_BESIDE}
    arrays["novelty_quantiles"] = quantiles.astype(np.float32)
    arrays["embedding_mean"] = (arrays["embedding_mean"] + embedding_shift).astype(np.float32)
    if (head := head_of(model)) is not None:
        arrays["head_weight"], arrays["head_bias"] = head.weight, head.bias
    if not keep_pictures:
        arrays = {name: array for name, array in arrays.items() if not name.startswith("thumbnail")}
    contents = {
        **companions,
        MODEL: model,
        REFERENCE: safetensors_bytes(arrays),
        SELFTEST: safetensors_bytes({"images": images, "logits": logits}),
    }
    made = {
        "parent": hashlib.sha256((parent.path / CARD).read_bytes()).hexdigest(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tellapart": __version__,
    }
    new = card.model_copy(
        update={
            "metrics": files.finite(dict(metrics)),
            "lineage": files.finite({**card.lineage, **made, **how}),
            "digests": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
            "sizes": {name: len(content) for name, content in contents.items()},
        }
    )
    with files.new_folder(path) as temporary:
        for name, content in contents.items():
            (temporary / name).write_bytes(content)
        (temporary / CARD).write_bytes(seal_card(new))
        bundle = Bundle(temporary, made_here=True)
        beside = bundle.logits_from(np.concatenate([value["embedding"] for value in values]))
        if not np.abs(beside - logits).max() <= PARITY * max(1.0, float(np.abs(logits).max())):
            raise GateError(
                "parity", "The exported graph's logits are not its head's.", "Nothing was written. Please report it."
            )
    bundle.path = path
    return bundle


def moved_quantiles(
    quantiles: NDArray[np.float32], before: NDArray[np.float64], after: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return novelty's quantiles float32 [Q] on another graph's scale, where as many pictures are novel as before.

    `before` and `after` float64 [n] are raw scores of the same pictures by the two graphs; a quantile goes where as
    many of them lie below it. Fewer than fifty tell too little: then the quantiles stay.
    """
    kept = np.isfinite(before) & np.isfinite(after)
    if kept.sum() < _FEWEST_TO_MOVE:
        return quantiles
    old, new = np.sort(before[kept]), np.sort(after[kept])
    inside = np.interp(quantiles, old, new)
    below, above = quantiles < old[0], quantiles > old[-1]
    inside[below] = quantiles[below] + (new[0] - old[0])
    inside[above] = quantiles[above] + (new[-1] - old[-1])
    return np.maximum.accumulate(inside).astype(np.float32)
