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
from tellapart.errors import BundleError
from tellapart.images import default_threads
from tellapart.runtime.bundle import Bundle, read_card
from tellapart.runtime.card import CARD
from tellapart.runtime.openvino_session import OpenVinoSession, has_openvino
from tellapart.runtime.predictor import Predictor
from tellapart.runtime.session import Runs

__all__ = ["CHOICES", "Setting", "card_digest", "predictor_for", "read_setting", "setting_file", "write_setting"]

VERSION = 3  # 1 knew no runtimes, 2 no batches and no other forms
CHOICES = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
"""By what a bundle may be run, and in what numbers where its graph leaves that open."""
_MOST_BYTES = 1 << 16
_MOST_THREADS = 1024
_MOST_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """`threads` to answer pictures on, found best on a machine that lets this process use `cores`; what
    computes, and in what numbers (`CHOICES`): `fp32` is as the graph says; how many pictures go through it at once.

    `form` is the name of a folder beside the bundle with another form of it, whose card has the digest `form_card`;
    empty for the bundle itself.
    """

    threads: int
    cores: int
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    batch: int = 1
    form: str = ""
    form_card: str = ""

    def followed(self, path: Path) -> Bundle:
        """Return the form of the bundle at `path` that answers in this setting; of another form, no more is opened than
        the card of the bundle itself. Raises BundleError for one that is damaged.
        """
        if not self.form:
            return Bundle(path)
        form = Bundle(path.resolve().with_name(self.form))
        if form.classes != read_card(path).classes:
            raise BundleError(
                "bundle_card", f"{form.path} has other classes than {path}.", "Run tellapart bench again."
            )
        return form

    def session(self, bundle: Bundle) -> Runs:
        """Return what runs the graph of a bundle, as `followed` gives it, in this setting."""
        if self.runtime == "openvino":
            return OpenVinoSession(bundle.model, streams=self.threads, precision=self.precision)
        return bundle.session


def predictor_for(bundle: Path, threads: int | None = None) -> Predictor:
    """Load the bundle at `bundle` to answer pictures again and again, in the setting that `bench` left where there is
    one and `threads` do not say otherwise. Raises BundleError.
    """
    setting = None if threads is not None else read_setting(bundle, default_threads())
    if setting is None:
        return Predictor(Bundle(bundle), threads)
    form = setting.followed(bundle)
    return Predictor(form, setting.threads, setting.session(form), setting.batch)


def setting_file(bundle: Path) -> Path:
    """Return where the setting of the bundle at `bundle` is kept: in its folder, beside it."""
    place = bundle.resolve()
    return place.with_name(f"{place.name}.setting.json")


def write_setting(bundle: Path, setting: Setting) -> Path:
    """Write the setting of a bundle and return where. Raises OSError."""
    place = setting_file(bundle)
    files.write_json(place, {"version": VERSION, "card": card_digest(bundle), **dataclasses.asdict(setting)})
    return place


def read_setting(bundle: Path, cores: int) -> Setting | None:
    """Return the setting of a bundle; None where there is none for this very bundle on a machine of so many cores, or
    where its runtime is not installed or the form it names not there any more.
    """
    try:
        value = json.loads(_content(setting_file(bundle), _MOST_BYTES))
        if value["version"] != VERSION or value["card"] != card_digest(bundle) or value["cores"] != cores:
            return None
        setting = Setting(**{field.name: value[field.name] for field in dataclasses.fields(Setting)})
        if setting.form and not _is_beside(bundle, setting):
            return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    counts = (setting.threads, _MOST_THREADS), (setting.batch, _MOST_AT_ONCE)
    if not all(type(count) is int and 1 <= count <= most for count, most in counts):
        return None
    if (setting.runtime, setting.precision) not in CHOICES or (setting.runtime == "openvino" and not has_openvino()):
        return None
    return setting


def _is_beside(bundle: Path, setting: Setting) -> bool:
    """Whether the form is a folder beside the bundle, with the card that was measured. Raises OSError, ValueError."""
    place = bundle.resolve().with_name(setting.form)  # which takes plain names alone
    return not place.is_symlink() and card_digest(place) == setting.form_card


def card_digest(bundle: Path) -> str:
    """Return the SHA-256 of a bundle's card. Raises OSError."""
    return hashlib.sha256(_content(bundle / CARD, 1 << 24)).hexdigest()


def _content(file: Path, most: int) -> bytes:
    """Return the first bytes of a plain file. Raises OSError for anything else; never waits for a writer."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(file, flags), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        return opened.read(most)
