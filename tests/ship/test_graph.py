"""Trunk and head in one graph: valid, clean of the machine it was made on, the same bytes every time."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tellapart.errors import GateError
from tellapart.learn.refit import of_directions
from tellapart.learn.rungs import Fitted, Head
from tellapart.runtime import Session
from tellapart.runtime.onnx_bytes import inspect_model
from tellapart.ship import compose
from tellapart.ship.graph import trunk_of


def test_the_graph_gives_logits_of_the_head_beside_what_the_trunk_gave(tiny_fitted: Fitted) -> None:
    head = tiny_fitted.head.tempered(2.0)
    session = Session(compose(tiny_fitted.trunk, head, 16))
    assert session.outputs == ("logits", "embedding", "feature_map")
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    values, before = session.run(image), Session(tiny_fitted.trunk).run(image)
    np.testing.assert_array_equal(values["embedding"], before["embedding"])
    np.testing.assert_array_equal(values["feature_map"], before["feature_map"])
    np.testing.assert_allclose(values["logits"], head.logits(before["embedding"]), rtol=1e-6)


def test_the_bytes_are_a_function_of_trunk_and_head(tiny_fitted: Fitted) -> None:
    once, again = (compose(tiny_fitted.trunk, tiny_fitted.head, 16) for _ in range(2))
    assert once == again
    assert isinstance(tiny_fitted.head, Head)
    other = Head(tiny_fitted.head.weight * 2, tiny_fitted.head.bias)
    assert compose(tiny_fitted.trunk, other, 16) != once


def test_what_exporters_write_about_their_machine_is_gone(tiny_fitted: Fitted) -> None:
    model = onnx.load_model_from_string(tiny_fitted.trunk)
    marker = "/home/someone/secret"
    model.doc_string = model.producer_name = model.graph.doc_string = marker
    model.graph.metadata_props.add(key="k", value=marker)
    for node in model.graph.node:
        node.doc_string = marker
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=marker)
    model.graph.initializer[0].doc_string = marker
    model.graph.value_info.append(helper.make_tensor_value_info("levels", TensorProto.FLOAT, None, doc_string=marker))
    model.graph.input[0].doc_string = model.graph.output[0].doc_string = marker
    model.opset_import.append(helper.make_opsetid("pkg.onnxscript.torch_lib", 1))
    content = compose(model.SerializeToString(), tiny_fitted.head, 16)
    assert b"someone" not in content
    assert content == compose(tiny_fitted.trunk, tiny_fitted.head, 16)


def test_functions_of_an_exporter_are_inlined(tiny_fitted: Fitted) -> None:
    model = onnx.load_model_from_string(tiny_fitted.trunk)
    divide = next(node for node in model.graph.node if node.op_type == "Div")
    body = [helper.make_node("Div", ["x", "y"], ["z"])]
    model.functions.append(helper.make_function("exporter", "share", ["x", "y"], ["z"], body, list(model.opset_import)))
    divide.op_type, divide.domain = "share", "exporter"
    model.opset_import.append(helper.make_opsetid("exporter", 1))
    content = compose(model.SerializeToString(), tiny_fitted.head, 16)
    assert inspect_model(content).opsets == {"": 18}
    image = np.full((1, 16, 16, 3), 100, np.uint8)
    expected = Session(compose(tiny_fitted.trunk, tiny_fitted.head, 16)).run(image)["logits"]
    np.testing.assert_array_equal(Session(content).run(image)["logits"], expected)


def test_the_reader_sees_the_shapes_that_are_declared(tiny_fitted: Fitted) -> None:
    facts = inspect_model(compose(tiny_fitted.trunk, tiny_fitted.head, 16))
    assert [(value.name, value.element_type, value.shape) for value in (*facts.inputs, *facts.outputs)] == [
        ("image", TensorProto.UINT8, (None, 16, 16, 3)),
        ("logits", TensorProto.FLOAT, (None, 2)),
        ("embedding", TensorProto.FLOAT, (None, 3)),
        ("feature_map", TensorProto.FLOAT, (None, 3, 16, 16)),
    ]


def test_a_head_that_does_not_fit_the_trunk_is_refused(tiny_fitted: Fitted) -> None:
    assert isinstance(tiny_fitted.head, Head)
    wrong = dataclasses.replace(tiny_fitted.head, weight=np.zeros((5, 2), np.float32))
    with pytest.raises(GateError) as refused:
        compose(tiny_fitted.trunk, wrong, 16)
    assert refused.value.code == "graph"
    assert "\n" not in str(refused.value)


def test_a_head_comes_off_and_goes_on_again_without_a_trace(tiny_fitted: Fitted) -> None:
    assert isinstance(tiny_fitted.head, Head)
    curved = of_directions(tiny_fitted.head, np.array([0.3, 0.5, 0.4], dtype=np.float32))
    for head in (tiny_fitted.head, curved):
        whole = compose(tiny_fitted.trunk, head, 16)
        alone = trunk_of(whole)
        assert [value.name for value in inspect_model(alone).outputs] == ["embedding", "feature_map"]
        assert compose(alone, head, 16) == whole
