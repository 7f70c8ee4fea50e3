"""Training pictures varied, a batch at a time, on the device they are on: a function of (seed, epoch, picture).

What moves a picture is one gather or one interpolation, what recolours it one linear map of its channels; both are for
the whole batch. What happens to few of the pictures (blur, JPEG and the like) is done to those by Pillow. No step lets
one picture of a batch touch another, down to the order of sums, so a picture's bits do not depend on its batch.
"""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor
from torch.nn import functional

from tellapart.learn.augmentation import Augment
from tellapart.learn.draws import Bits, bits, uniform
from tellapart.learn.rungs import IntArray
from tellapart.learn.torch_colours import recoloured

__all__ = ["augmented", "warped"]

# What a draw is for.
_SHIFT_X, _SHIFT_Y, _MIRROR, _CUT_X, _CUT_Y = range(1, 6)
_TURN, _ZOOM, _STRETCH, _CROP_X, _CROP_Y, _BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _GREY = range(30, 40)
_BLURS, _BLUR, _ADDS_NOISE, _NOISE, _PIXEL, _STORES, _QUALITY, _WHICH, _STRENGTH = range(40, 49)

_RARE = 0.2  # the share of the pictures that is blurred, and so on
_BEST_QUALITY, _QUALITY_SPAN = 95, 85
_TRIVIAL_TURN, _TRIVIAL_SHEAR, _TRIVIAL_SHIFT, _TRIVIAL_FACTOR = 30.0, 0.3, 0.3, 0.9
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class _Draws:
    """The draws of some pictures in an epoch; `op` names what TrivialAugment does to each, `strength` in [-1, 1]."""

    seed: int
    epoch: int
    keys: Bits
    op: tuple[str, ...]
    strength: Floats

    def unit(self, purpose: int) -> Floats:
        """Return float64 [n] in [0, 1)."""
        return uniform(self.seed, self.epoch, self.keys, purpose)

    @property
    def mirrored(self) -> NDArray[np.bool_]:
        """Which are mirrored: half of them, and those that are not in this epoch are in the next."""
        first = bits(self.seed, 0, self.keys, _MIRROR) >> np.uint64(63)
        turned: NDArray[np.bool_] = (first + np.uint64(self.epoch)) % np.uint64(2) == 1
        return turned

    def either_way(self, purpose: int, most: float, op: str = "", most_of_op: float = 0.0) -> Floats:
        """Return float64 [n] between -`most` and `most`, and what TrivialAugment adds where it does `op`."""
        drawn = (2.0 * self.unit(purpose) - 1.0) * most if most else np.zeros(len(self.keys))
        return drawn + self.strength * most_of_op * self.does(op)

    def does(self, op: str) -> NDArray[np.bool_]:
        """Return bool [n]: where TrivialAugment does `op`."""
        return np.array([name == op for name in self.op] or [False] * len(self.keys), dtype=bool)


def augmented(pixels: Tensor, keys: Bits, seed: int, epoch: int, how: Augment, fill: Tensor | None) -> Tensor:
    """Return uint8 [n, S, S, C] varied as `how` says; `keys` uint64 [n] name the pictures.

    `fill` uint8 [C] is what an erased square becomes; without one nothing is erased. Pictures of one channel have no
    hue and no saturation.
    """
    draws = _drawn(keys, seed, epoch, how)
    matrix = _matrix(draws, how, pixels.shape[1])
    varied = _gathered(pixels, draws, how) if matrix is None else warped(pixels, matrix)
    if how.brightness or how.contrast or how.saturation or how.hue or how.grey or how.trivial:
        varied = recoloured(
            varied,
            1.0 + draws.either_way(_BRIGHTNESS, how.brightness, "brightness", _TRIVIAL_FACTOR),
            1.0 + draws.either_way(_CONTRAST, how.contrast, "contrast", _TRIVIAL_FACTOR),
            np.where(
                draws.unit(_GREY) < how.grey,
                0.0,
                1.0 + draws.either_way(_SATURATION, how.saturation, "saturation", _TRIVIAL_FACTOR),
            ),
            draws.either_way(_HUE, how.hue),
        )
    varied = _noisy(_by_pillow(varied, draws, how), draws, how)
    if how.cut_px and fill is not None:
        varied = _erased(varied, draws, how.cut_px, fill)
    return varied


def _drawn(keys: Bits, seed: int, epoch: int, how: Augment) -> _Draws:
    if not how.trivial:
        return _Draws(seed, epoch, keys, (), np.zeros(len(keys)))
    which = np.floor(uniform(seed, epoch, keys, _WHICH) * len(how.trivial)).astype(np.int64)
    strength = 2.0 * uniform(seed, epoch, keys, _STRENGTH) - 1.0
    return _Draws(seed, epoch, keys, tuple(how.trivial[index] for index in which.tolist()), strength)


def _gathered(pixels: Tensor, draws: _Draws, how: Augment) -> Tensor:
    """Return pictures moved by whole pixels and mirrored: one gather of rows and columns."""
    side, span = pixels.shape[1], 2 * how.shift_px + 1
    place = np.arange(side)[None, :]

    def drawn(purpose: int, below: int) -> IntArray:
        return np.floor(draws.unit(purpose) * below).astype(np.int64)[:, None]

    rows = _reflected(place + drawn(_SHIFT_Y, span) - how.shift_px, side)
    columns = _reflected(place + drawn(_SHIFT_X, span) - how.shift_px, side)
    if how.flip:
        columns = np.where(draws.mirrored[:, None], columns[:, ::-1], columns)
    which = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    down = torch.from_numpy(rows).to(pixels.device)[:, :, None]
    across = torch.from_numpy(np.ascontiguousarray(columns)).to(pixels.device)[:, None]
    return pixels[which, down, across]


def _reflected(place: IntArray, side: int) -> IntArray:
    """Return indices into 0..side-1; those beyond an edge come back from it, the edge itself not repeated."""
    place = np.abs(place)
    return np.where(place >= side, 2 * (side - 1) - place, place)


def _matrix(draws: _Draws, how: Augment, side: int) -> Floats | None:
    """Return float64 [n, 2, 3], from places in the varied picture to those in the picture; None for whole pixels.

    Places are as `affine_grid` has them: -1 and 1 are the outer edges.
    """
    moves = {"turn", "shear_x", "shear_y", "shift_x", "shift_y"} & set(how.trivial)
    if not (how.turn or how.zoom or how.stretch or moves):
        return None
    count = len(draws.keys)
    angle = np.deg2rad(draws.either_way(_TURN, how.turn, "turn", _TRIVIAL_TURN))
    share = 1.0 - how.zoom * draws.unit(_ZOOM)
    ratio = np.exp(draws.either_way(_STRETCH, np.log1p(how.stretch)) / 2.0)
    width, height = share * ratio, share / ratio
    mirrored = np.where(how.flip & draws.mirrored, -1.0, 1.0)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    shear = np.tile(np.eye(2), (count, 1, 1))
    shear[:, 0, 1] = draws.strength * _TRIVIAL_SHEAR * draws.does("shear_x")
    shear[:, 1, 0] = draws.strength * _TRIVIAL_SHEAR * draws.does("shear_y")
    matrix = np.zeros((count, 2, 3))
    matrix[:, :, :2] = turn @ shear @ (np.eye(2) * np.stack([width * mirrored, height], -1)[:, None, :])
    for axis, crop, shift, op in ((0, _CROP_X, _SHIFT_X, "shift_x"), (1, _CROP_Y, _SHIFT_Y, "shift_y")):
        slack = draws.either_way(crop, 1.0) * (1.0 - share)
        most = 2.0 * how.shift_px / side
        matrix[:, axis, 2] = slack + draws.either_way(shift, most, op, 2.0 * _TRIVIAL_SHIFT)
    return matrix


def warped(pixels: Tensor, matrix: Floats) -> Tensor:
    """Return uint8 [n, S, S, C] interpolated between four pixels, reflected beyond the edges.

    `matrix` float64 [n, 2, 3] leads from a place (x, y) in the varied picture to one in the picture, edges at -1 and 1.
    """
    count, side = pixels.shape[0], pixels.shape[1]
    axis = (2.0 * np.arange(side) + 1.0) / side - 1.0
    x = matrix[:, :, 0, None, None] * axis[None, None, None, :]
    places = x + matrix[:, :, 1, None, None] * axis[None, None, :, None] + matrix[:, :, 2, None, None]
    grid = torch.from_numpy(np.moveaxis(places, 1, -1).astype(np.float32)).to(pixels.device)
    planes = pixels.permute(0, 3, 1, 2).float().contiguous()
    found = functional.grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    assert len(found) == count
    return found.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _by_pillow(pixels: Tensor, draws: _Draws, how: Augment) -> Tensor:
    """Return pictures of which some are blurred, stored as JPEG, or changed as only TrivialAugment does."""
    blurred = (draws.unit(_BLURS) < _RARE) if how.blur else np.zeros(len(pixels), bool)
    stored = (draws.unit(_STORES) < _RARE) if how.jpeg else np.zeros(len(pixels), bool)
    ops = ("sharpness", "auto_contrast", "equalize", "posterize", "solarize")
    tried = np.array([name in ops for name in draws.op], bool) if draws.op else np.zeros(len(pixels), bool)
    rows = np.flatnonzero(blurred | stored | tried)
    if not len(rows):
        return pixels
    side, radius, quality = pixels.shape[1], draws.unit(_BLUR) * how.blur, draws.unit(_QUALITY) * how.jpeg
    chosen = torch.from_numpy(rows).to(pixels.device)
    few = pixels[chosen].cpu().numpy()
    for place, row in enumerate(rows.tolist()):
        picture = Image.fromarray(few[place, ..., 0] if few.shape[-1] == 1 else few[place])
        if tried[row]:
            picture = _tried(picture, draws.op[row], float(draws.strength[row]))
        if blurred[row]:
            picture = picture.filter(ImageFilter.GaussianBlur(float(radius[row]) * side))
        if stored[row]:
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=round(_BEST_QUALITY - _QUALITY_SPAN * float(quality[row])))
            with Image.open(file) as opened:
                picture = opened.convert(picture.mode)
        few[place] = np.asarray(picture).reshape(few.shape[1:])
    varied = pixels.clone()
    varied[chosen] = torch.from_numpy(few).to(pixels.device)
    return varied


def _tried(picture: Image.Image, op: str, strength: float) -> Image.Image:
    if op == "auto_contrast":
        return ImageOps.autocontrast(picture)
    if op == "equalize":
        return ImageOps.equalize(picture)
    if op == "posterize":
        return ImageOps.posterize(picture, 8 - int(4 * abs(strength)))
    if op == "solarize":
        return ImageOps.solarize(picture, 256 - int(256 * abs(strength)))
    return ImageEnhance.Sharpness(picture).enhance(1.0 + _TRIVIAL_FACTOR * strength)


def _noisy(pixels: Tensor, draws: _Draws, how: Augment) -> Tensor:
    """Return pictures of which some have noise: for each value the sum of four draws, which is nearly normal."""
    rows = np.flatnonzero(draws.unit(_ADDS_NOISE) < _RARE) if how.noise else np.empty(0, np.int64)
    if not len(rows):
        return pixels
    size = int(np.prod(pixels.shape[1:]))
    amount = 255.0 * how.noise * draws.unit(_NOISE)[rows]
    with np.errstate(over="ignore"):
        names = draws.keys[rows][:, None] + _GOLDEN * np.arange(1, size + 1, dtype=np.uint64)[None]
    drawn = bits(draws.seed, draws.epoch, names, _PIXEL)
    fields = [((drawn >> np.uint64(16 * k)) & np.uint64(0xFFFF)).astype(np.float32) for k in range(4)]
    normal = (sum(fields) / np.float32(65536.0) - np.float32(2.0)) * np.float32(3.0**0.5)
    noise = (normal * amount[:, None].astype(np.float32)).reshape(len(rows), *pixels.shape[1:])
    chosen = torch.from_numpy(rows).to(pixels.device)
    noisy = (pixels[chosen].float() + torch.from_numpy(noise).to(pixels.device)).round().clamp(0, 255)
    varied = pixels.clone()
    varied[chosen] = noisy.to(torch.uint8)
    return varied


def _erased(pixels: Tensor, draws: _Draws, cut_px: int, fill: Tensor) -> Tensor:
    side = pixels.shape[1]
    place = np.arange(side)[None, :]

    def drawn(purpose: int) -> IntArray:
        return np.floor(draws.unit(purpose) * side).astype(np.int64)[:, None]

    top, left = place - drawn(_CUT_Y) + cut_px // 2, place - drawn(_CUT_X) + cut_px // 2
    cut = ((top >= 0) & (top < cut_px))[:, :, None] & ((left >= 0) & (left < cut_px))[:, None, :]
    return torch.where(torch.from_numpy(cut).to(pixels.device)[..., None], fill.to(pixels.device), pixels)
