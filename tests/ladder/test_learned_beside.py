"""What a bundle keeps of its training pictures so that a class can be added without them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tellapart
from tellapart.errors import DataError
from tellapart.judge import Novelty
from tellapart.ladder.keep import learned_beside
from tellapart.learn.rungs import Fitted, FloatArray, IntArray, Pictures
from tellapart.runtime import Bundle
from tellapart.runtime.reference import MAX_OTHERS, reference_of

Write = Callable[..., Bundle]


def pictures_of(targets: IntArray) -> Pictures:
    names = tuple(f"{number:016x}{0:048x}" for number in range(len(targets)))
    return Pictures(tuple(map(Path, names)), names, names, targets)


def keeping(write: Write, fitted: Fitted, path: Path, rows: IntArray) -> tuple[Bundle, FloatArray, IntArray]:
    """Return a bundle with references at `rows` and the rest in 8 bits, embeddings in the order kept, and classes."""
    train = fitted.embeddings["train"]
    targets = fitted.head.logits(train).argmax(axis=1).astype(np.int64)
    novelty = Novelty.fit(train[rows], train)
    beside = learned_beside(train, pictures_of(targets), rows, novelty)
    thumbnails = [b"a picture of %d" % row for row in rows.tolist()]
    bundle = write(
        path,
        novelty=novelty.arrays(),
        reference_labels=targets[rows],
        thumbnails=thumbnails,
        learned_beside=beside,
    )
    order = np.concatenate([rows, np.setdiff1d(np.arange(len(train)), rows)])
    return bundle, train[order], targets[order]


def test_a_bundle_gives_back_what_it_keeps_to_the_rounding_it_tells(
    write_tiny_bundle: Write, tiny_fitted: Fitted, tmp_path: Path
) -> None:
    bundle, expected, targets = keeping(write_tiny_bundle, tiny_fitted, tmp_path / "old", np.arange(0, 24, 3))
    kept = Bundle(bundle.path).reference.learned_beside()
    assert kept is not None
    embeddings, labels, off = kept.embeddings, kept.labels, kept.off
    assert labels.tolist() == targets.tolist()
    assert (off[:8] == 0).all()
    assert (off[8:] > 0).all()
    bound = off[:, None] + 2.0**-10 * np.abs(expected - bundle.reference.novelty_mean) + 1e-6
    assert (np.abs(embeddings - expected) <= bound).all()


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_rounding_to_8_bits_is_off_by_half_a_step_at_the_most(count: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    train = (random.normal(size=(count + 1, width)) * 10.0 ** random.integers(-3, 4)).astype(np.float32)
    targets = random.integers(0, 2, count + 1)
    rows = np.array([0], dtype=np.int64)
    novelty = Novelty.fit(train[rows], train)
    found = learned_beside(train, pictures_of(targets), rows, novelty)
    seen = found["other_embeddings"].astype(np.float64) * found["other_scales"][:, None].astype(np.float64)
    expected = (train[1:] - novelty.arrays()["mean"]).astype(np.float64)
    assert (np.abs(seen - expected) <= (0.5 + 1e-3) * found["other_scales"][:, None] + 1e-30).all()
    assert found["other_labels"].tolist() == targets[1:].tolist()


def test_no_more_is_kept_than_may_be_read_back_and_each_class_has_its_share() -> None:
    targets = np.repeat(np.array([0, 1]), [4000, 400]).astype(np.int64)
    train = np.random.default_rng(0).normal(size=(4400, 3)).astype(np.float32)
    rows = np.arange(0, 4400, 44, dtype=np.int64)
    found = learned_beside(train, pictures_of(targets), rows, Novelty.fit(train[rows], train[:50]))
    assert len(found["other_labels"]) == MAX_OTHERS
    assert 230 < int((found["other_labels"] == 1).sum()) < 320


def test_a_class_is_added_beside_all_that_is_kept(
    write_tiny_bundle: Write, tiny_fitted: Fitted, tmp_path: Path
) -> None:
    bundle, _, targets = keeping(write_tiny_bundle, tiny_fitted, tmp_path / "old", np.arange(0, 24, 3))
    for name, tint in (("frogs", (40, 200, 60)), ("newts", (230, 220, 20))):
        (tmp_path / name).mkdir()
        for number in range(12):
            noise = np.random.default_rng([*tint, number]).integers(-40, 40, (32, 32, 3))
            pixels = np.clip(np.array(tint) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number:02d}.png")
    added = tellapart.add_class(bundle.path, "frogs", tmp_path / "frogs", out=tmp_path / "new")
    assert (added.source, added.source_words) == (
        "references",
        "24 embeddings of old pictures that the bundle keeps",
    )
    assert added.measured.cost is not None
    assert added.measured.cost.n == 24
    new = Bundle(tmp_path / "new").reference
    assert len(new.reference_labels) == 8 + 12
    assert new.head_graph is None, "lengths are known, so that the head need not go by directions"
    again = tellapart.add_class(tmp_path / "new", "newts", tmp_path / "newts", out=tmp_path / "newer")
    assert again.source_words.startswith("36 embeddings")
    kept = new.learned_beside()
    assert kept is not None
    assert len(kept.embeddings) == 24 + 12
    assert np.bincount(kept.labels).tolist() == [*np.bincount(targets).tolist(), 12]


def test_a_picture_that_is_kept_in_8_bits_alone_is_still_known_as_an_old_one(
    write_tiny_bundle: Write, tiny_fitted: Fitted, tmp_path: Path
) -> None:
    colours = np.random.default_rng(2).integers(0, 256, (24, 3))
    train = (colours / 255.0).astype(np.float32)  # what the tiny network gives for pictures of one colour
    fitted = dataclasses.replace(tiny_fitted, embeddings={**tiny_fitted.embeddings, "train": train})
    bundle, _, _ = keeping(write_tiny_bundle, fitted, tmp_path / "old", np.array([0, 23]))
    for number, colour in enumerate(colours.tolist()):
        Image.new("RGB", (32, 32), tuple(colour)).save(tmp_path / f"{number}.png")
        with pytest.raises(DataError) as refused:
            tellapart.add_class(bundle.path, "frogs", [tmp_path / f"{number}.png"], out=tmp_path / "no")
        assert refused.value.code == "old_pictures"
    for name in ("frogs", "newts"):  # rounded anew each time
        Image.new("RGB", (32, 32), {"frogs": (1, 254, 3), "newts": (254, 253, 1)}[name]).save(tmp_path / f"{name}.png")
        bundle = Bundle(
            tellapart.add_class(bundle.path, name, [tmp_path / f"{name}.png"], out=tmp_path / f"with-{name}").bundle
        )
    with pytest.raises(DataError) as refused:
        tellapart.add_class(bundle.path, "toads", [tmp_path / "frogs.png"], out=tmp_path / "no")
    assert refused.value.code == "old_pictures", "by its content, which is kept"


def test_what_a_class_more_needs_stays_out_of_forms_that_are_derived(
    write_tiny_bundle: Write, tiny_fitted: Fitted, photos: Path, tmp_path: Path
) -> None:
    bundle, _, _ = keeping(write_tiny_bundle, tiny_fitted, tmp_path / "old", np.arange(0, 24, 3))
    assert {"reference_lengths", "other_embeddings"} <= bundle.reference.arrays().keys()
    assert reference_of(bundle.reference.arrays()).learned_beside() is not None
    tellapart.export(bundle.path, tmp_path / "half", to="onnx", precision="fp16", data=photos, max_drop=100.0)
    derived = next(Bundle(card.parent).reference for card in (tmp_path / "half").rglob("card.json"))
    assert not {"reference_lengths", "other_embeddings"} & derived.arrays().keys()
