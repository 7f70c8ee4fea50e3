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
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.card import CARD
from tellapart.runtime.openvino_session import OpenVinoSession, has_openvino
from tellapart.runtime.session import Runs

__all__ = ["CHOICES", "Setting", "read_setting", "setting_file", "write_setting"]

VERSION = 2  # 1 knew no runtimes
CHOICES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
"""By what a bundle may be run, and in what numbers where its graph leaves that open."""
_MOST_BYTES = 1 << 16
_MOST_THREADS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """`threads` to answer pictures on, found best on a machine that lets this process use `cores`; what
    computes, and in what numbers (`CHOICES`): `fp32` is as the bundle's graph says.
    """

    threads: int
    cores: int
    runtime: str = "onnxruntime"
    precision: str = "fp32"

    def session(self, bundle: Bundle) -> Runs:
        """Return what runs the graph of a bundle in this setting."""
        if self.runtime == "openvino":
            return OpenVinoSession(bundle.model, streams=self.threads, precision=self.precision)
        return bundle.session


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
    """Return the setting of a bundle; None where there is none for this very bundle on a machine of so many cores, or
    where its runtime is not installed any more.
    """
    try:
        value = json.loads(_content(setting_file(bundle), _MOST_BYTES))
        if value["version"] != VERSION or value["card"] != _digest(bundle) or value["cores"] != cores:
            return None
        threads, runtime, precision = value["threads"], value["runtime"], value["precision"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    if type(threads) is not int or not 1 <= threads <= _MOST_THREADS:
        return None
    if (runtime, precision) not in CHOICES or (runtime == "openvino" and not has_openvino()):
        return None
    return Setting(threads, cores, runtime, precision)


def _digest(bundle: Path) -> str:
    return hashlib.sha256(_content(bundle / CARD, 1 << 24)).hexdigest()


def _content(file: Path, most: int) -> bytes:
    """Return the first bytes of a plain file. Raises OSError for anything else; never waits for a writer."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(file, flags), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        return opened.read(most)
