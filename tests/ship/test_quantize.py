"""8 bits mean what they say: an oracle in plain numpy, no operator of anybody's own, no channel off on average."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tellapart.driving import finish
from tellapart.learn.fold import folded
from tellapart.learn.rungs import Head
from tellapart.runtime.onnx_bytes import inspect_model
from tellapart.runtime.session import Session
from tellapart.ship.graph import compose, head_of
from tellapart.ship.half import halved
from tellapart.ship.observe import Observed, best_range, convolutions, observe
from tellapart.ship.quantize import quantize
from tests.ship.conv import SIDE, WIDTH, trunk

PICTURES = np.random.default_rng(3).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def plain() -> onnx.ModelProto:
    return onnx.load_model_from_string(folded(trunk(), SIDE))


@pytest.fixture(scope="module")
def observed(plain: onnx.ModelProto) -> Observed:
    return finish(observe(plain, PICTURES, len(PICTURES)))


def features(model: bytes) -> np.ndarray:
    return Session(model).run(PICTURES, ["feature_map"])["feature_map"]


def values_of(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """Return what values of a graph are that hang on no picture."""
    shown = onnx.ModelProto.FromString(model.SerializeToString())
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    return Session(shown.SerializeToString()).run(PICTURES[:1], names)


def test_the_graph_is_close_and_holds_bytes(plain: onnx.ModelProto, observed: Observed) -> None:
    model = quantize(plain, observed)
    inspect_model(model)
    made = onnx.load_model_from_string(model)
    onnx.checker.check_model(made, full_check=True)
    weights = [array for array in made.graph.initializer if array.data_type == onnx.TensorProto.INT8]
    assert len(weights) == len(convolutions(plain)) == 4
    kept = {node.input[0]: node.input[1] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    steps = values_of(made, [kept[array.name] for array in weights])
    for layer, array in zip(convolutions(plain), weights, strict=True):
        levels = numpy_helper.to_array(array).astype(np.float64)
        flat = layer.weight.reshape(len(levels), -1)
        step = steps[kept[array.name]][:, None]
        assert np.abs(levels.reshape(len(levels), -1) * step - flat).max() <= 0.5001 * step.max()
        largest = np.abs(flat).max(axis=1, keepdims=True)
        assert (step * 127 >= 0.99999 * largest).all()
        assert (step * 127 <= 1.05 * largest).all()
    before, after = features(plain.SerializeToString()), features(model)
    assert np.linalg.norm(after - before) < 0.03 * np.linalg.norm(before)


def test_cutting_off_is_left_to_rounding(plain: onnx.ModelProto, observed: Observed) -> None:
    operators = [node.op_type for node in onnx.load_model_from_string(quantize(plain, observed)).graph.node]
    assert "Clip" not in operators
    assert "Relu" not in operators


def test_no_channel_is_off_on_average(plain: onnx.ModelProto, observed: Observed) -> None:
    """Weights alone are rounded by a step so coarse that only the bias can make up for it."""
    layer = convolutions(plain)[2]
    outlier = layer.weight.copy()
    outlier[:, 0] = 40.0
    changed = onnx.ModelProto.FromString(plain.SerializeToString())
    for array in changed.graph.initializer:
        if array.name == layer.node.input[1]:
            array.CopyFrom(numpy_helper.from_array(outlier, array.name))
    seen = finish(observe(changed, PICTURES, len(PICTURES)))
    without = dataclasses.replace(seen, means={key: 0 * value for key, value in seen.means.items()})
    meant = features(changed.SerializeToString())
    off, mended = (
        np.abs((features(quantize(changed, one)) - meant).mean(axis=(0, 2, 3))).mean() for one in (without, seen)
    )
    assert mended < 0.4 * off


def test_layers_stay_in_float_where_asked(plain: onnx.ModelProto, observed: Observed) -> None:
    names = [layer.node.output[0] for layer in convolutions(plain)]
    everything = quantize(plain, observed, names)
    np.testing.assert_array_equal(features(everything), features(plain.SerializeToString()))
    some = onnx.load_model_from_string(quantize(plain, observed, names[1:2]))
    assert sum(array.data_type == onnx.TensorProto.INT8 for array in some.graph.initializer) == 3
    onnx.checker.check_model(some, full_check=True)
    before = features(plain.SerializeToString())
    assert np.linalg.norm(features(some.SerializeToString()) - before) < 0.03 * np.linalg.norm(before)


def test_ranges_and_means_are_those_of_a_plain_loop(plain: onnx.ModelProto, observed: Observed) -> None:
    layer = convolutions(plain)[1]
    source, weight = layer.node.input[0], layer.weight
    shown = onnx.ModelProto.FromString(plain.SerializeToString())
    shown.graph.output.append(onnx.helper.make_tensor_value_info(source, onnx.TensorProto.FLOAT, None))
    values = Session(shown.SerializeToString()).run(PICTURES, [source])[source]
    assert observed.ranges[source][0] == 0.0
    assert 0.3 * values.max() <= observed.ranges[source][1] <= values.max()
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = values.shape[2]
    taps = [padded[:, :, r : r + side, c : c + side].mean(axis=(0, 2, 3)) for r in range(3) for c in range(3)]
    np.testing.assert_allclose(observed.means[layer.node.output[0]], np.stack(taps, axis=1), atol=1e-5)
    assert weight.shape[1] == 1


def test_values_far_out_are_cut_off_where_that_makes_the_rest_finer() -> None:
    """One value of millions lies at 16, some of the rest beyond 4: 255 steps are better spent on these."""
    values = np.abs(np.random.default_rng(5).normal(0, 1, 60000)).astype(np.float32)
    low, high = best_range(values, 0.0, 16.0)
    assert low == 0.0
    assert 3.0 < high < 8.0

    def error(top: float) -> float:
        step = top / 255
        return float(np.square(np.clip(np.rint(values / step), 0, 255) * step - values).mean())

    assert error(high) < 0.3 * error(16.0)
    assert best_range(np.linspace(0, 6, 10000, dtype=np.float32), 0.0, 6.0) == (0.0, 6.0)


def test_a_linear_head_is_in_8_bits_and_told_as_it_then_is(plain: onnx.ModelProto) -> None:
    draws = np.random.default_rng(1)
    head = Head(draws.normal(0, 1, (WIDTH, 5)).astype(np.float32), draws.normal(0, 1, 5).astype(np.float32))
    whole = onnx.load_model_from_string(compose(trunk(), head, SIDE))
    seen = finish(observe(whole, PICTURES, len(PICTURES)))
    model = quantize(whole, seen)
    told = head_of(model)
    assert told is not None
    found = Session(model).run(PICTURES, ["embedding", "logits"])
    np.testing.assert_allclose(found["logits"], told.logits(found["embedding"]), atol=1e-4)
    assert 0 < np.abs(told.weight - head.weight).max() < np.abs(head.weight).max() / 200
    meant, given = (one.logits(seen.embedding[None].astype(np.float32)) for one in (head, told))
    np.testing.assert_allclose(given, meant, atol=1e-4)
    left = head_of(whole.SerializeToString())
    assert left is not None
    np.testing.assert_array_equal(left.weight, head.weight)


def test_half_the_weights_are_half_as_long_and_nearly_the_same(plain: onnx.ModelProto) -> None:
    whole = plain.SerializeToString()
    half = halved(whole)
    inspect_model(half)
    arrays = onnx.load_model_from_string(half).graph.initializer
    assert {array.data_type for array in arrays if np.prod(array.dims) >= 64} == {onnx.TensorProto.FLOAT16}
    np.testing.assert_allclose(features(half), features(whole), atol=5e-3)
    assert not np.array_equal(features(half), features(whole))
