"""The mark that anything useful must beat: the shares of the classes, whatever the picture shows."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np

from tellapart.errors import MissingExtraError
from tellapart.events import Steps
from tellapart.images import Preprocess, default_threads
from tellapart.learn.embed import embed
from tellapart.learn.folds import make_folds
from tellapart.learn.rungs import Fitted, FloatArray, Head, IntArray, OutOfFold, Pictures
from tellapart.recipe import Recipe

__all__ = ["colour_trunk", "majority"]

_SIDE_PX = 32
_CELLS = 4


def majority(
    train: Pictures,
    val: Pictures,
    num_classes: int,
    preprocess: Preprocess,
    recipe: Recipe,
    cache: Path | None = None,
    *,
    look: bool = True,
) -> Steps[Fitted]:
    """Return the rung that always gives the classes' shares (Laplace: one picture added to each).

    Its trunk is real, if small: the mean colour of 4 x 4 parts of the picture, 48 numbers, from which novelty is told.
    Its logits need no picture: without `look` none is opened, and the embeddings are zeros, which is enough to be
    compared with but not to ship. The out-of-fold logits of a picture are the shares among the other folds. Raises
    MissingExtraError without onnx.
    """
    small = dataclasses.replace(
        preprocess, image_size=_SIDE_PX, at_least_px=_SIDE_PX, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    trunk = colour_trunk()
    threads = recipe.fit.threads or default_threads()
    embeddings = {}
    for split, pictures in (("train", train), ("val", val)):
        embeddings[split] = np.zeros((len(pictures), 3 * _CELLS * _CELLS), dtype=np.float32)
        if look and len(pictures):
            seen = embeddings[split]
            yield from embed(trunk, small, pictures.files, pictures.digests, cache, threads=threads, into=seen)
    folds = make_folds(train.targets, train.groups, seed=recipe.seed)
    rows = np.flatnonzero(folds >= 0)
    logits = np.zeros((len(rows), num_classes), dtype=np.float32)
    for fold in np.unique(folds[rows]):
        logits[folds[rows] == fold] = _log_shares(train.targets[folds != fold], num_classes)
    weight = np.zeros((3 * _CELLS * _CELLS, num_classes), dtype=np.float32)
    return Fitted(
        method="majority",
        trunk=trunk,
        head=Head(weight, _log_shares(train.targets, num_classes)),
        preprocess=small,
        out_of_fold=OutOfFold(rows.astype(np.int64), logits),
        embeddings=embeddings,
        held_out=np.arange(len(train), dtype=np.int64),
        details={"counts": np.bincount(train.targets, minlength=num_classes).tolist()},
    )


def _log_shares(targets: IntArray, num_classes: int) -> FloatArray:
    counts = np.bincount(targets, minlength=num_classes) + 1.0
    return np.asarray(np.log(counts / counts.sum()), dtype=np.float32)


def colour_trunk() -> bytes:
    """Return an ONNX graph: uint8 [N, 32, 32, 3] -> embedding float32 [N, 48], in 0..1, and the 4 x 4 map of it."""
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError("train", "Training")
    from onnx import TensorProto, helper, numpy_helper

    cell = _SIDE_PX // _CELLS
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["planes", "white"], ["shares"]),
        helper.make_node("AveragePool", ["shares"], ["feature_map"], kernel_shape=[cell, cell], strides=[cell, cell]),
        helper.make_node("Flatten", ["feature_map"], ["embedding"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "trunk",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", _SIDE_PX, _SIDE_PX, 3])],
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 3 * _CELLS * _CELLS]),
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["N", 3, _CELLS, _CELLS]),
        ],
        [numpy_helper.from_array(np.array(255.0, dtype=np.float32), "white")],
    )
    model = helper.make_model(graph, producer_name="tellapart", opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    text: bytes = model.SerializeToString(deterministic=True)
    return text
