"""Pictures whose class is told by the colour of one patch, and a bundle that tells them apart by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.images import Preprocess, thumbnail_jpeg
from tellapart.learn.rungs import Fitted, Head, OutOfFold
from tellapart.runtime import Bundle
from tellapart.ship import write_bundle

SIDE, CELL, CHANNELS = 56, 8, 24
CLASSES = ("green", "red")
Ending = Literal["mean", "length one", "highest"]


def patched(label: int, row: int, column: int, seed: int) -> NDArray[np.uint8]:
    """A dim, noisy picture uint8 [56, 56, 3] with a bright patch of two by two cells at a cell of a 7 x 7 grid."""
    random = np.random.default_rng([seed, label])
    pixels = random.integers(70, 130, (SIDE, SIDE, 3))
    patch = (slice(row * CELL, row * CELL + 2 * CELL), slice(column * CELL, column * CELL + 2 * CELL))
    pixels[patch] = np.array([(30, 200, 60), (220, 40, 50)][label]) + random.integers(-20, 20, (2 * CELL, 2 * CELL, 3))
    return pixels.astype(np.uint8)


def scattered(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Pictures [n, 56, 56, 3] with their patch anywhere, their labels [n], the patches' cells [n, 2]."""
    random = np.random.default_rng(seed)
    labels, cells = np.arange(n) % 2, random.integers(0, 6, (n, 2))
    pairs = zip(labels.tolist(), cells.tolist(), strict=True)
    pictures = [patched(label, row, column, seed + 100 + i) for i, (label, (row, column)) in enumerate(pairs)]
    return np.stack(pictures), labels.astype(np.int64), cells


def trunk(ending: Ending = "mean") -> bytes:
    """An ONNX graph: colours of 8 x 8 px cells through 24 random channels, pooled, to `embedding` and `feature_map`."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(7)
    weight = random.normal(0, 1, (CHANNELS, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["levels", "full"], ["shares"]),
        helper.make_node("Transpose", ["shares"], ["pixels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["pixels", "stem"], ["first"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["first"], ["bent"]),
        helper.make_node("AveragePool", ["bent"], ["feature_map"], kernel_shape=[CELL, CELL], strides=[CELL, CELL]),
        helper.make_node("GlobalMaxPool" if ending == "highest" else "GlobalAveragePool", ["feature_map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    if ending == "length one":
        nodes.append(helper.make_node("LpNormalization", ["flat"], ["embedding"], axis=1, p=2))
    else:
        nodes.append(helper.make_node("Identity", ["flat"], ["embedding"]))
    graph = helper.make_graph(
        nodes,
        "patches",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", CHANNELS]),
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["n", CHANNELS, 7, 7]),
        ],
        [helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]), numpy_helper.from_array(weight, "stem")],
    )
    content: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return content


def patch_bundle(
    folder: Path, ending: Ending = "mean", shown: bool = True, pictures: NDArray[np.uint8] | None = None, **changes: Any
) -> Bundle:
    """Write a bundle that tells green from red patches, by a ridge regression on standardised embeddings.

    `pictures` are those it learns from, green and red in turn; `shown` says whether it keeps any.
    """
    from tellapart.runtime.session import Session

    if pictures is None:
        pictures, _, _ = scattered(60)
    labels = np.arange(len(pictures)) % 2
    content = trunk(ending)
    session = Session(content)
    embeddings = np.concatenate([session.run(one[None], ["embedding"])["embedding"] for one in pictures])
    mean, spread = embeddings.mean(axis=0), embeddings.std(axis=0) + 1e-6
    z = (embeddings - mean) / spread
    w = np.linalg.solve(z.T @ z + 2.0 * np.eye(CHANNELS), z.T @ (2.0 * labels - 1.0)) * 3
    weight = np.stack([-w, w], axis=1) / spread[:, None]
    head = Head(weight.astype(np.float32), (-mean @ weight).astype(np.float32))
    directions = (embeddings - mean) / np.linalg.norm(embeddings - mean, axis=1, keepdims=True)
    fitted = Fitted(
        method="probe",
        trunk=content,
        head=head,
        preprocess=Preprocess(image_size=SIDE),
        out_of_fold=OutOfFold(np.arange(len(labels)), head.logits(embeddings)),
        embeddings={"train": embeddings, "val": embeddings[:4]},
        held_out=np.arange(len(labels)),
    )
    given: dict[str, Any] = {
        "classes": list(CLASSES),
        "temperature": 1.0,
        "thresholds": {"min_prob": 0.6, "max_novelty": 1.0},
        "novelty": {
            "reference": directions.astype(np.float16),
            "mean": mean,
            "quantiles": np.linspace(0.0, 2.0, 11, dtype=np.float32),
        },
        "reference_labels": labels,
        "targets": labels,
        "brightness": (100.0, 10.0),
        "selftest": pictures[:8],
        "thumbnails": [thumbnail_jpeg(one, 64) for one in pictures] if shown else None,
        **changes,
    }
    return write_bundle(folder, changes.get("fitted", fitted), **{k: v for k, v in given.items() if k != "fitted"})


def write_pictures(folder: Path, pictures: NDArray[np.uint8]) -> list[Path]:
    """Write pictures as PNG files, 00.png and so on; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:02d}.png" for number in range(len(pictures))]
    for file, pixels in zip(files, pictures, strict=True):
        Image.fromarray(pixels).save(file)
    return files
