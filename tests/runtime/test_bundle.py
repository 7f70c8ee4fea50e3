"""The contract of a bundle: its files, the fields of the card, the arrays, the graph; what damage is called."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tellapart.errors import BundleError
from tellapart.runtime import Bundle, Card
from tellapart.runtime.card import parse_card, seal_card


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def _code(path: Path) -> str:
    with pytest.raises(BundleError) as refused:
        Bundle(path)
    assert "\n" not in str(refused.value)
    assert refused.value.next
    return refused.value.code


def test_a_bundle_is_four_files(tiny_bundle: Path) -> None:
    names = sorted(file.name for file in tiny_bundle.iterdir())
    assert names == ["card.json", "model.onnx", "reference.safetensors", "selftest.safetensors"]


def test_the_card_has_the_fields_of_version_1(tiny_bundle: Path) -> None:
    card = json.loads((tiny_bundle / "card.json").read_bytes())
    assert list(card) == [
        "version", "classes", "preprocess", "method", "backbone", "backbone_licence", "metrics", "thresholds",
        "temperature", "recipe", "fingerprint", "lineage", "outputs", "digests", "sizes",
    ]  # fmt: skip
    assert card["version"] == 1
    assert card["classes"] == ["ants", "bees"]
    assert card["outputs"] == ["logits", "embedding", "feature_map"]
    assert card["metrics"] == {"val": {"n": 4, "accuracy": 1.0}, "test": None}
    assert card["thresholds"]["target_precision"] == 0.95
    assert {"parent", "created", "tellapart"} <= set(card["lineage"])
    assert set(card["digests"]) == {"card.json", "model.onnx", "reference.safetensors", "selftest.safetensors"}
    assert card["sizes"] == {name: (tiny_bundle / name).stat().st_size for name in card["sizes"]}


def test_the_arrays_have_the_names_types_and_shapes_of_version_1(tiny_bundle: Path) -> None:
    reference = load_file(tiny_bundle / "reference.safetensors")
    assert {name: (str(array.dtype), array.shape) for name, array in reference.items()} == {
        "head_weight": ("float32", (3, 2)),
        "head_bias": ("float32", (2,)),
        "novelty_reference": ("float16", (24, 3)),
        "novelty_mean": ("float32", (3,)),
        "novelty_quantiles": ("float32", (11,)),
        "reference_labels": ("int64", (24,)),
        "embedding_mean": ("float32", (3,)),
        "embedding_std": ("float32", (3,)),
        "class_priors": ("float32", (2,)),
        "brightness": ("float32", (2,)),
        "thumbnails": ("uint8", (10 * 14 + 14 * 15,)),
        "thumbnail_ends": ("int64", (24,)),
    }
    selftest = load_file(tiny_bundle / "selftest.safetensors")
    assert {name: (str(array.dtype), array.shape) for name, array in selftest.items()} == {
        "images": ("uint8", (8, 16, 16, 3)),
        "logits": ("float32", (8, 2)),
    }


def test_the_graph_takes_and_gives_what_the_contract_says(tiny_bundle: Path) -> None:
    bundle = Bundle(tiny_bundle)
    values = bundle.session.run(np.zeros((3, 16, 16, 3), np.uint8))
    shapes = {name: (str(value.dtype), value.shape) for name, value in values.items()}
    assert bundle.session.inputs == ("image",)
    assert shapes == {
        "logits": ("float32", (3, 2)),
        "embedding": ("float32", (3, 3)),
        "feature_map": ("float32", (3, 3, 16, 16)),
    }


def test_a_bundle_tells_what_is_in_it(tiny_bundle: Path) -> None:
    bundle = Bundle(str(tiny_bundle))
    assert bundle.path == tiny_bundle
    assert bundle.classes == ("ants", "bees")
    assert bundle.preprocess.image_size == 16
    assert bundle.card.temperature == 1.5
    assert bundle.model == (tiny_bundle / "model.onnx").read_bytes()
    assert [bundle.reference.thumbnail(number) for number in (0, 23)] == [b"a picture of 0", b"a picture of 23"]


def test_pictures_can_be_left_out(write_tiny_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", thumbnails=None)
    assert Bundle(bundle.path).reference.thumbnails is None
    assert Bundle(bundle.path).reference.thumbnail(0) is None


def test_a_sealed_card_reads_back_and_any_changed_byte_is_noticed(tiny_bundle: Path) -> None:
    content = (tiny_bundle / "card.json").read_bytes()
    card = parse_card(content)
    assert isinstance(card, Card)
    assert seal_card(card) == content
    for offset in range(len(content)):
        changed = bytearray(content)
        changed[offset] ^= 1 << (offset % 8)
        with pytest.raises(BundleError):
            parse_card(bytes(changed))


@pytest.mark.parametrize("name", ["model.onnx", "reference.safetensors", "selftest.safetensors"])
def test_a_flipped_bit_anywhere_is_noticed(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    for offset in [*range(0, len(content), max(1, len(content) // 25)), len(content) - 1]:
        changed = bytearray(content)
        changed[offset] ^= 1 << (offset % 8)
        (copy / name).write_bytes(changed)
        assert _code(copy) == "bundle_digest"


@pytest.mark.parametrize("name", ["model.onnx", "reference.safetensors", "selftest.safetensors", "card.json"])
def test_a_shortened_or_missing_file_is_noticed(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1])
    assert _code(copy) in {"bundle_size", "bundle_digest"}
    (copy / name).unlink()
    assert _code(copy) == "bundle_missing_file"


def test_what_is_not_a_bundle_is_named(copy: Path, tmp_path: Path) -> None:
    assert _code(tmp_path / "absent") == "bundle_not_a_folder"
    assert _code(copy / "card.json") == "bundle_not_a_folder"
    assert _code(tmp_path) == "bundle_missing_file"


def test_the_folder_of_a_run_leads_to_the_bundle_in_it(copy: Path) -> None:
    with pytest.raises(BundleError, match="Did you mean") as refused:
        Bundle(copy.parent)
    assert str(copy) in str(refused.value)


def test_a_bundle_from_a_newer_version_names_the_version_to_install(copy: Path) -> None:
    value = json.loads((copy / "card.json").read_bytes())
    value |= {"version": 2, "news": 1, "lineage": {"tellapart": "3.4.0"}}
    (copy / "card.json").write_text(json.dumps(value))
    with pytest.raises(BundleError) as refused:
        Bundle(copy)
    assert refused.value.code == "bundle_newer"
    assert "3.4.0" in str(refused.value)
