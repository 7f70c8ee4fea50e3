"""OpenVINO gives what onnxruntime gives, also where it would by itself do something else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tellapart.images import Preprocess
from tellapart.runtime.openvino_session import OpenVinoSession, has_openvino
from tellapart.runtime.session import Session
from tellapart.ship.any_size import of_any_size
from tellapart.ship.openvino_ir import as_ir

pytestmark = pytest.mark.skipif(not has_openvino(), reason="the extra openvino is not installed")
SIDE = 24


def pooled() -> bytes:
    """Return a graph of a convolution, a maximum pooling and GELU, most of whose values are below 0."""
    draws = np.random.default_rng(0)
    arrays = {
        "w": draws.normal(0, 0.004, (32, 3, 3, 3)).astype(np.float32),
        "b": draws.normal(-2.0, 0.5, 32).astype(np.float32),
        "root": np.array(np.sqrt(2.0), np.float32), "one": np.array(1, np.float32), "half": np.array(0.5, np.float32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w", "b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Div", ["p", "root"], ["scaled"]),
        helper.make_node("Erf", ["scaled"], ["erf"]),
        helper.make_node("Add", ["erf", "one"], ["above"]),
        helper.make_node("Mul", ["p", "above"], ["twice"]),
        helper.make_node("Mul", ["twice", "half"], ["feature_map"]),
        helper.make_node("ReduceMean", ["feature_map"], ["embedding"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("embedding", "feature_map")],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    del made.graph.output[:]
    shapes: dict[str, list[str | int | None]] = {"embedding": ["n", 32], "feature_map": ["n", 32, 11, 11]}
    made.graph.output.extend(helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items())
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


@pytest.mark.parametrize("kept", ["onnx", "ir"])
def test_what_stands_behind_a_pooling_stays_behind_it(kept: str) -> None:
    model = pooled()
    pictures = np.random.default_rng(1).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    session = OpenVinoSession(model) if kept == "onnx" else OpenVinoSession(*as_ir(model))
    meant = Session(model).run(pictures, ["embedding"])["embedding"]
    given = np.concatenate([session.run(picture[None], ["embedding"])["embedding"] for picture in pictures])
    np.testing.assert_allclose(given, meant, atol=1e-5)


def test_the_first_picture_behind_a_resize_is_its_own(behind: tuple[bytes, Preprocess]) -> None:
    model, preprocess = behind
    plain, whole = (of_any_size(model, preprocess, branches=branches) for branches in (True, False))
    session, meant = OpenVinoSession(*as_ir(whole)), Session(plain)
    draws = np.random.default_rng(2)
    for height, width in ((75, 100), (100, 75), (64, 240), (30, 40)):
        pixels = draws.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        given, wanted = (one.run(pixels, ["embedding"])["embedding"] for one in (session, meant))
        np.testing.assert_allclose(given, wanted, atol=0.01)


@pytest.fixture
def behind() -> tuple[bytes, Preprocess]:
    return pooled(), Preprocess(SIDE, interpolation="bicubic")
