"""A folded graph gives what the graph gave, with less to do; where that cannot be shown, the graph stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tellapart.learn.fold import folded
from tellapart.runtime.session import Session

SIDE = 12


def graph(nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray]) -> bytes:
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, None, None])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(model).graph.node]


MEAN, STD = np.array([10, 20, 30], np.float32), np.array([50, 60, 70], np.float32)
CAST = helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT)
BEFORE = [
    CAST,
    helper.make_node("Sub", ["f", "mean"], ["s"]),
    helper.make_node("Div", ["s", "std"], ["d"]),
    helper.make_node("Transpose", ["d"], ["y"], perm=[0, 3, 1, 2]),
]
AFTER = [
    helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
    helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
    helper.make_node("Sub", ["f", "mean"], ["s"]),
    helper.make_node("Div", ["s", "std"], ["y"]),
]


@pytest.mark.parametrize(
    ("nodes", "arrays"),
    [
        (BEFORE, {"mean": MEAN, "std": STD}),
        (BEFORE, {"mean": np.array(127.5, np.float32), "std": STD.reshape(1, 1, 1, 3)}),
        (AFTER, {"mean": MEAN.reshape(1, 3, 1, 1), "std": STD.reshape(3, 1, 1)}),
    ],
)
def test_pixels_are_normalised_by_planes_to_the_same_numbers(nodes, arrays) -> None:
    model = graph(nodes, arrays)
    small = folded(model, SIDE)
    assert "BatchNormalization" in operators(small)
    assert not {"Sub", "Div"} & set(operators(small))
    pictures = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_allclose(Session(small).run(pictures)["y"], Session(model).run(pictures)["y"], atol=1e-5)


def test_what_is_no_scale_of_channels_stays(tmp_path) -> None:
    columns = np.arange(SIDE, dtype=np.float32).reshape(1, 1, SIDE)
    model = graph(AFTER, {"mean": columns, "std": STD.reshape(3, 1, 1)})
    small = folded(model, SIDE)
    pictures = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_allclose(Session(small).run(pictures)["y"], Session(model).run(pictures)["y"], atol=1e-5)
    assert "Sub" in operators(small)


def test_the_arithmetic_of_shapes_is_done_beforehand_for_any_number_of_pictures() -> None:
    nodes = [
        *AFTER[:2],
        helper.make_node("Shape", ["f"], ["shape"]),
        helper.make_node("Slice", ["shape", "two", "four"], ["sides"]),
        helper.make_node("Mul", ["sides", "twice"], ["larger"]),
        helper.make_node("Sub", ["larger", "sides"], ["more"]),
        helper.make_node("Concat", ["none", "none", "none", "more"], ["pads"], axis=0),
        helper.make_node("Pad", ["f", "pads"], ["y"]),
    ]
    arrays = {"two": [2], "four": [4], "twice": [2, 2], "none": [0, 0]}
    model = graph(nodes, {name: np.array(values, np.int64) for name, values in arrays.items()})
    small = folded(model, SIDE)
    assert "Shape" not in operators(small)
    pictures = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Session(small).run(pictures)["y"], Session(model).run(pictures)["y"])


def test_a_graph_that_would_only_do_for_one_picture_is_not_taken() -> None:
    nodes = [
        *AFTER[:2],
        helper.make_node("Shape", ["f"], ["shape"], end=1),
        helper.make_node("Cast", ["shape"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "count"], ["y"]),
    ]
    model = graph(nodes, {})
    assert folded(model, SIDE) == model
