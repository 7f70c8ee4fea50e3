"""What is kept of a picture once it is decoded: a thumbnail, perceptual hashes, and a few numbers for the audit.

All comes from one reduction of the decoded picture, so that it costs a fraction of the decode.
"""

from __future__ import annotations

import calendar
import dataclasses
import math
import time
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tellapart.images.decode import Box, Pixels
from tellapart.images.header import Header
from tellapart.images.phash import SIDE_PX, WINDOWS, hashes
from tellapart.images.sniff import FORMATS
from tellapart.images.structure import exif_texts

__all__ = ["MEASURES", "MODES", "THUMBNAIL_BYTES", "Measured", "as_thumbnail", "measure"]

THUMBNAIL_BYTES = SIDE_PX * SIDE_PX * 3
MODES = ("other", "1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16")

# One record a picture. `hashes`: see `phash`. `format` is an index into `FORMATS`, `mode` into `MODES` (as stored),
# `orientation` is EXIF's, 1 to 8. `jpeg_quality` is libjpeg's, 1 to 100, estimated from the tables; 0 for no JPEG.
# `num_frames` is 0 where it is not known. `camera` is a checksum of EXIF maker and model, `taken` EXIF's time of the
# exposure in seconds since 1970 on the camera's own clock; 0 where there is none. Levels are 0 to 255: `brightness` and
# `contrast` are mean and deviation of grey, `saturation` the mean of the highest channel less the lowest, `border` the
# mean colour of the outermost 1/32 on each side, `border_spread` the deviation there (root mean square over channels).
# `sharpness` is the deviation of the Laplacian of grey at a longer side of 129 to 256 px, or as it is where that is
# less; `slope` there the root mean square of the difference between neighbours, both ways added up: Laplacian against
# slope tells how wide edges are, whatever their contrast. `entropy` is of grey, in bits, 0 to 8.
MEASURES = np.dtype(
    [
        ("hashes", "<u8", len(WINDOWS)),
        ("file_bytes", "<u4"),
        ("format", "u1"),
        ("mode", "u1"),
        ("orientation", "u1"),
        ("jpeg_quality", "u1"),
        ("num_frames", "<u2"),
        ("camera", "<u4"),
        ("taken", "<u4"),
        ("brightness", "<f2"),
        ("contrast", "<f2"),
        ("saturation", "<f2"),
        ("sharpness", "<f2"),
        ("slope", "<f2"),
        ("entropy", "<f2"),
        ("border", "u1", 3),
        ("border_spread", "<f2"),
    ]
)

_LONGER_PX = 256
_ALL_LEVELS = np.arange(256, dtype=np.float64)
_RING = np.flatnonzero(np.pad(np.zeros((SIDE_PX - 2, SIDE_PX - 2), dtype=bool), 1, constant_values=True))
_MAKER, _MODEL, _CHANGED, _TAKEN = 271, 272, 306, 36867
# Of the luminance table in Annex K of ITU-T T.81, libjpeg's quality 50: the sum, and that of the 16 smallest values.
_TABLE_AT_50 = 3688
_SMALLEST_AT_50 = 246


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """`measures`: one packed `MEASURES`. `thumbnail`: uint8 RGB [32, 32, 3] as bytes, the picture squashed to a square.

    Squashed, because then what a crop takes from one side moves pixels along that axis alone, by a share of the side
    that does not depend on the shape; padding would add edges that move with the crop.
    """

    measures: bytes
    thumbnail: bytes


def measure(picture: ImageFile.ImageFile, header: Header, flat: Image.Image, box: Box, file_bytes: int) -> Measured:
    """Return what is kept of an opened `picture`, of which `upright` gave `flat` and `box`."""
    factor = max(1, math.ceil(max(box[2] - box[0], box[3] - box[1]) / _LONGER_PX))
    small = flat.reduce(factor) if factor > 1 else flat
    left, top, right, bottom = box
    part = (left / factor, top / factor, right / factor, bottom / factor)
    square = small.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, box=part)
    thumbnail = np.asarray(square if square.mode == "RGB" else square.convert("RGB"))
    grey = small if small.mode == "L" else small.convert("L")
    record = np.zeros((), dtype=MEASURES)
    record["hashes"] = hashes(thumbnail)
    record["file_bytes"] = file_bytes
    record["format"] = FORMATS.index(header.format)
    mode = "I;16" if header.sixteen_bit else header.mode
    record["mode"] = MODES.index(mode) if mode in MODES else 0
    record["orientation"] = header.orientation
    record["jpeg_quality"] = _jpeg_quality(picture)
    record["num_frames"] = min(header.num_frames or 0, 65535)
    record["camera"], record["taken"] = _exif(picture.info.get("exif"))
    levels = np.asarray(grey)
    record["brightness"], record["contrast"], record["entropy"] = _levels(levels)
    record["sharpness"], record["slope"] = _detail(levels)
    record["saturation"] = _saturation(thumbnail)
    record["border"], record["border_spread"] = _border(thumbnail)
    return Measured(record.tobytes(), thumbnail.tobytes())


def as_thumbnail(stored: bytes) -> Pixels:
    """Return a stored thumbnail as uint8 [32, 32, 3]. Raises ValueError when it has another length."""
    return np.frombuffer(stored, dtype=np.uint8).reshape(SIDE_PX, SIDE_PX, 3)


def _levels(grey: Pixels) -> tuple[float, float, float]:
    """Return mean, deviation and entropy in bits of grey levels uint8 [h, w]."""
    shares = np.bincount(grey.ravel(), minlength=256) / grey.size
    mean = float(shares @ _ALL_LEVELS)
    seen = shares[shares > 0]
    return mean, math.sqrt(float(shares @ (_ALL_LEVELS - mean) ** 2)), float(-(seen @ np.log2(seen)))


def _detail(grey: Pixels) -> tuple[float, float]:
    """Return `sharpness` and `slope` of grey levels uint8 [h, w]; 0 of less than three by three."""
    if min(grey.shape) < 3:
        return 0.0, 0.0
    levels = grey.astype(np.float32)
    laplacian = levels[1:-1, :-2] + levels[1:-1, 2:]
    laplacian += levels[:-2, 1:-1]
    laplacian += levels[2:, 1:-1]
    laplacian -= 4 * levels[1:-1, 1:-1]
    steps = ((levels[:, 1:] - levels[:, :-1]).ravel(), (levels[1:] - levels[:-1]).ravel())
    slope = math.sqrt(sum(float(step @ step) / len(step) for step in steps))
    return _deviation(laplacian.ravel()), slope


def _saturation(thumbnail: Pixels) -> float:
    red, green, blue = thumbnail[:, :, 0], thumbnail[:, :, 1], thumbnail[:, :, 2]
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    return float((highest - lowest).mean())


def _border(thumbnail: Pixels) -> tuple[NDArray[np.float32], float]:
    ring = thumbnail.reshape(-1, 3)[_RING].astype(np.float32)
    mean = ring.sum(axis=0) / len(ring)
    return np.rint(mean), _deviation((ring - mean).ravel())


def _deviation(values: NDArray[np.float32]) -> float:
    """Return the standard deviation; numpy's own takes four times as long for a few thousand values."""
    mean = float(values.sum()) / len(values)
    return math.sqrt(max(0.0, float(values @ values) / len(values) - mean * mean))


def _jpeg_quality(picture: ImageFile.ImageFile) -> int:
    """Return the quality that gives a luminance table with the sum of the first one here, by libjpeg's rule; or 0.

    At quality q the table is scaled by 50 / q below 50, and by (100 - q) / 50 from there on, and cut off at 255: of
    coarse tables the small values are taken alone.
    """
    tables: dict[int, list[int]] | None = getattr(picture, "quantization", None)
    if not tables:
        return 0
    table = sorted(tables[min(tables)])
    scale = sum(table) / _TABLE_AT_50
    if scale > 1:
        scale = sum(table[:16]) / _SMALLEST_AT_50
    return max(1, min(100, round(100 - 50 * scale if scale <= 1 else 50 / scale)))


def _exif(exif: bytes | None) -> tuple[int, int]:
    """Return a checksum of the camera's names, and when the picture was taken; 0 for what is not said."""
    texts = exif_texts(exif, (_MAKER, _MODEL, _CHANGED, _TAKEN))
    camera = b"\0".join(texts.get(tag, b"").strip() for tag in (_MAKER, _MODEL))
    told = texts.get(_TAKEN) or texts.get(_CHANGED) or b""
    try:
        taken = calendar.timegm(time.strptime(told.decode("ascii"), "%Y:%m:%d %H:%M:%S")) if told else 0
    except ValueError:
        taken = 0
    return zlib.crc32(camera) if camera != b"\0" else 0, taken if 0 < taken < 1 << 32 else 0
