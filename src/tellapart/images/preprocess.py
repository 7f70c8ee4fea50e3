"""How a picture becomes a tensor, as data: what train, evaluate and serve all go through."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DecodePolicy", "Interpolation", "Preprocess", "ResizePolicy"]

ResizePolicy = Literal["crop", "pad", "squash"]
Interpolation = Literal["bilinear", "bicubic"]


class DecodePolicy(BaseModel):
    """How bytes become pixels; a part of `Preprocess`, and all that `decode` needs besides the source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    background: tuple[int, int, int] = Field((255, 255, 255), description="RGB colour behind transparent pixels.")
    sixteen_bit_scale: int = Field(65535, ge=255, le=65535, description="The 16-bit level that becomes 255.")
    max_pixels: int = Field(50_000_000, ge=1, description="Pictures with more pixels are refused from their header.")
    min_side_px: int = Field(8, ge=1, description="Pictures with a shorter side are refused.")
    max_aspect: float = Field(50.0, ge=1.0, description="Pictures longer than this many times their width are refused.")


class Preprocess(BaseModel):
    """From a picture's bytes to uint8 [image_size, image_size, 3]; normalisation happens inside the graph.

    `at_least_px` lets a large JPEG be decoded at a reduced scale whose shorter side is still that long; None decodes
    in full. `mean` and `std` are in the 0..1 range of `pixels / 255` and are recorded for readers: the graph already
    holds them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = Field(ge=8, le=4096, description="Side of the square the network sees, in pixels.")
    at_least_px: int | None = Field(None, ge=1)
    resize_policy: ResizePolicy = "squash"
    interpolation: Interpolation = "bicubic"
    decode: DecodePolicy = DecodePolicy()
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
