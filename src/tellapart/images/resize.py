"""The one resize: from a picture of any size to the square that a network sees."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from tellapart.images.decode import Box, Pixels, upright
from tellapart.images.header import Header, opened
from tellapart.images.preprocess import Preprocess

__all__ = ["at_least_for", "prepare", "prepared", "resize", "thumbnail_jpeg"]

_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize(pixels: Pixels, preprocess: Preprocess, box: Box | None = None) -> Pixels:
    """Return uint8 [S, S, 3] from uint8 RGB [H, W, 3], S being `preprocess.image_size`; antialiased (Pillow).

    `crop` brings the shorter side to S and keeps the centre; `pad` brings the longer side to S and centres the picture
    on `preprocess.decode.background`; `squash` brings both sides to S. A picture that is S x S is returned as it is.
    `box` is where the picture lies in `pixels`, if not in all of them (see `decode.upright`).
    """
    if pixels.shape[:2] == (preprocess.image_size, preprocess.image_size):
        return pixels
    height, width = pixels.shape[:2]
    return np.array(_square(Image.fromarray(pixels), box or (0.0, 0.0, float(width), float(height)), preprocess))


def prepare(source: Path | bytes, preprocess: Preprocess) -> Pixels:
    """Return uint8 [S, S, 3] from a picture's file or bytes: `decode`, then `resize`, bit for bit, with fewer copies.

    With `preprocess.at_least_px` a reduced JPEG is resized from the box in which it lies; `decode`, which gives pixels
    alone, cannot tell that box, so that `resize` after it may be off by a part of a pixel of the original.
    Raises PictureError, as `decode` does.
    """
    with opened(source, preprocess.decode) as (picture, header, _):
        return prepared(picture, header, preprocess)


def prepared(picture: ImageFile.ImageFile, header: Header, preprocess: Preprocess) -> Pixels:
    """Return what `prepare` does of a picture that is `opened`. What Pillow raises comes through."""
    flat, box = upright(picture, header, preprocess.at_least_px, preprocess.decode)
    square = _square(flat, box, preprocess)
    return np.array(square if square.mode == "RGB" else square.convert("RGB"))


def at_least_for(image_size: int) -> int:
    """Return the `at_least_px` that goes with a network of `image_size` pixels: three times as much.

    Evidence, for `prepare` with bicubic and `crop` (the policy that shows most), from the pictures that are decoded at
    a reduced scale at all: mean absolute difference to the full decode in levels of 255, and that of the worst picture.

    | pictures | image_size | 1.25 x | 1.5 x | 2 x |
    |---|---|---|---|---|
    | 99 photos, shorter side 333-375 mostly | 48 | 0.93, 2.44 | 0.86, 1.87 | 0.41, 1.00 |
    | | 64 | 1.29, 3.03 | 0.57, 1.55 | 0.42, 1.04 |
    | | 96 | 0.75, 1.84 | 0.70, 1.65 | 0.47, 0.80 |
    | | 128 | 1.09, 2.71 | 0.69, 1.30 | - |
    | | 160 | 0.92, 1.68 | 0.69, 1.29 | - |
    | 95 product photos, shorter side 240 | 48 | 1.46, 6.20 | 0.45, 1.45 | 0.39, 0.88 |
    | | 64 | 0.64, 1.78 | 0.60, 1.61 | 0.43, 0.60 |
    | | 96 | 1.20, 4.34 | 0.67, 0.85 | - |

    Without the box (see `prepare`) the same decodes differ by 0.5 to 1.5 levels at 2 x, 0.6 to 2.5 at 1.5 x. Photos
    that were enlarged until they are reduced at 224 px differ by 0.34 at 2 x, 0.20 at 3 x, 0.14 at 4 x, 0.10 at 6 x.

    The likeliest of 1,000 classes, by a MobileNetV2, stayed the same for 613 of 618 photos enlarged and reduced at 2 x
    (224 px), and at 3 x for 793 of 794 of insects and 770 of 784 of clothes, few of which are among the classes. What
    changes are near ties: rounding errors of the same size move as many, and 4 x and 6 x no fewer (docs/log.md).
    """
    return 3 * image_size


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


def _square(picture: Image.Image, box: Box, preprocess: Preprocess) -> Image.Image:
    """Return what of a picture lies in `box` as S x S, in the mode (L or RGB) that it has.

    So grey is resized as one channel and not as three equal ones, to the same bits.
    """
    side = preprocess.image_size
    if picture.size == (side, side):
        return picture
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    method = _FILTERS[preprocess.interpolation]
    if preprocess.resize_policy == "squash":
        return picture.resize((side, side), method, box=box)
    if preprocess.resize_policy == "crop":
        short = min(width, height)
        left, top = left + (width - short) / 2, top + (height - short) / 2
        # One call instead of two: the filter still sees the pixels just outside of the box, as it would before a crop.
        centre = (left, top, left + short, top + short)
        return picture.resize((side, side), method, box=centre)
    long = max(width, height)
    inner = (max(1, round(width * side / long)), max(1, round(height * side / long)))
    canvas = Image.new("RGB", (side, side), preprocess.decode.background)
    canvas.paste(picture.resize(inner, method, box=box), ((side - inner[0]) // 2, (side - inner[1]) // 2))
    return canvas
