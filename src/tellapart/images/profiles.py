"""Colour profiles: what a file's ICC profile says, and the table that brings its colours to sRGB.

Only profiles of three primaries and three curves (matrix and TRC) are read, here and not by a library, for a profile is
hostile input like the rest of a file; these are what cameras and phones write (Display P3, Adobe RGB). Source:
ICC.1:2022, sections 7.2 (header), 8.3 and 9.2 (tags), 10.6 (curves), 10.18 (parametric curves), 10.31 (XYZ).
"""

from __future__ import annotations

import functools
import struct
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter

__all__ = ["Profile", "read_profile"]

_MAX_BYTES = 1 << 20
_GRID = 33
_LEVELS_APART = 12  # less than this in any colour is sRGB for our purposes: some write it with a plain gamma of 2.2
_SPACES = (b"RGB ", b"GRAY", b"CMYK", b"Lab ", b"XYZ ", b"YCbr")

# Linear sRGB to XYZ under D50, columns red, green, blue (IEC 61966-2-1, adapted by Bradford's matrix).
_SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)

Floats = NDArray[np.float64]


class Profile(NamedTuple):
    """What a profile is: `srgb` (or so near that nothing is to be done), `wide` (of other colours, and `to_srgb` brings
    them there), `other` (of another kind, which is left alone), `broken`."""

    kind: Literal["srgb", "wide", "other", "broken"]
    to_srgb: ImageFilter.Color3DLUT | None = None


@functools.lru_cache(maxsize=32)
def read_profile(icc: bytes) -> Profile:
    """Return what the bytes of an ICC profile say. Never raises."""
    if not 132 <= len(icc) <= _MAX_BYTES or icc[36:40] != b"acsp" or icc[16:20] not in _SPACES:
        return Profile("broken")
    try:
        tags = _tags(icc)
        if icc[16:20] != b"RGB " or b"rXYZ" not in tags or b"rTRC" not in tags:
            return Profile("other")
        matrix = np.array([_xyz(tags[name]) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]).T
        axis = np.linspace(0.0, 1.0, _GRID)
        curves = [_curve(tags[name], axis) for name in (b"rTRC", b"gTRC", b"bTRC")]
    except (KeyError, IndexError, struct.error, ValueError, OverflowError, ZeroDivisionError):
        return Profile("broken")
    # A Color3DLUT changes red fastest.
    blue, green, red = np.meshgrid(curves[2], curves[1], curves[0], indexing="ij")
    linear = np.stack([red, green, blue], axis=-1).reshape(-1, 3) @ (np.linalg.inv(_SRGB) @ matrix).T
    table = _encoded(np.clip(linear, 0.0, 1.0))
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    identity = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    if not np.isfinite(table).all():
        return Profile("broken")
    if np.abs(table - identity).max() * 255 < _LEVELS_APART:
        return Profile("srgb")
    return Profile("wide", ImageFilter.Color3DLUT(_GRID, table.ravel().tolist()))


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 200:
        raise ValueError
    tags = {}
    for number in range(count):
        name, start, size = struct.unpack_from(">4sII", icc, 132 + 12 * number)
        if start + size > len(icc):
            raise ValueError
        tags[name] = icc[start : start + size]
    return tags


def _xyz(tag: bytes) -> list[float]:
    if tag[:4] != b"XYZ ":
        raise ValueError
    return [value / 65536 for value in struct.unpack_from(">3i", tag, 8)]


def _curve(tag: bytes, at: Floats) -> Floats:
    """Return the linear light, 0 to 1, of the levels `at`, 0 to 1."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return at
        values = np.frombuffer(tag, ">u2", count, 12).astype(np.float64)
        if count == 1:
            return np.asarray(at ** (values[0] / 256))
        return np.interp(at, np.linspace(0, 1, count), values / 65535)
    if tag[:4] != b"para":
        raise ValueError
    (kind,) = struct.unpack_from(">H", tag, 8)
    given = [value / 65536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)]
    # Y = (aX + b) ** g + e from X = d on, and cX + f below.
    gamma, a, b, c, d, e, f = given + [1.0, 0.0, 0.0, 0.0, 0.0, 0.0][len(given) - 1 :]
    if kind in (1, 2):
        c, d, e, f = 0.0, -b / a, c, c
    with np.errstate(all="ignore"):
        return np.asarray(np.where(at >= d, np.maximum(a * at + b, 0.0) ** gamma + e, c * at + f))


def _encoded(linear: Floats) -> Floats:
    """Return sRGB levels, 0 to 1, of linear light, 0 to 1 (IEC 61966-2-1)."""
    return np.asarray(np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055))
