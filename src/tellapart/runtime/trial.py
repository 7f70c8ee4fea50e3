"""A graph that nobody here has run before runs first in a process with limits.

A few hundred bytes of ONNX can ask for terabytes, for a year, or for a fault in a kernel. What a graph takes does not
depend on the picture (`onnx_sizes`), so one picture tells. A graph that held is remembered by its digest, in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import struct

import numpy as np
from numpy.typing import NDArray

from tellapart.cache import Space, cache_root
from tellapart.errors import BundleError
from tellapart.images.guard import Guard
from tellapart.runtime.session import Session

__all__ = ["allowed", "remember", "run_there", "try_out"]

_VERSION = "tried-1"
_LEAST_SECONDS = 4.0  # of a processor: to load a graph, and to run it on one picture
_BYTES_A_SECOND, _PIXELS_A_SECOND = 50e6, 1e5
_LEAST_BYTES = 1 << 30
_MODEL_COPIES = 6  # as bytes, as a message, as weights, and packed anew for kernels
_BYTES_A_PIXEL = 4096
_HEAD = struct.Struct("<QQI")
_AGAIN = "Take a fresh copy from somewhere you trust."


def allowed(model_bytes: int, image_size: int) -> tuple[int, float]:
    """Return the bytes of memory and the seconds of a processor that a graph may take for one picture.

    `model_bytes` are those of the graph, `image_size` is the side of the picture in pixels.
    """
    pixels = image_size**2
    memory = _LEAST_BYTES + _MODEL_COPIES * model_bytes + _BYTES_A_PIXEL * pixels
    return memory, _LEAST_SECONDS + model_bytes / _BYTES_A_SECOND + pixels / _PIXELS_A_SECOND


def try_out(model: bytes, head: bytes | None, image: NDArray[np.uint8]) -> None:
    """Run a graph, and the graph of a head on its embedding, on `image` uint8 [S, S, 3] where neither harms anybody.

    Nothing is done for what held before. A graph that onnxruntime merely refuses passes: it refuses it again.
    Raises BundleError: `bundle_costly` for one that takes too much, `bundle_model` for one that crashes onnxruntime.
    """
    key = _key(model, head, image.shape[0])
    if _held(key):
        return
    memory, seconds = allowed(len(model) + len(head or b""), image.shape[0])
    content = _HEAD.pack(len(model), len(head or b""), image.shape[0]) + model + (head or b"") + image.tobytes()
    (answer,) = Guard().run("tellapart.runtime.trial:run_there", [content], {}, memory, seconds)
    if answer.error is None:
        if answer.value == b"held":
            _keep(key)
        return
    most = {
        "decode_timeout": f"more than {seconds:.1f} seconds of a processor",
        "decode_oom": f"more than {memory >> 20:,} MiB of memory",
    }
    if answer.error.code in most:
        said = f"The model is refused: it takes {most[answer.error.code]} for one picture."
        raise BundleError("bundle_costly", said, _AGAIN)
    raise BundleError("bundle_model", "The model is refused: onnxruntime crashes on it.", _AGAIN)


def remember(model: bytes, head: bytes | None, image_size: int) -> None:
    """Note that a graph need not be tried: it was made here."""
    _keep(_key(model, head, image_size))


def run_there(content: bytes) -> bytes:
    """Load and run what `try_out` packed, as a function for a guard; return `held`, or nothing where it is refused."""
    model_bytes, head_bytes, side = _HEAD.unpack_from(content)
    ends = np.cumsum([_HEAD.size, model_bytes, head_bytes]).tolist()
    image = np.frombuffer(content, np.uint8, offset=ends[2]).reshape(1, side, side, 3)
    try:
        values = Session(content[ends[0] : ends[1]]).run(image)
        if head_bytes:
            Session(content[ends[1] : ends[2]]).run(values["embedding"])
    except Exception as error:
        # onnxruntime tells of memory in words alone.
        if "alloc" in str(error):
            raise MemoryError from None
        return b""
    return b"held"


def _key(model: bytes, head: bytes | None, image_size: int) -> str:
    digests = (hashlib.sha256(part).hexdigest() for part in (model, head or b""))
    return hashlib.sha256("-".join([*digests, str(image_size)]).encode()).hexdigest()


def _held(key: str) -> bool:
    with contextlib.suppress(OSError, sqlite3.Error), Space(cache_root(), "graphs", _VERSION) as space:
        return any(True for _ in space.get([key]))
    return False


def _keep(key: str) -> None:
    with contextlib.suppress(OSError, sqlite3.Error), Space(cache_root(), "graphs", _VERSION) as space:
        space.put([(key, b"")])
