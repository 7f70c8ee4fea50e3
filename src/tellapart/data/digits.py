"""The built-in set of `demo`: scikit-learn's 1,797 handwritten digits, written out as a folder of PNG files per class.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tellapart.errors import DataError, MissingExtraError

__all__ = ["write_digits"]


def write_digits(folder: Path) -> int:
    """Write `folder/<digit>/<number>.png`, grey, 8x8 px, and return how many pictures there are; present ones stay.

    The table is read from scikit-learn's files without importing scikit-learn. Raises MissingExtraError without it.
    """
    from PIL import Image

    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise MissingExtraError("train", "The built-in set")
    with gzip.open(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",")
    levels = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    for number, (pixels, label) in enumerate(zip(levels, table[:, 64].astype(int), strict=True)):
        target = folder / str(label) / f"{number:04d}.png"
        if not target.exists():
            part = target.with_suffix(".part")
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(part, format="PNG")
                os.replace(part, target)
            except OSError as error:
                raise DataError(
                    "cannot_write",
                    f"The pictures cannot be written to {folder} ({error.strerror or error}).",
                    "Give another folder with --out.",
                ) from None
            finally:
                with contextlib.suppress(OSError):
                    part.unlink()
    return len(table)
