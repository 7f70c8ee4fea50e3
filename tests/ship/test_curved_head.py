"""A head that is no linear one ships like any other: same contract, same calibration, same refusals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from tellapart.errors import BundleError, GateError
from tellapart.learn.rungs import Fitted, GraphHead
from tellapart.runtime import Session
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.card import parse_card, seal_card
from tellapart.ship import compose


def curved(weight: np.ndarray, *, operator: str = "Relu", opset: int = 17) -> GraphHead:
    """Logits that are the embedding through `operator`, then through a weight [D, K]."""
    nodes = [
        helper.make_node(operator, ["embedding"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "weight"], ["logits"]),
    ]
    width, num_classes = weight.shape
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", num_classes])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return GraphHead(model.SerializeToString(), (width, num_classes))


@pytest.fixture
def fitted(tiny_fitted: Fitted) -> Fitted:
    return dataclasses.replace(tiny_fitted, head=curved(np.array([[2, -2], [-6, 6], [-6, 6]])))


def test_the_bundle_gives_the_tempered_logits_of_the_head_from_pictures_and_from_embeddings(
    fitted: Fitted, write_tiny_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    write_tiny_bundle(tmp_path / "bundle", fitted=fitted, temperature=2.0)
    bundle = Bundle(tmp_path / "bundle")
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    values = bundle.session.run(image)
    expected = np.maximum(values["embedding"], 0) @ np.array([[2, -2], [-6, 6], [-6, 6]]) / 2.0
    np.testing.assert_allclose(values["logits"], expected, rtol=1e-5)
    np.testing.assert_allclose(bundle.logits_from(values["embedding"]), expected, rtol=1e-5)
    assert bundle.reference.head_weight is None
    assert tuple(values) == ("logits", "embedding", "feature_map")


def test_values_of_trunk_and_head_that_share_a_name_stay_apart(fitted: Fitted) -> None:
    trunk = onnx.load_model_from_string(fitted.trunk)
    for node in trunk.graph.node:
        node.input[:] = ["hidden" if name == "levels" else name for name in node.input]
        node.output[:] = ["hidden" if name == "levels" else name for name in node.output]
    image = np.full((1, 16, 16, 3), 90, np.uint8)
    one, other = (Session(compose(bytes_, fitted.head, 16)) for bytes_ in (fitted.trunk, trunk.SerializeToString()))
    np.testing.assert_array_equal(one.run(image)["logits"], other.run(image)["logits"])


def test_a_head_of_newer_operators_than_the_trunk_is_not_shipped(tiny_fitted: Fitted) -> None:
    with pytest.raises(GateError, match="operators of version 25"):
        compose(tiny_fitted.trunk, curved(np.ones((3, 2)), opset=25), 16)


def test_a_head_that_is_not_finite_is_not_shipped(
    fitted: Fitted, write_tiny_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    broken = dataclasses.replace(fitted, head=curved(np.full((3, 2), np.nan)))
    with pytest.raises(GateError, match="not finite"):
        write_tiny_bundle(tmp_path / "bundle", fitted=broken)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (curved(np.ones((4, 2))), "bundle_model"),
        (curved(np.ones((3, 5))), "bundle_model"),
        (curved(np.ones((3, 2)), operator="Loop"), "bundle_model"),
        (GraphHead(b"\x08\x08nothing", (3, 2)), "bundle_model"),
        (GraphHead(b"", (3, 2)), "bundle_arrays"),
        (None, "bundle_arrays"),
    ],
    ids=["width", "classes", "endless", "bytes", "empty", "two heads"],
)
def test_a_head_that_someone_else_put_there_is_refused(
    fitted: Fitted, write_tiny_bundle: Callable[..., Bundle], tmp_path: Path, head: GraphHead | None, code: str
) -> None:
    folder = write_tiny_bundle(tmp_path / "bundle", fitted=fitted).path
    arrays = load_file(folder / "reference.safetensors")
    if head is None:
        arrays |= {"head_weight": np.zeros((3, 2), np.float32), "head_bias": np.zeros(2, np.float32)}
    else:
        arrays["head_graph"] = np.frombuffer(head.graph, np.uint8)
    save_file(arrays, folder / "reference.safetensors")
    _sealed(folder)
    with pytest.raises(BundleError) as caught:
        Bundle(folder)
    assert caught.value.code == code


def _sealed(folder: Path) -> None:
    """Write a card that lists the files as they are now."""
    import hashlib

    card = parse_card((folder / "card.json").read_bytes())
    content = {name: (folder / name).read_bytes() for name in card.sizes}
    digests = {name: hashlib.sha256(held).hexdigest() for name, held in content.items()}
    sizes = {name: len(held) for name, held in content.items()}
    (folder / "card.json").write_bytes(seal_card(card.model_copy(update={"digests": digests, "sizes": sizes})))
    assert json.loads((folder / "card.json").read_bytes())["sizes"] == sizes
