"""No bundle runs code, reads or makes another file, exhausts or hangs its reader: each is refused in one sentence."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from tellapart.cli import main
from tests.corpus.bundles import HOSTILE, write

ENTRIES = {"bundle", "canary.bin", "slip.zip", "slip.tar"}


def test_there_are_forty_at_the_least() -> None:
    assert len(HOSTILE) >= 40


def test_the_canary_would_notice_a_reader(tmp_path: Path, tiny_bundle: Path) -> None:
    _, canary = write("external_parent", tiny_bundle, tmp_path / "one")
    before = canary.stat().st_atime_ns
    canary.read_bytes()
    if canary.stat().st_atime_ns == before:
        pytest.skip("this file system does not note when a file is read")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused(
    name: str, tiny_bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, canary = write(name, tiny_bundle, tmp_path / "place")
    before = canary.stat()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert main(["predict", str(opened), str(photos / "ants"), "--json"]) == 2
    out, _ = capsys.readouterr()
    told = json.loads(out)["error"]
    assert told["code"].startswith("bundle_")
    assert "\n" not in told["message"]
    assert len(told["message"]) < 500
    after = canary.stat()
    assert (after.st_atime_ns, after.st_mtime_ns, after.st_size) == (before.st_atime_ns, before.st_mtime_ns, 24)
    assert {file.name for file in canary.parent.iterdir()} <= ENTRIES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 600 * 1024
