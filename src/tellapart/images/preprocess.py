"""How a picture becomes a tensor, as data: what train, evaluate and serve all go through.

Plain dataclasses, so that a process that decodes need not load pydantic; a bundle's card checks them as it does its own
fields, types and unknown names too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

__all__ = ["ColourProfiles", "DecodePolicy", "Interpolation", "Preprocess", "ResizePolicy"]

ResizePolicy = Literal["crop", "pad", "squash"]
Interpolation = Literal["bilinear", "bicubic"]
ColourProfiles = Literal["srgb", "ignore"]
_STRICT = {"extra": "forbid"}


def _in_range(name: str, value: float, least: float, most: float = float("inf")) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least:g} to {most:g}, got {value}")


@dataclasses.dataclass(frozen=True)
class DecodePolicy:
    """How bytes become pixels; a part of `Preprocess`, and all that `decode` needs besides the source.

    `background`: the RGB colour behind transparent pixels. `sixteen_bit_scale`, 255 to 65535: the 16-bit level that
    becomes 255. Pictures with more than `max_pixels`, with a shorter side under `min_side_px`, or longer than
    `max_aspect` times their width are refused from their header; the pixels of all frames count. `colour_profiles` says
    whether colours are brought to sRGB by the file's profile (`srgb`) or taken as stored (`ignore`, as bundles did
    before there was a choice). `allow_truncated` takes what there is of a file that ends early. Raises ValueError when
    a value is out of range.
    """

    __pydantic_config__: ClassVar = _STRICT

    background: tuple[int, int, int] = (255, 255, 255)
    sixteen_bit_scale: int = 65535
    max_pixels: int = 50_000_000
    min_side_px: int = 8
    max_aspect: float = 50.0
    colour_profiles: ColourProfiles = "ignore"
    allow_truncated: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> DecodePolicy:
        """Return the policy whose `dataclasses.asdict`, perhaps through JSON, is `values`."""
        return cls(**{**values, "background": tuple(values["background"])})

    def __post_init__(self) -> None:
        _in_range("sixteen_bit_scale", self.sixteen_bit_scale, 255, 65535)
        for name in ("max_pixels", "min_side_px", "max_aspect"):
            _in_range(name, getattr(self, name), 1)


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """From a picture's bytes to uint8 [image_size, image_size, 3]; normalisation happens inside the graph.

    `image_size`, 8 to 4096 pixels, is the side of the square the network sees. `at_least_px` lets a large JPEG be
    decoded at a reduced scale whose shorter side is still that long; None decodes in full. `mean` and `std` are in the
    0..1 range of `pixels / 255` and are recorded for readers: the graph already holds them. Raises ValueError when a
    value is out of range.
    """

    __pydantic_config__: ClassVar = _STRICT

    image_size: int
    at_least_px: int | None = None
    resize_policy: ResizePolicy = "squash"
    interpolation: Interpolation = "bicubic"
    decode: DecodePolicy = DecodePolicy()
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Preprocess:
        """Return the preprocessing whose `dataclasses.asdict`, perhaps through JSON, is `values`."""
        pairs = {"mean": tuple(values["mean"]), "std": tuple(values["std"])}
        return cls(**{**values, **pairs, "decode": DecodePolicy.of(values["decode"])})

    def __post_init__(self) -> None:
        _in_range("image_size", self.image_size, 8, 4096)
        if self.at_least_px is not None:
            _in_range("at_least_px", self.at_least_px, 1)
