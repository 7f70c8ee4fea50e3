"""No bundle runs code, reads or makes another file, exhausts or hangs its reader: each is refused in one sentence."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tellapart.cli import main
from tests.corpus.bundles import HOSTILE, write

ENTRIES = {"bundle", "canary.bin", "slip.zip", "slip.tar"}


def test_there_are_forty_at_the_least() -> None:
    assert len(HOSTILE) >= 40


class Watched:
    """Notes when a file is opened, by whatever name and process: by inotify, which needs no times of access."""

    def __init__(self, file: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._events = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._events, os.fsencode(file), 0x1 | 0x20) >= 0  # IN_ACCESS, IN_OPEN

    def opened(self) -> bool:
        try:
            return bool(os.read(self._events, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._events)


@contextlib.contextmanager
def watching(file: Path) -> Iterator[Watched | None]:
    if sys.platform != "linux":
        yield None
        return
    watched = Watched(file)
    try:
        yield watched
    finally:
        watched.close()


@pytest.mark.skipif(sys.platform != "linux", reason="files are watched by inotify")
def test_the_canary_would_notice_a_reader(tmp_path: Path) -> None:
    canary = tmp_path / "canary.bin"
    canary.write_bytes(bytes(24))
    os.link(canary, tmp_path / "other")
    for name in ("canary.bin", "other"):
        with watching(canary) as watched:
            assert watched is not None
            assert not watched.opened()
            (tmp_path / name).stat()
            assert not watched.opened()
            (tmp_path / name).read_bytes()
            assert watched.opened()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused(
    name: str, tiny_bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, canary = write(name, tiny_bundle, tmp_path / "place")
    before = canary.stat()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with watching(canary) as watched:
        assert main(["predict", str(opened), str(photos / "ants"), "--json"]) == 2
        assert watched is None or not watched.opened(), "the canary was read"
    out, _ = capsys.readouterr()
    told = json.loads(out)["error"]
    assert told["code"].startswith("bundle_")
    assert "\n" not in told["message"]
    assert len(told["message"]) < 500
    after = canary.stat()
    assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, 24)
    assert {file.name for file in canary.parent.iterdir()} <= ENTRIES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 600 * 1024
