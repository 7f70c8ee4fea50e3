"""How training pictures are varied: every change and its strength as a value, and the presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["ANY_ANGLE", "CHANGES", "NOTHING", "TRIVIAL", "Augment", "preset"]

# One of them a picture, at a strength of its own: Mueller and Hutter, "TrivialAugment" (ICCV 2021).
TRIVIAL: tuple[str, ...] = (
    "identity",
    "turn",
    "shear_x",
    "shear_y",
    "shift_x",
    "shift_y",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
    "auto_contrast",
    "equalize",
    "posterize",
    "solarize",
)

ANY_ANGLE = 180.0


@dataclasses.dataclass(frozen=True, slots=True)
class Augment:
    """How training pictures are varied; at its default of nothing, each part leaves them as they are, to the bit.

    Drawn for each picture: mirrored in every other pass, if `flip`; moved by up to `shift_px` either way, what
    comes in being reflected; turned by up to `turn` degrees either way; cut to a share of its side between 1 - `zoom`
    and 1, and stretched by a factor of up to 1 + `stretch`, one way or the other; brightness, contrast and saturation
    times a factor between 1 - x and 1 + x; hue turned by up to `hue` of the circle; made grey with probability `grey`;
    a square of `cut_px` painted over with the mean colour (DeVries and Taylor, "Cutout", arXiv 1708.04552).
    Each of a fifth of the pictures: blurred with a deviation of up to `blur` of the side; noise of a deviation of up to
    `noise` of the range; stored as JPEG, of quality 95 down to 95 - 85 * `jpeg`.
    `trivial` are names of `TRIVIAL`, one of which happens to a picture. `mixup` and `cutmix` are shares of the pictures
    that are made of two (`torch_mix`).
    """

    flip: bool = False
    shift_px: int = 0
    cut_px: int = 0
    turn: float = 0.0
    zoom: float = 0.0
    stretch: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0
    trivial: tuple[str, ...] = ()
    mixup: float = 0.0
    cutmix: float = 0.0

    def less(self, changes: Collection[str]) -> Augment:
        """Return the same without some of `CHANGES`, and without what TrivialAugment does of them."""
        gone = [part for change in changes for part in CHANGES[change]]
        off: dict[str, Any] = {name: getattr(NOTHING, name) for name in gone if not name.startswith("trivial:")}
        rest = tuple(name for name in self.trivial if f"trivial:{name}" not in gone)
        return dataclasses.replace(self, **off, trivial=rest)

    def has(self, change: str) -> bool:
        """Return whether one of `CHANGES` is part of it."""
        return self.less([change]) != self

    @property
    def words(self) -> str:
        """What is done, in words."""
        shares = [
            ("mirrored", self.flip, ""),
            ("moved", self.shift_px, f" by up to {self.shift_px} px"),
            ("turned", self.turn, " any way" if self.turn >= ANY_ANGLE else f" by up to {self.turn:g} degrees"),
            ("cut and scaled", self.zoom, f" to {1 - self.zoom:.0%} of the side at the least"),
            ("stretched", self.stretch, f" by up to {self.stretch:.0%}"),
            ("brightness", self.brightness, f" {self.brightness:+.0%}".replace("+", "±")),
            ("contrast", self.contrast, f" {self.contrast:+.0%}".replace("+", "±")),
            ("saturation", self.saturation, f" {self.saturation:+.0%}".replace("+", "±")),
            ("hue", self.hue, f" {360 * self.hue:+.0f} degrees".replace("+", "±")),
            ("grey", self.grey, f" {self.grey:.0%}"),
            ("blur", self.blur, ""),
            ("noise", self.noise, ""),
            ("JPEG", self.jpeg, ""),
            ("a square erased", self.cut_px, f" of {self.cut_px} px"),
            ("TrivialAugment", self.trivial, f" of {len(self.trivial)}"),
            ("MixUp", self.mixup, f" {self.mixup:.0%}"),
            ("CutMix", self.cutmix, f" {self.cutmix:.0%}"),
        ]
        return ", ".join(name + how for name, present, how in shares if present) or "nothing"


NOTHING = Augment()

CHANGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "flip": ("flip",),
        "turn": ("turn", "trivial:turn", "trivial:shear_x", "trivial:shear_y"),
        "crop": ("zoom", "stretch"),
        "shift": ("shift_px", "trivial:shift_x", "trivial:shift_y"),
        "light": (
            "brightness",
            "contrast",
            "trivial:brightness",
            "trivial:contrast",
            "trivial:solarize",
            "trivial:posterize",
            "trivial:equalize",
            "trivial:auto_contrast",
        ),
        "hue": ("hue", "trivial:solarize", "trivial:equalize", "trivial:auto_contrast"),
        "grey": ("grey", "saturation", "trivial:saturation", "trivial:posterize", "trivial:equalize"),
        "detail": ("blur", "noise", "jpeg", "trivial:sharpness"),
    }
)
"""What labels may or may not survive: the fields of `Augment`, and the names of `TRIVIAL`, that it is made of."""


def preset(name: str, side: int, *, flip: bool = True, erases: bool = True) -> Augment:
    """Return `none`, `light`, `standard` or `strong` for pictures of `side` px; squares are erased where `erases`."""
    if name == "none":
        return Augment(flip=flip)
    light = Augment(flip=flip, shift_px=max(1, round(side / 8)), cut_px=side * 5 // 16 if erases else 0)
    if name == "light":
        return light
    if name == "standard":
        return dataclasses.replace(
            light, turn=10.0, zoom=0.15, stretch=0.1, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02
        )
    return dataclasses.replace(
        light,
        turn=20.0,
        zoom=0.3,
        stretch=0.2,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.05,
        grey=0.1,
        blur=0.01,
        noise=0.08,
        jpeg=0.8,
        trivial=TRIVIAL,
        mixup=0.25,
        cutmix=0.25,
    )
