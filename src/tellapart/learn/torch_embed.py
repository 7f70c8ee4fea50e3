"""Pictures to embeddings by torch, in batches, where a graphics card makes that worth it. The same numbers, nearly."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from tellapart.cache import digest_of
from tellapart.events import Steps
from tellapart.images import Preprocess, default_threads, map_ordered
from tellapart.learn.backbones_export import Graph
from tellapart.learn.embed import checked_picture, gathered
from tellapart.learn.rungs import FloatArray
from tellapart.learn.torch_devices import device_of
from tellapart.learn.torch_export import load_trunk

__all__ = ["embed", "has_card"]

_VERSION = 1
_BATCH = 64


def embed(
    graph: Graph,
    preprocess: Preprocess,
    files: Sequence[Path],
    digests: Sequence[str],
    cache: Path | None,
    *,
    device: str = "cuda",
    flip: bool = False,
    threads: int | None = None,
    into: FloatArray | None = None,
) -> Steps[FloatArray]:
    """Return float32 [N, D], as `learn.embed.embed` does, from the weights that `graph` was made from.

    The values are those of onnxruntime up to the rounding of float32 (about 1e-6 of the largest), and are kept in a
    cache space of their own. Raises RecipeError (`no_device`) when torch has no such device, else as `learn.embed`.
    """

    def computed(wanted: Sequence[int]) -> Iterator[FloatArray]:
        trunk = load_trunk(graph.folder, preprocess.image_size).to(device_of(device))
        trunk.has_map = False

        def one(index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
            square = checked_picture(files[index], digests[index], preprocess)
            return np.ascontiguousarray(square[:, ::-1]) if flip else square

        squares = map_ordered(one, wanted, threads or default_threads(), window=3 * _BATCH)
        while batch := list(itertools.islice(squares, _BATCH)):
            with torch.inference_mode(), _full_precision():
                (vectors, *_) = trunk(torch.from_numpy(np.stack(batch)).to(device))
            yield from vectors.float().cpu().numpy()

    made_by = ["torch", torch.__version__, device, graph.digest]
    key = digest_of([made_by, dataclasses.asdict(preprocess), flip, _VERSION])
    return (yield from gathered(key, files, digests, cache, computed, into))


def has_card() -> bool:
    """Return whether torch can run on a CUDA device."""
    return torch.cuda.is_available()


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Keep convolutions and products from being rounded to TF32 while in here."""
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products
