"""The one decode: any allowed picture, from a file or bytes, to 8-bit RGB the right way up."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tellapart.images.header import Header, opened
from tellapart.images.preprocess import DecodePolicy
from tellapart.images.profiles import read_profile
from tellapart.images.readers import as_far_as_it_goes
from tellapart.images.structure import jpeg_ends_in_zeros

__all__ = ["Box", "Pixels", "decode", "decoded", "sixteen_bit_peak", "upright"]

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]

# What an EXIF orientation asks to be done to the stored picture (JEITA CP-3451, tag 274).
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    source: Path | bytes,
    at_least_px: int | None = None,
    policy: DecodePolicy = DecodePolicy(),  # noqa: B008 (frozen)
) -> Pixels:
    """Return a picture's pixels, uint8 RGB [H, W, 3], from its file or its bytes.

    JPEG, PNG, WebP, GIF, BMP and TIFF are told by content. EXIF orientation is applied; of several frames or pages the
    first is taken; transparency is laid on `policy.background`; 16-bit grey is scaled so that
    `policy.sixteen_bit_scale` becomes 255; colour profiles are followed or ignored as the policy says. With
    `at_least_px`, a JPEG whose shorter side is at least twice as long is decoded at 1/2, 1/4 or 1/8 of its size, the
    shorter side no less than `at_least_px`.

    Raises PictureError, and nothing else, with one of the codes `empty_file`, `not_an_image`, `unsupported_format`,
    `truncated`, `corrupt`, `too_small`, `extreme_aspect`, `too_many_pixels`, `decode_oom`, `permission`, `unreadable`.
    """
    with opened(source, policy) as (picture, header, _):
        return decoded(picture, header, at_least_px, policy)


def decoded(picture: ImageFile.ImageFile, header: Header, at_least_px: int | None, policy: DecodePolicy) -> Pixels:
    """Return what `decode` does of a picture that is `opened`. What Pillow raises comes through."""
    flat, _ = upright(picture, header, at_least_px, policy)
    return np.array(flat if flat.mode == "RGB" else flat.convert("RGB"))


def sixteen_bit_peak(source: Path | bytes, policy: DecodePolicy = DecodePolicy()) -> int | None:  # noqa: B008 (frozen)
    """Return the highest level in a 16-bit grey picture, 0 to 65535; None for every other picture.

    A data set's one `sixteen_bit_scale` is chosen from these. Raises PictureError, as `decode` does.
    """
    with opened(source, policy) as (picture, header, _):
        if not header.sixteen_bit:
            return None
        try:
            return int(_levels(picture).max())
        except OSError as error:
            if not policy.allow_truncated or "truncated" not in str(error):
                raise
            return int(_levels(as_far_as_it_goes(picture)).max())


def upright(
    picture: ImageFile.ImageFile, header: Header, at_least_px: int | None, policy: DecodePolicy
) -> tuple[Image.Image, Box]:
    """Return the decoded picture in mode L or RGB, flattened and turned upright, and the box in which it lies.

    The box (left, top, right, bottom, in pixels of the result) is all of it, but for a JPEG decoded at a reduced scale
    whose sides are no multiple of the divisor: half of 375 pixels is 187.5, and the decoder gives 188, the last one
    of which is half empty. What Pillow raises comes through.
    """
    if header.format == "JPEG" and not policy.allow_truncated:
        assert picture.fp is not None
        if jpeg_ends_in_zeros(picture.fp):
            raise OSError("image file is truncated: it ends in zeros")
    try:
        flat, reduced = _drafted(picture, header, at_least_px, policy)
    except OSError as error:
        if not policy.allow_truncated or "truncated" not in str(error):
            raise
        flat, reduced = _drafted(as_far_as_it_goes(picture), header, at_least_px, policy)
    extent = reduced[1][2:] if reduced is not None else flat.size
    if header.orientation in _TURNS:
        flat = flat.transpose(_TURNS[header.orientation])
    return flat, _turned_box(flat.size, extent, header.orientation)


def _drafted(
    picture: ImageFile.ImageFile, header: Header, at_least_px: int | None, policy: DecodePolicy
) -> tuple[Image.Image, tuple[str, tuple[int, int, float, float]] | None]:
    reduced = None
    if at_least_px is not None and header.format == "JPEG":
        # No mode is asked for: the decoder's own conversion to grey or RGB would differ from the one below.
        reduced = picture.draft(None, (at_least_px, at_least_px))
    return _flatten(picture, header, policy), reduced


def _turned_box(size: tuple[int, int], extent: tuple[float, float], orientation: int) -> Box:
    """Return where the picture lies after a turn: `extent` is measured from the top left corner as stored."""
    width, height = extent[::-1] if orientation >= 5 else extent
    left = size[0] - width if orientation in (2, 3, 6, 7) else 0.0
    top = size[1] - height if orientation in (3, 4, 7, 8) else 0.0
    return left, top, left + width, top + height


def _flatten(picture: ImageFile.ImageFile, header: Header, policy: DecodePolicy) -> Image.Image:
    """Return a stored picture of any mode in mode L or RGB."""
    if header.sixteen_bit:
        return _flatten_sixteen_bit(picture, policy)
    rawmode = str(picture.tile[0].args if picture.tile else "")
    picture.load()
    if "wide_gamut" in header.notes:
        return _in_srgb(picture, policy, rawmode)
    if picture.mode in ("L", "RGB") and "transparency" not in picture.info:
        return picture
    if picture.mode == "1" and "transparency" not in picture.info:
        return picture.convert("L")
    if picture.has_transparency_data:
        _mend_key(picture, rawmode)
        return _on_background(picture if picture.mode == "RGBA" else picture.convert("RGBA"), policy)
    return picture.convert("RGB")


def _in_srgb(picture: ImageFile.ImageFile, policy: DecodePolicy, rawmode: str) -> Image.Image:
    table = read_profile(picture.info["icc_profile"]).to_srgb
    assert table is not None
    if not picture.has_transparency_data:
        return (picture if picture.mode == "RGB" else picture.convert("RGB")).filter(table)
    _mend_key(picture, rawmode)
    return _on_background(picture.convert("RGBA").filter(table), policy)


def _mend_key(picture: Image.Image, rawmode: str) -> None:
    """Bring a PNG's transparent level or colour to the 8 bits of the decoded pixels; Pillow leaves it as stored."""
    key = picture.info.get("transparency")
    if isinstance(key, int) and picture.mode == "L":
        picture.info["transparency"] = key * {"L;2": 85, "L;4": 17}.get(rawmode, 1) & 255
    elif isinstance(key, tuple) and ";16" in rawmode:
        picture.info["transparency"] = tuple(level >> 8 for level in key)
    elif isinstance(key, tuple):
        picture.info["transparency"] = tuple(level & 255 for level in key)


def _on_background(rgba: Image.Image, policy: DecodePolicy) -> Image.Image:
    canvas = Image.new("RGB", rgba.size, policy.background)
    canvas.paste(rgba, mask=rgba)
    return canvas


def _levels(picture: ImageFile.ImageFile) -> NDArray[np.uint16]:
    """Return the levels of a 16-bit grey picture, uint16 [H, W], 0 black."""
    picture.load()
    levels = np.asarray(picture).astype(np.uint16, copy=False)
    # Pillow inverts pictures in which 0 means white, but not those of 16 bits.
    if getattr(picture, "tag_v2", {}).get(262) == 0:
        levels = np.uint16(65535) - levels
    return levels


def _flatten_sixteen_bit(picture: ImageFile.ImageFile, policy: DecodePolicy) -> Image.Image:
    levels = _levels(picture)
    grey = Image.fromarray(_eight_bit_table(policy.sixteen_bit_scale)[levels])
    key = picture.info.get("transparency")
    if not isinstance(key, int):
        return grey
    grey.putalpha(Image.fromarray(np.where(levels == key, np.uint8(0), np.uint8(255))))
    return _on_background(grey.convert("RGBA"), policy)


@functools.lru_cache(maxsize=4)
def _eight_bit_table(scale: int) -> Pixels:
    """Return the 8-bit level of each 16-bit level, uint8 [65536]: rounded, and 255 from `scale` on."""
    levels = np.arange(65536, dtype=np.int64)
    return np.minimum((levels * 255 + scale // 2) // scale, 255).astype(np.uint8)
