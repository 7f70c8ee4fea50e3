"""A static page that answers pictures in the browser: what it consists of, besides the bundle that it reads.

onnxruntime-web is no Python package: it is taken from npm, or from a folder that holds it, at the one version that was
tested, and held to the digests below.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from tellapart.errors import InputError
from tellapart.runtime.card import ORT_WEB, PAGE

__all__ = ["ORT_WEB_VERSION", "PARTS", "check_ort_web", "ort_web", "site"]

ORT_WEB_VERSION = "1.30.0"
_LICENCE = ORT_WEB[2]
PARTS = {
    ORT_WEB[0]: (
        "ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    ORT_WEB[1]: (
        "ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}
_MOST_BYTES = 2**26
_SECONDS = 300.0


def site(folder: Path | None) -> dict[str, bytes]:
    """Return the files of the page, by name, with onnxruntime-web from `folder`, or from npm where that is None.

    Raises InputError (`ort_web`).
    """
    pages = Path(__file__).parent / "page"
    return {name: (pages / name).read_bytes() for name in (*PAGE, _LICENCE)} | ort_web(folder)


def check_ort_web(folder: Path | None) -> None:
    """Refuse early where neither `folder` nor npm can give onnxruntime-web. Raises InputError (`ort_web`)."""
    if folder is not None:
        ort_web(folder)
    elif shutil.which("npm") is None:
        raise _refusal("npm is not installed here")


def ort_web(folder: Path | None) -> dict[str, bytes]:
    """Return onnxruntime-web's two files, by their names in the folder that is made. Raises InputError (`ort_web`)."""
    if folder is not None:
        places = [place for place in (folder / "dist", folder) if (place / PARTS[ORT_WEB[0]][0]).is_file()]
        if not places:
            raise _refusal(f"{folder} does not hold {PARTS[ORT_WEB[0]][0]}")
        return _held(lambda name: _read(places[0] / name), str(folder))
    with tempfile.TemporaryDirectory(prefix="tellapart-") as temporary:
        package = f"onnxruntime-web@{ORT_WEB_VERSION}"
        command = ["npm", "pack", package, "--prefer-offline", "--ignore-scripts", "--silent"]
        try:
            subprocess.run(
                [shutil.which("npm") or "npm", *command[1:]],
                cwd=temporary,
                capture_output=True,
                timeout=_SECONDS,
                check=True,
            )
            [archive] = Path(temporary).glob("*.tgz")
            with tarfile.open(archive) as packed:
                return _held(lambda name: _member(packed, f"package/dist/{name}"), "npm's package")
        except (OSError, ValueError, KeyError, tarfile.TarError, subprocess.SubprocessError):
            raise _refusal(f"npm pack {package} failed") from None


def _held(read: Callable[[str], bytes], source: str) -> dict[str, bytes]:
    found = {}
    for ours, (name, digest) in PARTS.items():
        content = read(name)
        if hashlib.sha256(content).hexdigest() != digest:
            raise _refusal(f"{name} of {source} is not that of version {ORT_WEB_VERSION}")
        found[ours] = content
    return found


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_BYTES)
    except OSError as error:
        raise _refusal(f"{file} cannot be read ({error.strerror})") from None


def _member(packed: tarfile.TarFile, name: str) -> bytes:
    opened = packed.extractfile(name)
    if opened is None:
        raise KeyError(name)
    with opened:
        return opened.read(_MOST_BYTES)


def _refusal(reason: str) -> InputError:
    return InputError(
        "ort_web",
        f"A folder for the browser needs onnxruntime-web {ORT_WEB_VERSION}, and {reason}.",
        "Install npm, or unpack that package and name its folder with --ort-web.",
    )
