"""What the corpora share: the state of a folder, mounts, a superuser who is held to permissions."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tellapart import cache

LINUX_ROOT = sys.platform == "linux" and os.geteuid() == 0

Mount = Callable[..., None]


def state(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return (mode, time of the last change in ns, digest or target) of all below a folder, by its name in bytes."""
    found = {}
    for place, folders, names, handle in os.fwalk(os.fsencode(root), follow_symlinks=False):
        for name in [*folders, *names]:
            entry = os.lstat(name, dir_fd=handle)
            told = ""
            if stat.S_ISLNK(entry.st_mode):
                told = os.fsdecode(os.readlink(name, dir_fd=handle))
            elif stat.S_ISREG(entry.st_mode):
                with contextlib.suppress(PermissionError):
                    descriptor = os.open(name, os.O_RDONLY, dir_fd=handle)
                    with open(descriptor, "rb") as file:
                        told = hashlib.sha256(file.read()).hexdigest()
            found[os.fsdecode(place + b"/" + name)] = (entry.st_mode, entry.st_mtime_ns, told)
    return found


@contextlib.contextmanager
def like_a_user() -> Iterator[None]:
    """Let file permissions count for the superuser too: give up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH meanwhile."""
    if not LINUX_ROOT:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    without = (ctypes.c_uint32 * 6)(*before)
    without[0] &= ~0b110
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@pytest.fixture
def mounted() -> Iterator[Mount]:
    """`mounted(*arguments)` is the command mount; what is mounted goes when the test ends. Skips where it may not."""
    places: list[str] = []

    def mount(*arguments: object) -> None:
        words = [str(argument) for argument in arguments]
        done = subprocess.run(["mount", *words], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")
        if not any("remount" in word for word in words):
            places.append(words[-1])

    if not LINUX_ROOT:
        pytest.skip("mounting needs the superuser of Linux")
    yield mount
    for place in reversed(places):
        cache._IDLE.close()  # as at the end of a process
        subprocess.run(["umount", place], check=True)
