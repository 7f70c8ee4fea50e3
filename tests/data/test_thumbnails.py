"""The small picture of each picture is at hand, from the cache or anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from tellapart.data.policy import decode_policy
from tellapart.data.thumbnails import thumbnails
from tellapart.errors import DataError
from tellapart.recipe import Recipe

from .conftest import Scan, write_classes


def test_thumbnails_come_from_the_scan_or_from_the_files(
    tmp_path: Path, scan_of: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "set", {"cat": 4, "dog": 4})
    manifest = scan_of(root)
    cache, policy = tmp_path / ".cache-of-test", decode_policy(Recipe())
    files = [manifest.file(row) for row in manifest.rows]
    digests = [row.sha256 for row in manifest.rows]

    shutil.rmtree(cache / "thumbnails")
    made = thumbnails(files, digests, policy, cache)
    for file, thumbnail in zip(files, made, strict=True):
        with Image.open(file) as opened:
            near = np.asarray(opened.resize((32, 32), Image.Resampling.BILINEAR), dtype=int)
        assert np.abs(near - thumbnail).max() <= 1

    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    again = thumbnails(files[::-1] + files[:1], digests[::-1] + digests[:1], policy, cache)
    assert (again == np.concatenate([made[::-1], made[:1]])).all()

    shutil.rmtree(cache / "thumbnails")
    files[0].write_bytes(b"other bytes")
    with pytest.raises(DataError, match="changed or went"):
        thumbnails(files, digests, policy, cache)
