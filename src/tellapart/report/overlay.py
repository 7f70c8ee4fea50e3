"""Maps of evidence as pictures: laid over a photo, in colours that stay apart for every kind of colour vision.

The colours are viridis (van der Walt and Smith, matplotlib, 2015): lightness rises evenly, so that a map reads the same
in grey. The photo below loses its colours, so that a yellow flower is not taken for evidence.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tellapart.images.preprocess import Preprocess
from tellapart.report.words import visible

__all__ = ["VIRIDIS", "layer_png", "panels_png", "png", "tiles", "veiled"]

Pixels = NDArray[np.uint8]

VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
_LEAST_ALPHA, _MOST_ALPHA = 0.25, 0.8
_UNSEEN_ALPHA = 0.72  # of black, over what the network was not shown
_GREY = 0.85
_LEVELS = 48  # of the drawn map: a palette makes its file a third as large
_GAP, _LINE, _FONT = 10, 26, 15


def veiled(evidence: NDArray[np.floating], highest: float, size: tuple[int, int], preprocess: Preprocess) -> Pixels:
    """Return uint8 RGBA [H, W, 4], what is laid over a photo of `size` (W, H): the map [h, w] where the network saw it.

    What speaks for the class is drawn, up to `highest`, which is the brightest; parts that the network was not shown
    are darkened.
    """
    width, height = size
    share = np.clip(np.asarray(evidence, dtype=np.float32) / max(highest, 1e-12), 0.0, 1.0)
    left, top, right, bottom = _seen(width, height, preprocess)
    box = (max(1, right - left), max(1, bottom - top))
    smooth = np.asarray(Image.fromarray(share).resize(box, Image.Resampling.BICUBIC))
    level = np.clip(smooth, 0.0, 1.0)
    level = np.round(level * (_LEVELS - 1)) / (_LEVELS - 1)
    layer = np.concatenate([_coloured(level), (_LEAST_ALPHA + (_MOST_ALPHA - _LEAST_ALPHA) * level)[..., None]], axis=2)
    canvas = np.zeros((height, width, 4), dtype=np.float32)
    canvas[..., 3] = _UNSEEN_ALPHA
    y0, y1, x0, x1 = max(0, top), min(height, bottom), max(0, left), min(width, right)
    canvas[y0:y1, x0:x1] = layer[y0 - top : y1 - top, x0 - left : x1 - left]
    return np.round(canvas * 255).astype(np.uint8)


def layer_png(layer: Pixels) -> bytes:
    """Return what is laid over a photo, uint8 RGBA [H, W, 4], as a small PNG."""
    buffer = io.BytesIO()
    Image.fromarray(layer).quantize(2 * _LEVELS, method=Image.Quantize.FASTOCTREE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def png(pixels: Pixels) -> bytes:
    """Return uint8 [H, W, 3] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def panels_png(photo: Pixels, panels: Sequence[tuple[str, Pixels | None]], side_px: int = 400) -> bytes:
    """Return a PNG of a photo uint8 [H, W, 3], once for each of `panels`, side by side: words above, a layer over it.

    A layer is what `veiled` gives for the photo's size, or None for the photo as it is. Letters that the built-in font
    lacks are drawn as boxes.
    """
    picture = Image.fromarray(photo)
    scale = side_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    wide = max(size[0], 160)
    sheet = Image.new("RGB", (len(panels) * (wide + _GAP) + _GAP, size[1] + _LINE + 2 * _GAP), (252, 251, 249))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT)
    for number, (words, layer) in enumerate(panels):
        left = _GAP + number * (wide + _GAP)
        shown = picture.resize(size, Image.Resampling.BICUBIC)
        if layer is not None:
            base = Image.blend(shown, shown.convert("L").convert("RGB"), _GREY).convert("RGBA")
            over = Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC)
            shown = Image.alpha_composite(base, over).convert("RGB")
        draw.text((left, _GAP - 2), _fitting(visible(words), font, wide), fill=(26, 29, 33), font=font)
        sheet.paste(shown, (left, _GAP + _LINE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def tiles(stack: NDArray[np.floating], columns: int, tile_px: int) -> Pixels:
    """Return uint8 [H, W, 3], a sheet of small pictures on white, from a stack [n, h, w] or [n, h, w, 3].

    With three channels they are drawn as colours around grey, each scaled by its own largest number; with one, as maps
    from the stack's lowest (dark) to its highest, each by itself.
    """
    count, gap = len(stack), 3
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (tile_px + gap) - gap, rows * (tile_px + gap) - gap), (255, 255, 255))
    for number, one in enumerate(stack):
        if one.ndim == 3:
            level = 0.5 + 0.5 * one / max(float(np.abs(one).max()), 1e-12)
        else:
            low, high = float(one.min()), float(one.max())
            level = _coloured(np.asarray((one - low) / max(high - low, 1e-12), dtype=np.float32))
        tile = Image.fromarray(np.round(np.clip(level, 0, 1) * 255).astype(np.uint8))
        place = (number % columns * (tile_px + gap), number // columns * (tile_px + gap))
        sheet.paste(tile.resize((tile_px, tile_px), Image.Resampling.NEAREST), place)
    return np.asarray(sheet)


def _seen(width: int, height: int, preprocess: Preprocess) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of what the network sees of a picture; beyond its edges where it is padded."""
    if preprocess.resize_policy == "squash":
        return 0, 0, width, height
    side = min(width, height) if preprocess.resize_policy == "crop" else max(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _coloured(level: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return RGB float32 [..., 3] in [0, 1] of levels in [0, 1]."""
    stops = np.array([[int(colour[i : i + 2], 16) for i in (0, 2, 4)] for colour in VIRIDIS], dtype=np.float32) / 255
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(level, at, stops[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text
