"""What cameras, light and compression do to a picture, made on purpose, at three strengths.

After Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations" (2019),
whose severities 1, 3 and 5 of blur, noise, JPEG and brightness are these, made for 224 px; blur follows the size of the
picture. Rotation is not among theirs.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageFilter

from tellapart.images.decode import Pixels

__all__ = ["CORRUPTIONS", "STRENGTHS", "corrupt"]

STRENGTHS = (1, 2, 3)
_MADE_FOR_PX = 224
# Deviation of the blur in pixels at 224 px; deviation of the noise, as a share of 255; quality of the JPEG; what is
# added to the value of HSV, as a share of 255; degrees, counter-clockwise or clockwise.
CORRUPTIONS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "blur": (1.0, 3.0, 6.0),
        "noise": (0.08, 0.18, 0.38),
        "jpeg": (25, 15, 7),
        "brightness": (0.1, 0.3, 0.5),
        "rotation": (10.0, 20.0, 45.0),
    }
)


def corrupt(pixels: Pixels, corruption: str, strength: int, key: int) -> Pixels:
    """Return a corrupted copy of uint8 RGB [H, W, 3], of the same shape.

    `strength` is 1, 2 or 3; `key`, 0 to 2**64 - 1, decides the noise and the direction of the rotation. The result is a
    function of the arguments alone.
    """
    amount = CORRUPTIONS[corruption][strength - 1]
    picture = Image.fromarray(pixels)
    if corruption == "blur":
        changed = picture.filter(ImageFilter.GaussianBlur(amount * min(picture.size) / _MADE_FOR_PX))
    elif corruption == "noise":
        generator = np.random.Generator(np.random.Philox(key=[key, strength]))
        noise = generator.standard_normal(pixels.shape, dtype=np.float32)
        return np.clip(np.rint(pixels + 255.0 * amount * noise), 0, 255).astype(np.uint8)
    elif corruption == "jpeg":
        stored = io.BytesIO()
        picture.save(stored, "JPEG", quality=int(amount))
        with Image.open(stored) as opened:
            changed = opened.convert("RGB")
    elif corruption == "brightness":
        hue, saturation, value = picture.convert("HSV").split()
        lighter = value.point([min(255, round(level + 255 * amount)) for level in range(256)])
        changed = Image.merge("HSV", (hue, saturation, lighter)).convert("RGB")
    else:
        # What comes from outside repeats the mirrored edge: a black corner would be a second corruption.
        margin = max(picture.size) // 2
        pads = [(min(margin, side - 1), min(margin, side - 1)) for side in pixels.shape[:2]]
        wide = Image.fromarray(np.pad(pixels, [*pads, (0, 0)], mode="reflect"))
        turned = wide.rotate(amount if key % 2 else -amount, Image.Resampling.BICUBIC)
        left, top = pads[1][0], pads[0][0]
        changed = turned.crop((left, top, left + picture.width, top + picture.height))
    return np.asarray(changed)
