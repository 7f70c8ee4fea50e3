"""Which changes the labels survive, and so how training pictures are varied: as asked for, or as a survey finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tellapart.events import Decision, Progress, Steps
from tellapart.learn.augmentation import ANY_ANGLE, Augment, preset
from tellapart.learn.mirroring import mirrored, small_features
from tellapart.learn.rungs import IntArray
from tellapart.learn.survival import FEWEST, Survival, survival
from tellapart.learn.torch_augment import warped
from tellapart.learn.torch_colours import recoloured
from tellapart.recipe import AugmentOptions

__all__ = ["Eye", "chosen", "surveyed"]

Pixels = NDArray[np.uint8]
Eye = Callable[[Pixels], Steps[NDArray[np.floating]]]

_MOST = 400  # pictures that are asked
_TOLD = (("flip", "on"), ("flip", "off"))  # what need not be asked: the user has said so
_USUAL = Augment(turn=20.0, zoom=0.3, brightness=0.2, contrast=0.2, saturation=0.4, hue=0.05, grey=0.1, blur=0.01)
_DOUBTED = ("flip", "turn", "hue", "grey")  # changes that need evidence; the others need evidence against them
_CELLS = 6  # a side, of which the colours are taken
_COLOURLESS = 0.02  # difference of channels, as a share of their sum
_NAMES = {
    "flip": "mirrored",
    "turn": "turned",
    "any_turn": "turned to any side",
    "crop": "cut and scaled",
    "light": "brighter or darker",
    "hue": "in other hues",
    "grey": "without colours",
    "detail": "blurred",
}


def chosen(
    wish: AugmentOptions, auto: Augment, side: int, name: str, pixels: Pixels, targets: IntArray, look: Eye | None
) -> Steps[Augment]:
    """Return how training pictures of `side` px are varied.

    `auto` is what is done by itself, less what a survey of some pictures uint8 [n, s, s, C] finds that their labels
    do not survive; changes that it has not are asked about too, and told. Presets are taken as they are asked for, but
    for mirroring, which has an option of its own. `look` is the eye of the survey (None: small pictures, their edges
    and colours). Decisions are named `name`.flip and `name`.augment.
    """
    erases = auto.cut_px > 0
    if wish.augment != "auto":
        if wish.augment == "none" and wish.flip == "auto":
            flip = False
            yield Decision(f"{name}.flip", False, "--augment none")
        else:
            flip = yield from mirrored(wish.flip, pixels, targets, f"{name}.flip")
        found = preset(wish.augment, side, flip=flip, erases=erases)
        yield Decision(f"{name}.augment", wish.augment, f"--augment: {found.words}")
        return found
    pixels, targets = pixels[:_MOST], targets[:_MOST]
    colours = () if pixels.shape[-1] > 1 else ("hue", "grey")
    asked = [change for change in _NAMES if change not in colours and (change, wish.flip) not in _TOLD]
    seen = yield from surveyed(pixels, targets, asked, _strengths(auto), f"{name}.survey", look)
    lost = [change for change, one in seen.items() if not _kept(change, one)]
    if len(targets) < FEWEST:
        lost = [change for change in _DOUBTED if change in asked]
    flip = wish.flip == "on" if wish.flip != "auto" else "flip" not in lost
    words = "--flip" if wish.flip != "auto" else _told("flip", seen.get("flip"))
    yield Decision(f"{name}.flip", flip, words)
    found = dataclasses.replace(auto.less([change for change in lost if change != "any_turn"]), flip=flip and auto.flip)
    if "any_turn" in seen and not {"turn", "any_turn"} & set(lost):
        found = dataclasses.replace(found, turn=ANY_ANGLE)
    others = [_told(change, one) for change, one in seen.items() if change != "flip"]
    said = f"{found.words}. Of {len(targets):,} pictures out of fold: {'; '.join(others)}" if others else found.words
    yield Decision(f"{name}.augment", {"labels_do_not_survive": lost}, said)
    return found


def _strengths(auto: Augment) -> Augment:
    """Return the strengths at which changes are asked about: those of `auto`, else usual ones."""
    own = {field.name: getattr(auto, field.name) for field in dataclasses.fields(auto) if getattr(auto, field.name)}
    return dataclasses.replace(_USUAL, **own)


def _told(change: str, found: Survival | None) -> str:
    if found is None:
        return f"{_NAMES[change]}: too few pictures to tell"
    return f"{_NAMES[change]}: {found.words}: {'still of their class' if _kept(change, found) else 'no longer'}"


def _kept(change: str, found: Survival) -> bool:
    """Return whether a change is left on; turns to any side, which nobody asked for, need more evidence."""
    return found.surely if change == "any_turn" else found.survives


def surveyed(
    pixels: Pixels, targets: IntArray, asked: list[str], how: Augment, stage: str, look: Eye | None = None
) -> Steps[dict[str, Survival]]:
    """Return what becomes of pictures uint8 [n, s, s, C] under each of the changes `asked`, at the strengths of `how`.

    A picture is changed as far as it ever is, one way or the other; `any_turn` is by a quarter, half or three quarters.
    """
    if len(targets) < FEWEST:
        return {}
    eye = look or _small
    plain = yield from eye(pixels)
    found: dict[str, Survival] = {}
    for number, change in enumerate(asked):
        changed = yield from eye(_changed(pixels, change, how))
        found[change] = survival(plain, changed, targets, learned=change not in ("flip", "any_turn"))
        yield Progress(stage, number + 1, len(asked))
    return found


def _small(pixels: Pixels) -> Steps[NDArray[np.floating]]:
    """Return small pictures, their edges and, as heavy as these, their colours whatever the light."""
    yield from ()
    features = small_features(pixels)
    if pixels.shape[-1] == 1:
        return features
    edges = np.arange(min(_CELLS, pixels.shape[1])) * pixels.shape[1] // min(_CELLS, pixels.shape[1])
    red, green, blue = np.moveaxis(
        np.add.reduceat(np.add.reduceat(pixels.astype(np.float64), edges, 1), edges, 2), -1, 0
    )
    light = red + green + blue + 1.0
    hues = np.concatenate([(red - green) / light, (red + green - 2.0 * blue) / light], axis=1).reshape(len(pixels), -1)
    hues[np.abs(hues) < _COLOURLESS] = 0.0  # noise, which would weigh as much as colours
    return np.concatenate([features, np.tile(hues, features.shape[1] // hues.shape[1])], axis=1)


def _changed(pixels: Pixels, change: str, how: Augment) -> Pixels:
    """Return every picture changed as far as it ever is; every other one the other way round."""
    count = len(pixels)
    given = torch.from_numpy(np.ascontiguousarray(pixels))
    sign = np.where(np.arange(count) // 2 % 2 == 0, 1.0, -1.0)
    one, none = np.ones(count), np.zeros(count)
    matrix = np.tile(np.eye(2, 3), (count, 1, 1))
    if change == "flip":
        return np.ascontiguousarray(pixels[:, :, ::-1])
    if change == "any_turn":
        return np.stack([np.rot90(picture, 2 if i % 3 else 1 + 2 * (i % 2)) for i, picture in enumerate(pixels)])
    if change in ("turn", "crop"):
        angle = np.deg2rad(how.turn) * sign if change == "turn" else none
        share = 1.0 - how.zoom if change == "crop" else 1.0
        matrix[:, 0, 0], matrix[:, 0, 1] = share * np.cos(angle), -share * np.sin(angle)
        matrix[:, 1, 0], matrix[:, 1, 1] = share * np.sin(angle), share * np.cos(angle)
        moved: Pixels = warped(given, matrix).numpy()
        return moved
    if change == "light":
        changed = recoloured(given, 1.0 + sign * how.brightness, 1.0 - sign * how.contrast, one, none)
    elif change == "hue":
        changed = recoloured(given, one, one, one, sign * how.hue)
    elif change == "grey":
        least = 0.0 if how.grey else 1.0 - how.saturation
        changed = recoloured(given, one, one, np.full(count, least), none)
    else:
        changed = _blurred(given, how.blur)
    found: Pixels = changed.numpy()
    return found


def _blurred(given: torch.Tensor, share: float) -> torch.Tensor:
    from PIL import Image, ImageFilter

    radius = share * given.shape[1]
    pictures = [Image.fromarray(one if one.shape[-1] > 1 else one[..., 0]) for one in given.numpy()]
    blurred = [np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))) for picture in pictures]
    return torch.from_numpy(np.stack(blurred).reshape(given.shape))
