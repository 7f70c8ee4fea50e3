"""A model of one thing says that it does not know another: real photos, the usual thresholds."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

import tellapart
from tellapart.runtime.predictor import Prediction

from ..conftest import SHARED

pytestmark = pytest.mark.promise


def unpacked(name: str, place: Path, archive_name: str | None = None) -> Path:
    archive = SHARED / "data" / f"{archive_name or name}.tar"
    if not archive.is_file():
        pytest.skip(f"{archive} is missing")
    with tarfile.open(archive) as file:
        file.extractall(place, filter="data")
    return place / name


def test_clothes_are_unknown_to_a_model_of_insects_and_insects_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (SHARED / "weights" / "mobilenetv2_100").is_dir():
        pytest.skip("shared/weights/mobilenetv2_100 is missing")
    monkeypatch.setenv("TELLAPART_WEIGHTS", os.fspath(SHARED / "weights"))
    insects, clothes = unpacked("hymenoptera", tmp_path), unpacked("clothing_small", tmp_path, "clothing_small_320")
    run = tellapart.train(insects, out=tmp_path / "run", backbone="mobilenetv2_100", effort="quick", budget="5m")

    def unknown(folder: Path) -> tuple[int, int]:
        given = [one.answer for one in tellapart.predict(run.bundle, [folder]) if isinstance(one, Prediction)]
        return given.count("unknown"), len(given)

    of_clothes, num_clothes = unknown(clothes / "test")
    of_insects, num_insects = unknown(insects / "test")
    assert of_clothes / num_clothes > 0.85
    assert of_insects / num_insects < 0.10
