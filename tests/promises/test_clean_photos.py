"""Photos that are as they should be are hardly ever named, and what is planted among them is."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

import tellapart

from ..conftest import SHARED
from .test_unknown import unpacked

pytestmark = pytest.mark.promise

PLANTED = 20  # of each kind


def test_few_clean_photos_are_named_and_nearly_all_that_is_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each check names at most 2 of 100 clean photos; 90 of 100 copies, versions and leaks are found."""
    if not (SHARED / "weights" / "mobilenetv2_100").is_dir():
        pytest.skip("shared/weights/mobilenetv2_100 is missing")
    monkeypatch.setenv("TELLAPART_WEIGHTS", os.fspath(SHARED / "weights"))
    photos = unpacked("hymenoptera", tmp_path)

    found = tellapart.check(photos, out=tmp_path / "clean", backbone="mobilenetv2_100")
    named = {finding.check: len({row.path for row in finding.rows}) for finding in found.findings}
    assert all(count <= 0.02 * found.counts["used"] for count in named.values()), named

    planted = _plant(photos)
    again = tellapart.check(photos, out=tmp_path / "planted", backbone="mobilenetv2_100")
    rows: dict[str, set[str]] = {finding.check: {row.path for row in finding.rows} for finding in again.findings}
    all_planted = set().union(*planted.values())
    for check, paths in planted.items():
        assert len(rows[check] & paths) >= 0.9 * len(paths), check
        # A copy is named with the picture that it is of, and nothing else; some leaks are copies, too.
        assert len(rows[check] - all_planted) <= len(rows[check] & all_planted) + 0.02 * found.counts["used"], check


def _plant(photos: Path) -> Mapping[str, set[str]]:
    """Add copies, versions and leaks, each of a picture of its own; return the paths that were added."""
    pictures = sorted((photos / "train").rglob("*.jpg"))
    random.Random(0).shuffle(pictures)
    planted: dict[str, set[str]] = {"duplicate": set(), "near_duplicate": set(), "split_leak": set()}
    for number in range(PLANTED):
        of = [pictures.pop() for _ in range(3)]
        copy, version = (
            path.with_name(f"{kind}-{number}.jpg") for path, kind in zip(of, ("copy", "version"), strict=False)
        )
        leak = photos / "test" / of[2].parent.name / f"leak-{number}.jpg"
        shutil.copyfile(of[0], copy)
        picture = Image.open(of[1]).convert("RGB")
        picture.resize((picture.width * 4 // 5, picture.height * 4 // 5)).save(version, quality=60)
        if number % 2:
            shutil.copyfile(of[2], leak)
        else:
            Image.open(of[2]).convert("RGB").save(leak, quality=80)
        for check, path in zip(planted, (copy, version, leak), strict=True):
            planted[check].add(os.fspath(path.relative_to(photos)))
    return planted
