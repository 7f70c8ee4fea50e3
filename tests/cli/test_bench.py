"""`tellapart bench`, as from a shell."""

from __future__ import annotations

import shutil
from pathlib import Path


def test_bench_prints_where_the_time_goes_or_one_object(tellapart, tiny_bundle: Path, photos: Path, tmp_path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    ran = tellapart("bench", bundle, "--pictures", photos)
    assert ran.code == 0
    assert "decode and resize" in ran.out
    assert "pictures a second" in ran.out
    told = tellapart("bench", bundle, "--pictures", photos, "--json")
    names = ["version", "n", "cores", "load_ms", "decode_ms", "model_ms", "batch_ms", "models", "rates"]
    names += ["threads", "runtime", "precision", "batch", "form", "place"]
    assert list(told.json) == names
    assert tellapart("bench", tmp_path / "absent", "--pictures", photos, "--json").code == 2
