from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tellapart.errors import InputError, MissingExtraError, RecipeError, TellapartError
from tellapart.events import Note
from tellapart.images import prepare
from tellapart.learn.backbones import default_backbone, find_weights, names_at_hand
from tellapart.learn.backbones_export import cached_graph, fetch_weights, start_export
from tellapart.learn.rungs import Pictures
from tellapart.runtime.session import Session

Run = Callable[..., Any]
NAME = "test_efficientnet"


@pytest.fixture(autouse=True)
def at_hand(weights_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a test puts there is at hand."""
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(weights_root))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def in_hub(weights_root: Path, hub: Path, name: str, revision: str = "abc") -> Path:
    repository = hub / f"models--timm--{name}"
    snapshot = repository / "snapshots" / revision
    snapshot.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(weights_root / NAME, snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    return snapshot


def small_copy(root: Path, name: str, shapes: dict[str, list[int]], **config: Any) -> None:
    """A backbone's folder with tensors of these shapes, all zero; nothing loads it."""
    from safetensors.numpy import save_file

    (root / name).mkdir(parents=True)
    save_file(
        {key: np.zeros(shape, dtype=np.float16) for key, shape in shapes.items()}, root / name / "model.safetensors"
    )
    (root / name / "config.json").write_text(json.dumps({"architecture": "any", "pretrained_cfg": config}))


def test_weights_are_found_by_name_with_what_they_say_of_themselves(weights_root: Path) -> None:
    weights = find_weights(NAME)
    assert weights is not None
    assert (weights.name, weights.folder, weights.licence) == (NAME, weights_root / NAME, "mit")
    assert weights.image_size == 64
    assert names_at_hand() == [NAME]


def test_a_local_folder_is_named_after_its_network_and_not_after_its_place(weights_root: Path, tmp_path: Path) -> None:
    shutil.copytree(weights_root / NAME, tmp_path / "secret")
    weights = find_weights(f"local-dir:{tmp_path / 'secret'}")
    assert weights is not None
    assert weights.name == NAME


def test_the_hub_s_cache_is_looked_into_and_its_tags_may_be_left_out(
    weights_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS")
    in_hub(weights_root, tmp_path / "hub", "resnet18.a1_in1k", "old")
    newest = in_hub(weights_root, tmp_path / "hub", "resnet18.a1_in1k", "new")
    for name in ("resnet18", "resnet18.a1_in1k"):
        weights = find_weights(name)
        assert weights is not None
        assert (weights.name, weights.folder) == ("resnet18.a1_in1k", newest)


def test_weights_in_pickles_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path))
    (tmp_path / "resnet18").mkdir()
    (tmp_path / "resnet18" / "config.json").write_text('{"architecture": "resnet18"}')
    (tmp_path / "resnet18" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    assert find_weights("resnet18") is None
    with pytest.raises(RecipeError, match=r"model\.safetensors"):
        find_weights(f"local-dir:{tmp_path / 'resnet18'}")


@pytest.mark.parametrize(("typo", "meant"), [("test_eficientnet", NAME), ("resnett50", "resnet50")])
def test_a_typo_is_answered_with_the_name_that_was_meant(typo: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=rf"Did you mean '{meant}'\? At hand are {NAME}"):
        find_weights(typo)


def test_a_name_that_timm_knows_is_no_typo() -> None:
    assert find_weights("resnet50") is None
    assert find_weights("resnet50.a1_in1k") is None


def test_one_byte_more_is_another_digest(weights_root: Path, tmp_path: Path) -> None:
    shutil.copytree(weights_root / NAME, tmp_path / "copy")
    same = find_weights(f"local-dir:{tmp_path / 'copy'}")
    config = tmp_path / "copy" / "config.json"
    config.write_text(config.read_text() + " ")
    other = find_weights(f"local-dir:{tmp_path / 'copy'}")
    original = find_weights(NAME)
    assert same is not None
    assert other is not None
    assert original is not None
    assert same.digest == original.digest != other.digest


def test_the_default_has_the_most_parameters_besides_its_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "some"))
    small_copy(tmp_path / "some", "zeta", {"stem.weight": [64, 3, 3, 3]})
    small_copy(tmp_path / "some", "alpha", {"stem.weight": [8, 3, 3, 3], "fc.weight": [9000, 8]}, classifier="fc")
    assert default_backbone() == "zeta"
    assert default_backbone(num_pictures=10**12, seconds=1.0) == "alpha"
    assert default_backbone(num_pictures=1, seconds=1.0) == "zeta"


def test_with_nothing_at_hand_there_is_no_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(tmp_path / "nowhere"))
    assert default_backbone() is None


def test_a_closed_network_costs_little_and_is_said_in_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        seen: list[Any] = []
        began = time.monotonic()
        assert run(fetch_weights("resnet18"), seen) is None
    assert time.monotonic() - began < 5
    assert len(seen) == 1
    assert isinstance(seen[0], Note)
    assert seen[0].text == (
        "No weights of resnet18 are in $TELLAPART_WEIGHTS or in the hub's cache; 127.0.0.1 cannot be reached from here."
    )


def test_offline_is_heeded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seen: list[Any] = []
    assert run(fetch_weights("resnet18"), seen) is None
    assert "HF_HUB_OFFLINE is set" in seen[0].text


def test_a_graph_gives_what_timm_gives_of_normalised_pictures(
    exported: tuple[Any, Path], weights_root: Path, photo_pictures: Pictures
) -> None:
    import torch

    from tellapart.learn.torch_export import import_timm

    graph, _ = exported
    model = import_timm().create_model(f"local-dir:{weights_root / NAME}", pretrained=True, num_classes=0).eval()
    images = np.stack([prepare(file, graph.preprocess("squash")) for file in photo_pictures.files[::12]])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected_map = model.forward_features((pixels - mean) / std).numpy()
        expected = model((pixels - mean) / std).numpy()
    given = Session(graph.model).run(images)
    np.testing.assert_allclose(given["embedding"], expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(given["feature_map"], expected_map, atol=1e-4 * np.abs(expected_map).max())
    assert given["embedding"].shape[1] == graph.width


def test_a_graph_says_how_pictures_are_made_ready(exported: tuple[Any, Path]) -> None:
    graph, _ = exported
    preprocess = graph.preprocess("pad", at_least_px=96)
    assert (preprocess.image_size, preprocess.at_least_px, preprocess.resize_policy) == (64, 96, "pad")
    assert (preprocess.interpolation, preprocess.mean, preprocess.std) == (
        "bilinear",
        (0.4, 0.5, 0.6),
        (0.2, 0.25, 0.3),
    )
    assert (graph.name, graph.licence, graph.exporter) == (NAME, "mit", "torchscript")


def test_a_graph_is_cached_and_then_no_child_is_started(run: Run, exported: tuple[Any, Path]) -> None:
    graph, cache = exported
    weights = find_weights(NAME)
    assert weights is not None
    export = start_export(weights, None, cache)
    assert export.cached
    assert run(export.wait()).model == graph.model
    assert cached_graph(weights, 96, cache) is None


@pytest.mark.parametrize("damage", ["flip a bit", "cut", "no sidecar"])
def test_a_damaged_graph_is_not_used(exported: tuple[Any, Path], tmp_path: Path, damage: str) -> None:
    _, cache = exported
    shutil.copytree(cache, tmp_path / "cache")
    (file,) = (tmp_path / "cache" / "graphs").glob("*.onnx")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "no sidecar":
        file.with_suffix(".json").unlink()
    else:
        file.write_bytes(content if damage == "flip a bit" else content[:-9])
    weights = find_weights(NAME)
    assert weights is not None
    assert cached_graph(weights, None, tmp_path / "cache") is None


def test_an_exported_graph_tells_nothing_of_the_machine(exported: tuple[Any, Path]) -> None:
    graph, _ = exported
    model = onnx.load_model_from_string(graph.model)
    onnx.checker.check_model(model, full_check=True)
    assert not model.metadata_props
    assert not model.doc_string
    assert not model.producer_version
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert model.opset_import[0].version >= 17
    for secret in (str(Path.home()), str(Path(onnx.__file__).parents[1]), "site-packages", ".py"):
        assert secret.encode() not in graph.model


def test_whatever_an_exporter_writes_beside_the_graph_is_taken_out(exported: tuple[Any, Path]) -> None:
    from tellapart.learn.torch_export import stripped

    graph, _ = exported
    model = onnx.load_model_from_string(graph.model)
    secret = "/home/someone/models.py"
    model.metadata_props.add(key="pkg.torch", value=secret)
    model.producer_version = model.domain = model.graph.doc_string = secret
    for part in (model.graph.node[0], model.graph.input[0], model.graph.output[0], model.graph.initializer[0]):
        part.doc_string = secret
        part.metadata_props.add(key="stack", value=secret)
    assert stripped(model.SerializeToString()) == graph.model


def test_two_exports_are_the_same_bytes(exported: tuple[Any, Path], weights_root: Path) -> None:
    from tellapart.learn.torch_export import export, load_trunk

    graph, _ = exported
    assert export(load_trunk(weights_root / NAME, 64), 64)[0] == graph.model


def test_a_graph_that_differs_from_torch_is_not_taken(weights_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellapart.learn import torch_export

    trunk = torch_export.load_trunk(weights_root / NAME, 64)
    right = torch_export._traced(trunk, 64)

    def wrong(*_: Any) -> bytes:
        model = onnx.load_model_from_string(right)
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
        values = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        text: bytes = model.SerializeToString()
        return text

    monkeypatch.setattr(torch_export, "_traced", wrong)
    monkeypatch.setattr(torch_export, "_compiled", lambda *_: right)
    assert torch_export.export(trunk, 64)[1] == "dynamo"
    monkeypatch.setattr(torch_export, "_compiled", wrong)
    with pytest.raises(Exception, match="differs from torch"):
        torch_export.export(trunk, 64)


def test_closing_an_export_ends_the_child_and_leaves_nothing(weights_root: Path, tmp_path: Path) -> None:
    weights = find_weights(NAME)
    assert weights is not None
    export = start_export(weights, None, tmp_path / "cache")
    assert export._child is not None
    child = export._child._process
    steps = export.wait()
    next(steps)
    steps.close()
    assert child.returncode is not None
    assert list((tmp_path / "cache" / "graphs").iterdir()) == []


def test_damaged_weights_are_refused_in_one_sentence(weights_root: Path, tmp_path: Path) -> None:
    from tellapart.learn.torch_export import load_trunk

    shutil.copytree(weights_root / NAME, tmp_path / "weights")
    tensors = tmp_path / "weights" / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(RecipeError, match="timm cannot load the backbone") as caught:
        load_trunk(tmp_path / "weights", 64)
    assert "\n" not in str(caught.value)


def test_what_the_child_refuses_is_raised_here_in_one_sentence(run: Run, weights_root: Path, tmp_path: Path) -> None:
    shutil.copytree(weights_root / NAME, tmp_path / "weights")
    weights = find_weights(f"local-dir:{tmp_path / 'weights'}")
    assert weights is not None
    shutil.rmtree(tmp_path / "weights")
    with pytest.raises(InputError, match=r"The backbone's folder .* is gone\. Choose") as caught:
        run(start_export(weights, None, tmp_path / "cache").wait())
    assert caught.value.code == "no_such_weights"


def test_what_goes_wrong_in_the_child_is_raised_here_in_one_sentence(run: Run, tmp_path: Path) -> None:
    weights = find_weights(NAME)
    assert weights is not None
    with pytest.raises(TellapartError, match=rf"{NAME} could not be exported \(ValueError: .*nonsense"):
        run(start_export(weights, "nonsense", tmp_path).wait())  # type: ignore[arg-type]


def test_without_torch_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    weights = find_weights(NAME)
    assert weights is not None
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"tellapart\[train\]"):
        start_export(weights, None, tmp_path)


def test_a_child_does_not_outlive_its_parent(weights_root: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tellapart.learn.backbones_child",
            "export",
            str(weights_root / NAME),
            "64",
            "never.onnx",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env={**os.environ},
    )
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(30) == 1
    assert not (tmp_path / "never.onnx").exists()
