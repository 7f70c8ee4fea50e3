"""Small JPEG pictures for the page, encoded here from pixels: no byte of a user's file reaches the report."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["thumbnail"]


def thumbnail(pixels: NDArray[np.uint8], side_px: int = 224, quality: int = 78) -> bytes:
    """Return a JPEG whose longer side is at most `side_px`, from uint8 [H, W, 3]. It carries no metadata."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()
