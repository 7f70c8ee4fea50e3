"""A bundle on disk, verified before it is believed: what was hashed is what is parsed, and every file is read once."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import BundleError
from tellapart.images.preprocess import Preprocess
from tellapart.runtime import onnx_bytes
from tellapart.runtime.card import CARD, COMPANIONS, FILES, MODEL, REFERENCE, SELFTEST, Card, parse_card
from tellapart.runtime.reference import Reference, parse_reference, parse_selftest
from tellapart.runtime.session import Session
from tellapart.runtime.trial import remember, try_out

__all__ = ["Bundle", "read_card"]

_MAX_BYTES = {CARD: 2**24, MODEL: onnx_bytes.MAX_MODEL_BYTES, REFERENCE: 2**29, SELFTEST: 2**29} | {
    name: onnx_bytes.MAX_MODEL_BYTES if name == "model.bin" else 2**26 for name in COMPANIONS
}
_SELFTEST_TOLERANCE = 1e-3  # of the largest logit, or of 1 where all are smaller
# Kernels for whole numbers round differently: a MobileNetV2's logits moved by up to 2.2% between two of onnxruntime's.
_QUANTIZED_TOLERANCE = 5e-2
_SELFTEST_AT_LEAST, _SELFTEST_SECONDS = 2, 0.25
_COPY_IT = "If it is yours, copy the folder and use the copy."
_FRESH = "Take a fresh copy, or train again."


class Bundle:
    """A verified bundle: `path`, `card`, `classes`, `preprocess`, `model` (ONNX bytes), `reference`, `session`,
    `selftest` (prepared pictures, uint8 [1..8, S, S, 3]).

    Raises BundleError with a code: `bundle_not_a_folder`, `bundle_missing_file`, `bundle_unlisted_file`,
    `bundle_not_a_file` (a link, a device), `bundle_size`, `bundle_digest`, `bundle_newer`, `bundle_card`,
    `bundle_classes`, `bundle_external_data`, `bundle_model`, `bundle_costly`, `bundle_arrays`, `bundle_selftest`.
    Its graph is first run in a process with limits, unless that was done before or it was `made_here`.
    """

    def __init__(self, path: str | os.PathLike[str], *, made_here: bool = False) -> None:
        self.path = Path(path)
        held = _names(self.path)
        self.card: Card = read_card(self.path)
        _check_companions(self.path, held, self.card)
        contents = {name: _read_listed(self.path, name, self.card) for name in FILES if name != CARD}
        self.classes: tuple[str, ...] = self.card.classes
        self.preprocess: Preprocess = self.card.preprocess
        self.model: bytes = contents[MODEL]
        facts = onnx_bytes.inspect_model(self.model)
        self.reference: Reference = parse_reference(contents[REFERENCE])
        _check_graph(facts, self.card, self.reference)
        images, logits = parse_selftest(contents[SELFTEST], self.preprocess.image_size, len(self.classes))
        self.selftest: NDArray[np.uint8] = images
        head = None if self.reference.head_graph is None else self.reference.head_graph.tobytes()
        if head is not None:
            _check_head(head, self.reference.shape)
        if made_here:
            remember(self.model, head, images.shape[1])
        else:
            try_out(self.model, head, images[0])
        self.session = Session(self.model)
        _replay(self.session, images, logits, _QUANTIZED_TOLERANCE if facts.quantized else _SELFTEST_TOLERANCE)
        self._head = None if head is None else Session(head)

    def logits_from(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, float32 [N, K], for embeddings float32 [N, D] of this bundle's own model."""
        weight, bias = self.reference.head_weight, self.reference.head_bias
        if weight is not None and bias is not None:
            return np.asarray(embeddings @ weight + bias, dtype=np.float32)
        if self._head is None or not len(embeddings):
            return np.zeros((0, len(self.classes)), dtype=np.float32)
        return self._head.run(np.ascontiguousarray(embeddings, dtype=np.float32), ["logits"])["logits"]


def read_card(path: Path) -> Card:
    """Return the card of the bundle at `path`, without opening its other files. Raises BundleError."""
    return parse_card(_read(path, CARD, _MAX_BYTES[CARD]))


def _names(path: Path) -> set[str]:
    """Return the names in a folder; refuse one without the four files, or with others than a bundle may hold."""
    try:
        names = set(os.listdir(path))
    except NotADirectoryError:
        raise BundleError("bundle_not_a_folder", f"{path} is a file; a bundle is a folder.", _where(path)) from None
    except FileNotFoundError:
        raise BundleError("bundle_not_a_folder", f"There is no folder {path}.", _where(path)) from None
    except OSError as error:
        raise BundleError("bundle_not_a_folder", f"{path} cannot be read ({error.strerror}).", _where(path)) from None
    missing = [name for name in FILES if name not in names]
    if missing:
        raise BundleError("bundle_missing_file", f"{path} has no {missing[0]}, so it is not a bundle.", _where(path))
    if extra := sorted(names - set(FILES) - set(COMPANIONS)):
        raise _unlisted(path, extra[0])
    return names


def _check_companions(path: Path, held: set[str], card: Card) -> None:
    """Refuse companions other than those of the card: not listed, not there, or changed. They are not opened."""
    listed = card.digests.keys() | card.sizes.keys()
    if extra := sorted(held - set(FILES) - listed):
        raise _unlisted(path, extra[0])
    for name in sorted(listed - set(FILES)):
        if name not in COMPANIONS:
            raise BundleError("bundle_card", f"{CARD} lists {name[:60]!r}, which is no part of a bundle.", _FRESH)
        _read_listed(path, name, card)


def _unlisted(path: Path, name: str) -> BundleError:
    return BundleError(
        "bundle_unlisted_file",
        f"{path} holds {name!r}, which is no part of {'a bundle' if name not in COMPANIONS else 'this bundle'}.",
        "Remove it if you know it, else take a fresh copy.",
    )


def _where(path: Path) -> str:
    inner = path / "bundle"
    return f"Did you mean {inner}?" if inner.is_dir() else "Give the folder named bundle in a run folder."


def _read(path: Path, name: str, at_most: int) -> bytes:
    """Return the bytes of a regular file of the folder, following no link; refuse one above `at_most` bytes."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = path / name
    try:
        looked = os.lstat(file)
        if not stat.S_ISREG(looked.st_mode):
            raise BundleError("bundle_not_a_file", f"{file} is a link or a device, not a plain file.", _FRESH)
        if looked.st_nlink > 1:
            raise BundleError(
                "bundle_not_a_file", f"{file} is a hard link: it has another name somewhere else.", _COPY_IT
            )
        with open(os.open(file, flags), "rb") as opened:
            facts = os.fstat(opened.fileno())
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
                raise BundleError("bundle_not_a_file", f"{file} is not a plain file.", _FRESH)
            if facts.st_size > at_most:
                raise BundleError(
                    "bundle_size", f"{file} has {facts.st_size:,} bytes; {at_most:,} are allowed.", _FRESH
                )
            content = opened.read(at_most + 1)
    except OSError as error:
        raise BundleError("bundle_missing_file", f"{file} cannot be read ({error.strerror}).", _FRESH) from None
    if len(content) > at_most:
        raise BundleError("bundle_size", f"{file} grew while it was read.", _FRESH)
    return content


def _read_listed(path: Path, name: str, card: Card) -> bytes:
    size, digest = card.sizes.get(name), card.digests.get(name)
    if size is None or digest is None or not 0 <= size <= _MAX_BYTES[name]:
        raise BundleError("bundle_card", f"{CARD} does not list {name} with a size and a digest.", _FRESH)
    content = _read(path, name, max(size, 1))
    if len(content) != size:
        raise BundleError(
            "bundle_size", f"{path / name} has {len(content):,} bytes and the card says {size:,}.", _FRESH
        )
    if hashlib.sha256(content).hexdigest() != digest:
        raise BundleError("bundle_digest", f"{path / name} was changed after it was written.", _FRESH)
    return content


def _check_graph(facts: onnx_bytes.ModelFacts, card: Card, reference: Reference) -> None:
    """Refuse a graph that is not what the card and the arrays say."""
    size, num_classes = card.preprocess.image_size, len(card.classes)
    names = tuple(value.name for value in facts.outputs)
    if len(facts.inputs) != 1 or facts.inputs[0].name != "image" or facts.inputs[0].element_type != 2:
        raise BundleError("bundle_model", "The model's input is not one uint8 tensor named image.", _FRESH)
    if facts.inputs[0].shape not in ((None, size, size, 3), (None, None, None, 3)):
        raise BundleError(
            "bundle_model", f"The model takes {facts.inputs[0].shape}, and pictures are {size} x {size} x 3.", _FRESH
        )
    if names != card.outputs or names[:2] != ("logits", "embedding"):
        raise BundleError("bundle_model", f"The model's outputs are not those of the card: {names[:4]}.", _FRESH)
    counts = {"the graph": (facts.outputs[0].shape or (None, None))[-1], "its head": reference.shape[1]}
    for what, count in counts.items():
        if count != num_classes:
            raise BundleError("bundle_classes", f"The card names {num_classes} classes and {what} has {count}.", _FRESH)
    if (facts.outputs[1].shape or (None,))[-1] != reference.shape[0]:
        raise BundleError("bundle_arrays", "The embedding of the graph and the head differ in length.", _FRESH)


def _check_head(model: bytes, shape: tuple[int, int]) -> None:
    """Refuse a head kept as a graph that is not one from an embedding to logits."""
    facts = onnx_bytes.inspect_model(model)
    width, num_classes = shape
    ends = [(value.name, value.element_type, (value.shape or (None,))[1:]) for value in (*facts.inputs, *facts.outputs)]
    if ends != [("embedding", 1, (width,)), ("logits", 1, (num_classes,))]:
        raise BundleError("bundle_model", "The head that is kept beside the model does not fit it.", _FRESH)


def _replay(session: Session, images: NDArray[np.uint8], logits: NDArray[np.float32], share: float) -> None:
    """Run stored pictures through the model, two at least and more while that is quick; refuse other logits."""
    began = time.perf_counter()
    tolerance = share * max(1.0, float(np.abs(logits).max(initial=0.0)))
    for number, (image, expected) in enumerate(zip(images, logits, strict=True)):
        if number >= _SELFTEST_AT_LEAST and time.perf_counter() - began > _SELFTEST_SECONDS:
            return
        try:
            got = session.run(image[None], ["logits"])["logits"]
        except Exception as error:
            raise BundleError("bundle_selftest", f"The model fails on its own picture ({error}).", _FRESH) from None
        if got.shape != (1, len(expected)):
            raise BundleError("bundle_classes", f"The model gives {got.shape}, not [1, {len(expected)}].", _FRESH)
        difference = float(np.abs(got[0] - expected).max())
        if not difference <= tolerance:
            raise BundleError(
                "bundle_selftest",
                f"The model's self-test is off by {difference:.3g} (allowed {tolerance:.3g}): it would answer wrongly.",
                "Train or export it again on this kind of machine.",
            )
