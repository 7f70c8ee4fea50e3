"""How a bundle runs fastest on this machine: a file that `bench` writes beside the bundle and `predict` follows."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import stat
from pathlib import Path

from tellapart import files
from tellapart.runtime.card import CARD

__all__ = ["Setting", "read_setting", "setting_file", "write_setting"]

VERSION = 1
_MOST_BYTES = 1 << 16
_MOST_THREADS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """`threads` to answer pictures on, found best on a machine that lets this process use `cores`."""

    threads: int
    cores: int


def setting_file(bundle: Path) -> Path:
    """Return where the setting of the bundle at `bundle` is kept: in its folder, beside it."""
    place = bundle.resolve()
    return place.with_name(f"{place.name}.setting.json")


def write_setting(bundle: Path, setting: Setting) -> Path:
    """Write the setting of a bundle and return where. Raises OSError."""
    place = setting_file(bundle)
    files.write_json(place, {"version": VERSION, "card": _digest(bundle), **dataclasses.asdict(setting)})
    return place


def read_setting(bundle: Path, cores: int) -> Setting | None:
    """Return the setting of a bundle; None where there is none for this very bundle on a machine of so many cores."""
    try:
        value = json.loads(_content(setting_file(bundle), _MOST_BYTES))
        if value["version"] != VERSION or value["card"] != _digest(bundle) or value["cores"] != cores:
            return None
        threads = value["threads"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return Setting(threads, cores) if type(threads) is int and 1 <= threads <= _MOST_THREADS else None


def _digest(bundle: Path) -> str:
    return hashlib.sha256(_content(bundle / CARD, 1 << 24)).hexdigest()


def _content(file: Path, most: int) -> bytes:
    """Return the first bytes of a plain file. Raises OSError for anything else; never waits for a writer."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(file, flags), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        return opened.read(most)
