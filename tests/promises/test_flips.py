"""A bundle with one bit flipped, wherever that is, is refused; one sealed anew after that is refused or works."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from tellapart.errors import BundleError
from tellapart.runtime import Bundle
from tests.corpus.bundles import Evil

pytestmark = pytest.mark.promise

FLIPS = 1000
SEALED_FLIPS = 500


def test_a_flip_at_each_of_a_thousand_offsets_is_noticed(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    contents = {file: file.read_bytes() for file in sorted(bundle.iterdir())}
    places = [(file, offset) for file, content in contents.items() for offset in range(len(content))]
    chosen = np.linspace(0, len(places) - 1, FLIPS).astype(int)
    assert len(set(chosen.tolist())) == FLIPS
    assert {places[number][0] for number in chosen} == set(contents)
    for number in chosen.tolist():
        file, offset = places[number]
        changed = bytearray(contents[file])
        changed[offset] ^= 1 << (offset % 8)
        file.write_bytes(changed)
        with pytest.raises(BundleError):
            Bundle(bundle)
        file.write_bytes(contents[file])
    assert Bundle(bundle).classes == ("ants", "bees")


def test_a_flip_that_was_sealed_anew_harms_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    evil = Evil(Path(shutil.copytree(tiny_bundle, tmp_path / "bundle")), tmp_path / "canary")
    model = evil.path / "model.onnx"
    content = model.read_bytes()
    loaded = 0
    for offset in np.random.default_rng(7).integers(0, len(content) * 8, SEALED_FLIPS).tolist():
        changed = bytearray(content)
        changed[offset // 8] ^= 1 << (offset % 8)
        model.write_bytes(changed)
        evil.card()
        with contextlib.suppress(BundleError):
            Bundle(evil.path)
            loaded += 1
    assert 0 < loaded < SEALED_FLIPS
