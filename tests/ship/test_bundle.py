"""Writing a bundle: whole or not at all, equal to what was trained, the same bytes every time."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tellapart.errors import BundleError, GateError
from tellapart.learn.rungs import Fitted, Head
from tellapart.runtime import Bundle
from tellapart.runtime.answers import softmax
from tellapart.ship import with_metrics

Write = Callable[..., Bundle]


def test_what_is_written_is_what_was_trained(write_tiny_bundle: Write, tiny_fitted: Fitted, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", temperature=2.0)
    images = np.random.default_rng(2).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    for image in images:
        values = bundle.session.run(image[None])
        trained = tiny_fitted.head.logits(values["embedding"]) / 2.0
        np.testing.assert_allclose(values["logits"], trained, atol=1e-5)
        np.testing.assert_allclose(softmax(values["logits"]), softmax(trained), atol=1e-6)
    train = tiny_fitted.embeddings["train"]
    np.testing.assert_allclose(bundle.reference.embedding_mean, train.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(bundle.reference.embedding_std, train.std(axis=0), rtol=1e-5)
    assert bundle.reference.class_priors.sum() == pytest.approx(1.0)
    assert bundle.reference.brightness.tolist() == [120.0, 30.0]


def test_the_bundle_returned_is_the_one_on_disk(write_tiny_bundle: Write, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    again = Bundle(tmp_path / "bundle")
    assert bundle.path == again.path
    assert bundle.card == again.card
    assert bundle.model == again.model


def test_the_same_run_gives_the_same_bytes(write_tiny_bundle: Write, tmp_path: Path) -> None:
    paths = [write_tiny_bundle(tmp_path / name).path for name in ("one", "two")]
    for file in paths[0].iterdir():
        assert file.read_bytes() == (paths[1] / file.name).read_bytes()


def test_a_bundle_replaces_an_older_one_and_leaves_nothing_beside_it(write_tiny_bundle: Write, tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "bundle", fingerprint="old")
    write_tiny_bundle(tmp_path / "bundle", fingerprint="new")
    assert Bundle(tmp_path / "bundle").card.fingerprint == "new"
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_bundle_that_answers_otherwise_than_training_is_not_handed_out(
    write_tiny_bundle: Write, tmp_path: Path
) -> None:
    old = write_tiny_bundle(tmp_path / "bundle", fingerprint="old")
    with pytest.raises(GateError) as refused:
        write_tiny_bundle(old.path, selftest_embeddings=np.full((8, 3), 0.3, np.float32))
    assert refused.value.code == "parity"
    assert refused.value.exit_code == 3
    assert Bundle(old.path).card.fingerprint == "old"
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_head_with_numbers_that_are_not_finite_is_not_handed_out(
    write_tiny_bundle: Write, tiny_fitted: Fitted, tmp_path: Path
) -> None:
    assert isinstance(tiny_fitted.head, Head)
    broken = dataclasses.replace(tiny_fitted, head=Head(tiny_fitted.head.weight * np.nan, tiny_fitted.head.bias))
    with pytest.raises(GateError) as refused:
        write_tiny_bundle(tmp_path / "bundle", fitted=broken)
    assert refused.value.code == "not_finite"
    assert os.listdir(tmp_path) == []


def test_metrics_are_put_into_the_card_and_nothing_else_changes(write_tiny_bundle: Write, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", metrics=None)
    before = {file.name: file.read_bytes() for file in bundle.path.iterdir()}
    with_metrics(bundle.path, {"val": {"accuracy": 0.5, "ece": float("nan")}, "test": None})
    again = Bundle(bundle.path)
    assert again.card.metrics == {"val": {"accuracy": 0.5, "ece": None}, "test": None}
    assert again.card.model_copy(update={"metrics": {}}) == bundle.card
    assert {name for name in before if (bundle.path / name).read_bytes() != before[name]} == {"card.json"}
    assert os.listdir(tmp_path) == ["bundle"]


def test_a_reader_never_finds_a_stray_file_while_metrics_are_put_in(
    write_tiny_bundle: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    replace, seen = os.replace, []

    def watched(old: str, new: str) -> None:
        seen.append(Bundle(bundle.path).card.metrics)
        replace(old, new)

    monkeypatch.setattr(os, "replace", watched)
    with_metrics(bundle.path, {"val": None})
    assert seen == [bundle.card.metrics] * len(seen)
    assert seen


def test_metrics_are_not_put_into_a_damaged_card(write_tiny_bundle: Write, tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "bundle").path
    damaged = (path / "card.json").read_bytes().replace(b"ants", b"aunt")
    (path / "card.json").write_bytes(damaged)
    with pytest.raises(BundleError, match="changed"):
        with_metrics(path, {"val": None})
    assert (path / "card.json").read_bytes() == damaged
