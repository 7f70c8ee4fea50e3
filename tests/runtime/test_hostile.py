"""Hostile bundles with digests that are right: each is refused in one sentence, and nothing in it runs."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tellapart.errors import BundleError
from tellapart.runtime import Bundle
from tellapart.runtime.onnx_bytes import inspect_model
from tests.corpus.bundles import ARRAYS, Evil, Runs


@pytest.fixture
def evil(tiny_bundle: Path, tmp_path: Path) -> Evil:
    canary = tmp_path / "canary.bin"
    canary.write_bytes(b"\0" * 4096)
    os.utime(canary, ns=(1, 1))
    return Evil(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")), canary)


def _refused(evil: Evil, *codes: str) -> None:
    before = evil.canary.stat()
    with pytest.raises(BundleError) as refused:
        Bundle(evil.path)
    assert refused.value.code in codes, str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    after = evil.canary.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
    assert after.st_atime_ns == before.st_atime_ns


def _reader_refuses(evil: Evil, code: str) -> None:
    """The reader says no by itself, before onnxruntime is asked, which would refuse some of these too."""
    with pytest.raises(BundleError) as refused:
        inspect_model((evil.path / "model.onnx").read_bytes())
    assert refused.value.code == code, str(refused.value)
    _refused(evil, code)


def test_the_bench_itself_seals_what_loads(evil: Evil) -> None:
    evil.card()
    assert Bundle(evil.path).classes == ("ants", "bees")


def test_an_unlisted_file_or_folder(evil: Evil) -> None:
    (evil.path / "weights.bin").write_bytes(b"1")
    _refused(evil, "bundle_unlisted_file")
    (evil.path / "weights.bin").unlink()
    (evil.path / "inner").mkdir()
    _refused(evil, "bundle_unlisted_file")


@pytest.mark.parametrize("name", ["card.json", "model.onnx", ARRAYS])
def test_a_link_in_place_of_a_file(evil: Evil, name: str) -> None:
    shutil.move(evil.path / name, evil.path.parent / name)
    (evil.path / name).symlink_to(evil.path.parent / name)
    _refused(evil, "bundle_not_a_file")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_a_file_does_not_hang(evil: Evil) -> None:
    (evil.path / "model.onnx").unlink()
    os.mkfifo(evil.path / "model.onnx")
    _refused(evil, "bundle_not_a_file")


def test_a_folder_in_place_of_a_file(evil: Evil) -> None:
    (evil.path / "model.onnx").unlink()
    (evil.path / "model.onnx").mkdir()
    _refused(evil, "bundle_not_a_file")


@pytest.mark.parametrize("place", ["../canary.bin", "ABSOLUTE", "reference.safetensors", "card.json"])
def test_weights_in_another_file(evil: Evil, place: str) -> None:
    def point_outside(model: onnx.ModelProto) -> None:
        weight = next(array for array in model.graph.initializer if array.name == "head_weight")
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=str(evil.canary) if place == "ABSOLUTE" else place)

    evil.model(point_outside)
    _reader_refuses(evil, "bundle_external_data")


def test_weights_in_another_file_hidden_in_an_attribute(evil: Evil) -> None:
    def hide(model: onnx.ModelProto) -> None:
        outside = TensorProto(data_type=1, dims=[3, 2], data_location=TensorProto.EXTERNAL)
        outside.external_data.add(key="location", value="../canary.bin")
        branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=outside)], "b", [], [])
        model.graph.node.append(helper.make_node("If", ["x"], [], then_branch=branch, else_branch=branch))

    evil.model(hide)
    _reader_refuses(evil, "bundle_external_data")


def test_weights_in_another_file_said_with_an_oversized_number(evil: Evil) -> None:
    # protobuf keeps the low 32 bits of an enum: 2**32 + 1 is EXTERNAL to onnxruntime.
    tensor = b"\x08\x01\x10\x01\x70" + bytes([0x81, 0x80, 0x80, 0x80, 0x10]) + b"\x4a\x04\0\0\0\0"
    assert TensorProto.FromString(tensor).data_location == TensorProto.EXTERNAL
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    (evil.path / "model.onnx").write_bytes(b"\x3a" + bytes([len(graph)]) + graph)
    evil.card()
    _reader_refuses(evil, "bundle_external_data")


def test_operators_of_someones_own(evil: Evil) -> None:
    def add(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node("EPContext", [], ["c"], domain="com.microsoft"))

    evil.model(add)
    _reader_refuses(evil, "bundle_model")


def test_a_loop_that_never_ends(evil: Evil) -> None:
    def add(model: onnx.ModelProto) -> None:
        body = helper.make_graph([], "b", [], [])
        model.graph.node.append(helper.make_node("Loop", ["", "true"], ["c"], body=body))

    evil.model(add)
    _reader_refuses(evil, "bundle_model")


def test_functions_of_its_own(evil: Evil) -> None:
    evil.model(lambda model: model.functions.add(name="f", domain="x"))
    _reader_refuses(evil, "bundle_model")


def test_training_graphs(evil: Evil) -> None:
    evil.model(lambda model: model.training_info.add())
    _reader_refuses(evil, "bundle_model")


@pytest.mark.parametrize(
    ("dims", "code"),
    [
        ([2**31, 2**31], "bundle_size"),
        ([2**62, 4], "bundle_size"),
        ([3, 3], "bundle_size"),
        ([0, 2], "bundle_size"),
        ([-1, 2], "bundle_model"),
        ([1] * 70, "bundle_model"),
    ],
)
def test_dimensions_that_do_not_fit_the_bytes(evil: Evil, dims: list[int], code: str) -> None:
    def lie(model: onnx.ModelProto) -> None:
        weight = next(array for array in model.graph.initializer if array.name == "head_weight")
        weight.ClearField("dims")
        weight.dims.extend(dims)

    evil.model(lie)
    _reader_refuses(evil, code)


@pytest.mark.parametrize("field", ["float_data", "nothing"])
def test_dimensions_that_do_not_fit_typed_data(evil: Evil, field: str) -> None:
    def lie(model: onnx.ModelProto) -> None:
        array = model.graph.initializer.add(name="big", data_type=1, dims=[100_000, 10_000])
        if field == "float_data":
            array.float_data.extend([1.0, 2.0])

    evil.model(lie)
    _reader_refuses(evil, "bundle_size")


def test_sparse_weights(evil: Evil) -> None:
    evil.model(lambda model: model.graph.sparse_initializer.add(dims=[2**40]))
    _reader_refuses(evil, "bundle_model")


def test_graphs_within_graphs_without_end(evil: Evil) -> None:
    def nest(model: onnx.ModelProto) -> None:
        graph = helper.make_graph([], "g", [], [])
        for _ in range(25):
            graph = helper.make_graph([helper.make_node("If", ["x"], [], then_branch=graph)], "g", [], [])
        model.graph.node.extend(graph.node)

    evil.model(nest)
    _reader_refuses(evil, "bundle_model")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04.", b"\xff" * 64, b"PK\x03\x04" + b"\0" * 60, b"\x3a\xff\xff\xff\xff\x0f"]
)
def test_bytes_that_are_no_model(evil: Evil, content: bytes) -> None:
    (evil.path / "model.onnx").write_bytes(content)
    evil.card()
    _reader_refuses(evil, "bundle_model")


@pytest.mark.parametrize("name", ["model.onnx", ARRAYS, "selftest.safetensors"])
def test_a_pickle_under_another_name_is_not_run(evil: Evil, name: str) -> None:
    (evil.path / name).write_bytes(pickle.dumps(Runs(os.unlink, str(evil.canary))))
    evil.card()
    _refused(evil, "bundle_model", "bundle_arrays")
    assert evil.canary.exists()


@pytest.mark.parametrize("name", [ARRAYS, "selftest.safetensors"])
@pytest.mark.parametrize(
    "header",
    [
        b'{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000]}}',
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
        b'{"x":{"dtype":"PICKLE","shape":[1],"data_offsets":[0,4]}}',
        b"[" * 5000,
    ],
)
def test_array_headers_that_lie(evil: Evil, name: str, header: bytes) -> None:
    (evil.path / name).write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    evil.card()
    _refused(evil, "bundle_arrays")


def test_a_huge_array_header(evil: Evil) -> None:
    (evil.path / ARRAYS).write_bytes((2**63 - 1).to_bytes(8, "little") + b"{}")
    evil.card()
    _refused(evil, "bundle_arrays")


_OTHERS: dict[str, np.ndarray | None] = {
    "other_embeddings": np.ones((5, 3), np.int8),
    "other_scales": np.ones(5, np.float32),
    "other_labels": np.zeros(5, np.int64),
    "other_digests": np.arange(5, dtype=np.uint64),
    "reference_lengths": np.ones(24, np.float32),
    "reference_digests": np.arange(24, dtype=np.uint64),
}


def test_embeddings_to_learn_beside_are_taken(evil: Evil) -> None:
    evil.arrays(ARRAYS, **_OTHERS)
    kept = Bundle(evil.path).reference.learned_beside()
    assert kept is not None
    assert len(kept.embeddings) == 29


@pytest.mark.parametrize(
    "changes",
    [
        {"head_weight": None},
        {"extra": np.zeros(1, np.float32)},
        {"head_weight": np.zeros((4, 2), np.float32)},
        {"head_weight": np.zeros((3, 2), np.float64)},
        {"head_bias": np.array([np.nan, 0], np.float32)},
        {"novelty_mean": np.array([np.inf, 0, 0], np.float32)},
        {"novelty_quantiles": np.array([1, 0], np.float32)},
        {"novelty_quantiles": np.zeros(0, np.float32)},
        {"reference_labels": np.full(24, 7)},
        {"reference_labels": np.full(24, -1)},
        {"thumbnails": np.zeros(23, np.uint8)},
        {"thumbnails": None},
        {"thumbnail_ends": np.arange(24)},
        {"novelty_reference": np.zeros((2001, 3), np.float16), "reference_labels": np.zeros(2001, np.int64)},
        _OTHERS | {"reference_lengths": np.full(24, -1, np.float32)},
        _OTHERS | {"reference_lengths": np.ones(23, np.float32)},
        _OTHERS | {"reference_lengths": np.full(24, 3e38, np.float32)},
        _OTHERS | {"reference_digests": None},
        _OTHERS | {"reference_lengths": None, "reference_digests": None},
        _OTHERS | {"other_scales": np.full(5, 1e20, np.float32)},
        {"other_embeddings": np.ones((5, 3), np.int8)},
        _OTHERS | {"other_labels": np.full(5, 2)},
        _OTHERS | {"other_scales": np.full(5, -1, np.float32)},
        _OTHERS | {"other_embeddings": np.ones((5, 4), np.int8)},
        _OTHERS
        | {
            "other_embeddings": np.ones((3001, 3), np.int8),
            "other_scales": np.ones(3001, np.float32),
            "other_labels": np.zeros(3001, np.int64),
            "other_digests": np.arange(3001, dtype=np.uint64),
        },
    ],
)
def test_reference_arrays_that_do_not_fit(evil: Evil, changes: dict[str, np.ndarray | None]) -> None:
    evil.arrays(ARRAYS, **changes)
    _refused(evil, "bundle_arrays")


_BLEND = {
    "novelty_methods": np.array([3, 1]),
    "novelty_centre": np.zeros((2, 2), np.float32),
    "novelty_weight": np.ones((2, 2), np.float32),
    "novelty_gaussian_mean": np.zeros(3, np.float32),
    "novelty_gaussian_project": np.eye(3, dtype=np.float32)[:, :2].copy(),
    "novelty_gaussian_centres": np.zeros((3, 2), np.float32),
    "novelty_gaussian_variance": np.ones(2, np.float32),
}


def test_a_blend_of_novelty_scores_that_fits(evil: Evil) -> None:
    evil.arrays(ARRAYS, **_BLEND)
    scorer = Bundle(evil.path).reference.novelty()
    embedding, logits = np.array([3, 4, 5], np.float32), np.zeros(2, np.float32)
    assert scorer.raw(embedding, logits) == pytest.approx(25.0 - np.log(2.0))


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in _BLEND),
        {"novelty_methods": np.array([3, 99])},
        {"novelty_methods": np.array([3, -1])},
        {"novelty_methods": np.array([1, 1])},
        {"novelty_methods": np.array([3, 4])},
        {"novelty_weight": np.full((2, 2), np.inf, np.float32)},
        {"novelty_weight": np.ones((2, 3), np.float32)},
        {"novelty_gaussian_centres": np.zeros((1, 2), np.float32)},
        {"novelty_gaussian_variance": np.zeros(2, np.float32)},
        {"novelty_gaussian_project": np.zeros((4, 2), np.float32)},
    ],
)
def test_a_blend_of_novelty_scores_that_does_not_fit(evil: Evil, changes: dict[str, np.ndarray | None]) -> None:
    evil.arrays(ARRAYS, **{**_BLEND, **changes})
    _refused(evil, "bundle_arrays")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"images": np.zeros((8, 17, 17, 3), np.uint8)}, "bundle_arrays"),
        ({"images": np.zeros((9, 16, 16, 3), np.uint8), "logits": np.zeros((9, 2), np.float32)}, "bundle_arrays"),
        ({"images": np.zeros((0, 16, 16, 3), np.uint8), "logits": np.zeros((0, 2), np.float32)}, "bundle_arrays"),
        ({"logits": np.zeros((8, 3), np.float32)}, "bundle_classes"),
        ({"logits": np.full((8, 2), np.nan, np.float32)}, "bundle_arrays"),
        ({"logits": np.zeros((8, 2), np.float32)}, "bundle_selftest"),
    ],
)
def test_self_tests_that_do_not_fit_or_fail(evil: Evil, changes: dict[str, np.ndarray | None], code: str) -> None:
    evil.arrays("selftest.safetensors", **changes)
    _refused(evil, code)


def test_another_normalisation_fails_the_self_test(evil: Evil) -> None:
    def shift(model: onnx.ModelProto) -> None:
        full = next(array for array in model.graph.initializer if array.name == "full")
        full.CopyFrom(helper.make_tensor("full", TensorProto.FLOAT, [], [250.0]))

    evil.model(shift)
    _refused(evil, "bundle_selftest")


@pytest.mark.parametrize("classes", [["ants"], ["ants", "bees", "wasps"], ["ants", "ants"]])
def test_a_list_of_classes_of_another_length(evil: Evil, classes: list[str]) -> None:
    evil.card(lambda card: card.update(classes=classes))
    _refused(evil, "bundle_classes")


def test_another_picture_size_than_the_graphs(evil: Evil) -> None:
    evil.card(lambda card: card["preprocess"].update(image_size=32))
    _refused(evil, "bundle_model")


def test_outputs_that_the_graph_does_not_have(evil: Evil) -> None:
    evil.card(lambda card: card.update(outputs=["logits", "embedding", "attention"]))
    _refused(evil, "bundle_model")


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": "NaN"},
        {"classes": "ants"},
        {"news": True},
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"thresholds": {"min_prob": 2}},
        {"preprocess": {"image_size": 10**9}},
        {"sizes": {"model.onnx": -1}},
        {"sizes": {"model.onnx": 2**40, "reference.safetensors": 1, "selftest.safetensors": 1}},
        {"digests": {"card.json": "0" * 64}},
    ],
)
def test_cards_with_wrong_values(evil: Evil, change: dict[str, Any]) -> None:
    evil.card(lambda card: card.update(change))
    _refused(evil, "bundle_card")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff\xfe{}",
        b'{"version": 1, "temperature": NaN}',
        b'{"version": 1, "temperature": -Infinity}',
        b'{"version": 1, "temperature": 1e999}',
        b'{"version": 1, "version": 1}',
        b'{"version": ' + b"9" * 5000 + b"}",
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 200_000,
        b'{"recipe": ' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_cards_that_are_not_strict_json(evil: Evil, raw: bytes) -> None:
    evil.card(raw=raw)
    _refused(evil, "bundle_card")
    with pytest.raises(BundleError, match=r"strict JSON|not an object"):
        Bundle(evil.path)


def test_a_huge_card_is_not_read(evil: Evil) -> None:
    with (evil.path / "card.json").open("ab") as file:
        file.truncate(2**34)
    _refused(evil, "bundle_size")


def test_a_file_larger_than_the_card_says_is_not_read(evil: Evil) -> None:
    with (evil.path / "model.onnx").open("ab") as file:
        file.truncate(2**34)
    _refused(evil, "bundle_size")


def test_a_card_without_a_seal_is_refused(evil: Evil) -> None:
    value = json.loads((evil.path / "card.json").read_bytes())
    del value["digests"]["card.json"]
    (evil.path / "card.json").write_text(json.dumps(value))
    _refused(evil, "bundle_card")


def test_a_mutilated_model_is_read_or_refused_and_nothing_else(tiny_bundle: Path) -> None:
    content = (tiny_bundle / "model.onnx").read_bytes()
    random = np.random.default_rng(3)
    for _ in range(3000):
        changed = bytearray(content)
        for _ in range(int(random.integers(1, 4))):
            changed[int(random.integers(len(changed)))] = int(random.integers(256))
        cut = bytes(changed[: int(random.integers(1, len(changed) + 1))])
        with contextlib.suppress(BundleError):
            inspect_model(cut)
