"""Channels that move nothing are left out of a graph, whose answers stay; those that are looked at elsewhere stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tellapart.driving import finish
from tellapart.runtime.session import Session
from tellapart.ship import slim
from tellapart.ship.observe import convolutions
from tellapart.ship.slim import slimmed

SIDE, WIDTH, IDLE = 8, 64, 20
PICTURES = np.random.default_rng(3).integers(0, 256, (16, SIDE, SIDE, 3), dtype=np.uint8)


def model(seen: bool = False) -> onnx.ModelProto:
    """Return a graph that widens to 64 channels, ten of them cut off at 0 and ten constant, and narrows again."""
    draws = np.random.default_rng(0)
    widen = draws.normal(0, 0.01, (WIDTH, 3, 1, 1)).astype(np.float32)
    bias = draws.normal(0, 0.5, WIDTH).astype(np.float32)
    bias[:10] = -100.0
    widen[10:20], bias[10:20] = 0.0, 2.0
    arrays = {
        "widen": widen, "widen_bias": bias,
        "each": draws.normal(0.2, 0.3, (WIDTH, 1, 3, 3)).astype(np.float32),
        "each_bias": np.full(WIDTH, 0.1, np.float32),
        "narrow": draws.normal(0, 0.3, (12, WIDTH, 1, 1)).astype(np.float32), "narrow_bias": np.zeros(12, np.float32),
    }  # fmt: skip
    arrays["each"][10:20] = 0.0  # with its border of zeros it would not be constant
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "widen", "widen_bias"], ["wide"]),
        helper.make_node("Relu", ["wide"], ["cut"]),
        helper.make_node("Conv", ["cut", "each", "each_bias"], ["looked"], pads=[1, 1, 1, 1], group=WIDTH),
        helper.make_node("Relu", ["looked"], ["cut_again"]),
        helper.make_node("Conv", ["cut_again", "narrow", "narrow_bias"], ["feature_map"]),
        helper.make_node("GlobalAveragePool", ["feature_map"], ["p"]),
        helper.make_node("Flatten", ["p"], ["embedding"]),
    ]
    names = ["embedding", "feature_map", *(["cut"] if seen else [])]
    graph = helper.make_graph(
        nodes,
        "idle",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def features(made: onnx.ModelProto) -> np.ndarray:
    return Session(made.SerializeToString()).run(PICTURES, ["feature_map"])["feature_map"]


def test_idle_channels_go_in_whole_blocks_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slim, "_MOST", 1.0)
    monkeypatch.setattr(slim, "_SHARE", 1e-9)
    whole = model()
    less = finish(slimmed(whole, PICTURES))
    assert [layer.weight.shape for layer in convolutions(less)] == [(48, 3, 1, 1), (48, 1, 3, 3), (12, 48, 1, 1)]
    np.testing.assert_allclose(features(less), features(whole), atol=1e-4)


def test_no_more_goes_than_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model()
    assert convolutions(finish(slimmed(whole, PICTURES)))[0].weight.shape[0] == WIDTH  # a block is more than 3%
    monkeypatch.setattr(slim, "_MOST", 1.0)
    monkeypatch.setattr(slim, "_SHARE", 0.1)
    less = finish(slimmed(whole, PICTURES))
    assert len(convolutions(less)[0].weight) <= 48
    meant = features(whole)
    away = np.square(features(less) - meant).sum()
    assert away < 0.2 * np.square(meant - meant.mean(axis=(0, 2, 3), keepdims=True)).sum()
    off = (features(less) - meant).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(off, 0.0, atol=1e-3)  # on average nothing is missing


def test_what_is_looked_at_elsewhere_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slim, "_MOST", 1.0)
    whole = model(seen=True)
    less = finish(slimmed(whole, PICTURES))
    assert less.SerializeToString() == whole.SerializeToString()
