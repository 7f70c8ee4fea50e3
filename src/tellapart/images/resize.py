"""The one resize: from a picture of any size to the square that a network sees."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tellapart.images.decode import Pixels, upright
from tellapart.images.header import opened
from tellapart.images.preprocess import Preprocess

__all__ = ["at_least_for", "prepare", "resize", "thumbnail_jpeg"]

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    """Return uint8 [S, S, 3] from uint8 RGB [H, W, 3], S being `preprocess.image_size`; antialiased (Pillow).

    `crop` brings the shorter side to S and keeps the centre; `pad` brings the longer side to S and centres the picture
    on `preprocess.decode.background`; `squash` brings both sides to S. A picture that is S x S is returned as it is.
    """
    if pixels.shape[:2] == (preprocess.image_size, preprocess.image_size):
        return pixels
    return np.array(_square(Image.fromarray(pixels), preprocess))


def prepare(source: Path | bytes, preprocess: Preprocess) -> Pixels:
    """Return uint8 [S, S, 3] from a picture's file or bytes: `decode`, then `resize`, bit for bit, with fewer copies.

    Raises PictureError, as `decode` does.
    """
    with opened(source, preprocess.decode) as (picture, header, _):
        flat = upright(picture, header, preprocess.at_least_px, preprocess.decode)
        return np.array(_square(flat, preprocess))


def at_least_for(image_size: int) -> int:
    """Return the `at_least_px` that goes with a network of `image_size` pixels."""
    return 2 * image_size


def thumbnail_jpeg(pixels: Pixels, side_px: int, quality: int = 80) -> bytes:
    """Return a JPEG, without any metadata, of uint8 RGB [H, W, 3] scaled down so that the longer side is `side_px`.

    A picture that is smaller stays as large as it is. `quality` is libjpeg's, 1 to 95.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, side_px / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()


def _square(picture: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Return an RGB picture of S x S from one in mode L or RGB. Grey is resized as one channel, to the same bits."""
    side = preprocess.image_size
    width, height = picture.size
    if (width, height) == (side, side):
        return picture.convert("RGB")
    method = _FILTERS[preprocess.interpolation]
    if preprocess.resize_policy == "squash":
        return picture.resize((side, side), method).convert("RGB")
    if preprocess.resize_policy == "crop":
        short = min(width, height)
        left, top = (width - short) / 2, (height - short) / 2
        # One call instead of two: the filter still sees the pixels just outside of the box, as it would before a crop.
        return picture.resize((side, side), method, box=(left, top, left + short, top + short)).convert("RGB")
    long = max(width, height)
    inner = (max(1, round(width * side / long)), max(1, round(height * side / long)))
    canvas = Image.new("RGB", (side, side), preprocess.decode.background)
    scaled = picture.resize(inner, method).convert("RGB")
    canvas.paste(scaled, ((side - inner[0]) // 2, (side - inner[1]) // 2))
    return canvas
