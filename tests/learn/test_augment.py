from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tellapart.learn.augmentation import CHANGES, TRIVIAL, Augment, preset
from tellapart.learn.draws import uniform
from tellapart.learn.torch_augment import augmented, warped
from tellapart.learn.torch_colours import recoloured

FILL = torch.tensor([9, 8, 7], dtype=torch.uint8)
ONE_CHANGE = {
    "flip": Augment(flip=True),
    "shift": Augment(shift_px=3),
    "cut": Augment(cut_px=4),
    "turn": Augment(turn=30.0),
    "zoom": Augment(zoom=0.3),
    "stretch": Augment(stretch=0.3),
    "brightness": Augment(brightness=0.4),
    "contrast": Augment(contrast=0.4),
    "saturation": Augment(saturation=0.5),
    "hue": Augment(hue=0.1),
    "grey": Augment(grey=0.5),
    "blur": Augment(blur=0.1),
    "noise": Augment(noise=0.2),
    "jpeg": Augment(jpeg=1.0),
    **{f"trivial:{name}": Augment(trivial=(name,)) for name in TRIVIAL},
    **{name: preset(name, 12) for name in ("none", "light", "standard", "strong")},
}


def keys_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 2**63, count).astype(np.uint64)


def pixels_of(count: int, side: int = 12, channels: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(count)
    rough = rng.integers(0, 256, (count, 4, 4, channels), dtype=np.uint8)
    return torch.from_numpy(np.repeat(np.repeat(rough, side // 4, 1), side // 4, 2))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ONE_CHANGE)
def test_each_change_is_a_function_of_seed_epoch_and_picture_and_keeps_the_form(name: str, channels: int) -> None:
    count, how = 24, ONE_CHANGE[name]
    pixels, keys, fill = pixels_of(count, channels=channels), keys_of(count), FILL[:channels]
    before = pixels.clone()
    found = augmented(pixels, keys, 1, 2, how, fill)
    assert found.dtype == torch.uint8
    assert found.shape == pixels.shape
    assert torch.equal(pixels, before), "what came in stays as it is"
    assert torch.equal(augmented(pixels, keys, 1, 2, how, fill), found)
    for row in (0, 7, 23):
        alone = augmented(pixels[row : row + 1], keys[row : row + 1], 1, 2, how, fill)
        assert torch.equal(alone[0], found[row]), "whatever batch it is in"
    backwards = augmented(pixels.flip(0), keys[::-1].copy(), 1, 2, how, fill).flip(0)
    assert torch.equal(backwards, found)
    colourless = channels == 1 and name in ("saturation", "hue", "grey", "trivial:saturation")
    if name in ("trivial:auto_contrast", "trivial:equalize"):
        return  # what these do hangs on the picture alone, and may be nothing
    if name != "trivial:identity" and not colourless:
        assert not torch.equal(found, pixels)
        assert not torch.equal(augmented(pixels, keys, 1, 3, how, fill), found)
        assert not torch.equal(augmented(pixels, keys, 2, 2, how, fill), found)
    else:
        assert torch.equal(found, pixels)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(0, 5))
def test_at_strength_zero_pictures_stay_as_they_are(count: int, epoch: int) -> None:
    pixels, keys = pixels_of(count), keys_of(count)
    assert torch.equal(augmented(pixels, keys, 0, epoch, Augment(), FILL), pixels)
    ones, none = np.ones(count), np.zeros(count)
    assert torch.equal(recoloured(pixels, ones, ones, ones, none), pixels)
    still = np.tile(np.eye(2, 3), (count, 1, 1))
    assert torch.equal(warped(pixels, still), pixels)


def test_a_quarter_turn_and_a_mirror_are_exact() -> None:
    pixels = pixels_of(5)
    turn = np.tile(np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]), (5, 1, 1))
    found = warped(pixels, turn)
    assert torch.equal(found, torch.rot90(pixels, 1, (1, 2))) or torch.equal(found, torch.rot90(pixels, -1, (1, 2)))
    mirror = np.tile(np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), (5, 1, 1))
    assert torch.equal(warped(pixels, mirror), pixels.flip(2))


@settings(deadline=None, max_examples=25)
@given(st.floats(-0.6, 0.6), st.floats(0.6, 1.0), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_a_turned_and_scaled_picture_is_that_of_pillow(angle: float, share: float, dx: float, dy: float) -> None:
    side = 24
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    picture = small.resize((side, side), Image.Resampling.BICUBIC)
    cos, sin = share * np.cos(angle), share * np.sin(angle)
    matrix = np.array([[[cos, -sin, dx], [sin, cos, dy]]])
    found = warped(torch.from_numpy(np.array(picture))[None], matrix)[0].numpy().astype(int)
    half = side / 2
    a, b, c = cos, -sin, half + half * dx - half * cos + half * sin
    d, e, f = sin, cos, half + half * dy - half * sin - half * cos
    expected = picture.transform((side, side), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
    x, y = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    sx, sy = a * x + b * y + c, d * x + e * y + f
    inside = (sx > 1) & (sx < side - 1) & (sy > 1) & (sy < side - 1)
    assert inside.sum() > 100
    assert np.abs(found - np.asarray(expected).astype(int))[inside].max() <= 2


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(["brightness", "contrast", "saturation"]), st.floats(0.0, 1.6), st.integers(0, 5))
def test_brightness_contrast_and_saturation_are_those_of_pillow(what: str, factor: float, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(70, 150, (1, 9, 9, 3), dtype=np.uint8)  # nothing is cut off
    kind = {"brightness": "Brightness", "contrast": "Contrast", "saturation": "Color"}[what]
    expected = np.asarray(getattr(ImageEnhance, kind)(Image.fromarray(pixels[0])).enhance(factor)).astype(int)
    factors = {name: np.array([factor if name == what else 1.0]) for name in ("brightness", "contrast", "saturation")}
    found = recoloured(torch.from_numpy(pixels), **factors, hue=np.zeros(1))[0].numpy().astype(int)
    assert np.abs(found - expected).max() <= 2  # Pillow rounds its greys, and cuts fractions off


@settings(deadline=None, max_examples=40)
@given(st.floats(-0.5, 0.5), st.integers(0, 5))
def test_hue_turns_around_grey_at_the_same_luma_and_back_again(hue: float, seed: int) -> None:
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(110, 146, (1, 9, 9, 3), dtype=np.uint8))
    one = np.ones(1)
    turned = recoloured(pixels, one, one, one, np.array([hue]))
    weights = torch.tensor([0.299, 0.587, 0.114])
    assert float(((turned.float() - pixels.float()) @ weights).abs().max()) < 1.5
    back = recoloured(turned, one, one, one, np.array([-hue]))
    assert int((back.int() - pixels.int()).abs().max()) <= 3
    grey = pixels[..., :1].repeat(1, 1, 1, 3)
    assert torch.equal(recoloured(grey, one, one, one, np.array([hue])), grey)


def test_a_third_of_the_circle_leads_from_red_to_green() -> None:
    red = torch.tensor([150, 100, 100], dtype=torch.uint8).expand(1, 4, 4, 3)
    one = np.ones(1)
    turned = recoloured(red, one, one, one, np.array([1 / 3]))[0, 0, 0].tolist()
    other = recoloured(red, one, one, one, np.array([-1 / 3]))[0, 0, 0].tolist()
    assert sorted((int(np.argmax(turned)), int(np.argmax(other)))) == [1, 2]


def test_what_pillow_does_is_what_it_does_alone() -> None:
    count, side = 200, 24
    pixels, keys = pixels_of(count, side), keys_of(count)
    found = augmented(pixels, keys, 0, 0, Augment(blur=0.1), None).numpy()
    chosen = uniform(0, 0, keys, 40) < 0.2
    assert 20 < chosen.sum() < 65
    for row in range(count):
        radius = float(uniform(0, 0, keys, 41)[row]) * 0.1 * side
        picture = Image.fromarray(pixels[row].numpy())
        expected = picture.filter(ImageFilter.GaussianBlur(radius)) if chosen[row] else picture
        assert np.array_equal(found[row], np.asarray(expected))
    found = augmented(pixels, keys, 0, 0, Augment(jpeg=1.0), None).numpy()
    stored = uniform(0, 0, keys, 45) < 0.2
    qualities = np.rint(95 - 85 * uniform(0, 0, keys, 46)).astype(int)
    for row in np.flatnonzero(stored).tolist():
        file = io.BytesIO()
        Image.fromarray(pixels[row].numpy()).save(file, "JPEG", quality=int(qualities[row]))
        assert np.array_equal(found[row], np.asarray(Image.open(file)))
    assert np.array_equal(found[~stored], pixels.numpy()[~stored])
    found = augmented(pixels, keys, 0, 0, Augment(trivial=("equalize",)), None).numpy()
    for row in range(count):
        assert np.array_equal(found[row], np.asarray(ImageOps.equalize(Image.fromarray(pixels[row].numpy()))))


def test_noise_is_normal_with_the_deviation_asked_for() -> None:
    count, side = 60, 24
    pixels, keys = torch.full((count, side, side, 3), 128, dtype=torch.uint8), keys_of(count)
    found = augmented(pixels, keys, 0, 0, Augment(noise=0.1), None).numpy().astype(float) - 128
    chosen = np.flatnonzero(uniform(0, 0, keys, 42) < 0.2)
    assert np.abs(np.delete(found, chosen, axis=0)).max() == 0
    for row in chosen.tolist():
        deviation = 25.5 * uniform(0, 0, keys, 43)[row]
        assert found[row].std() == pytest.approx(np.hypot(deviation, 0.29), rel=0.1, abs=0.1)
        assert abs(found[row].mean()) < 0.2 * deviation + 0.1
    standard = found[chosen[np.argmax(uniform(0, 0, keys, 43)[chosen])]].ravel()
    standard /= standard.std()
    assert np.mean(np.abs(standard) < 1) == pytest.approx(0.683, abs=0.04)
    assert np.mean(np.abs(standard) < 2) == pytest.approx(0.954, abs=0.02)


def test_every_strength_is_reached_and_none_is_passed() -> None:
    count = 300
    grey = torch.full((count, 8, 8, 3), 100, dtype=torch.uint8)
    levels = augmented(grey, keys_of(count), 0, 0, Augment(brightness=0.4), None)[:, 0, 0, 0]
    assert levels.min() in (60, 61)
    assert levels.max() in (139, 140)
    ramp = torch.arange(0, 96, 2, dtype=torch.uint8).reshape(1, 1, 48, 1).expand(count, 48, 48, 1).contiguous()
    cut = augmented(ramp, keys_of(count), 0, 0, Augment(zoom=0.5), None).float()
    spans = cut[:, 24, -1, 0] - cut[:, 24, 0, 0]
    assert float(spans.min()) < 94 * 0.53
    assert float(spans.min()) > 94 * 0.47
    assert float(spans.max()) > 94 * 0.97


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_is_taken_out_is_gone_and_nothing_else_is(change: str) -> None:
    strong = preset("strong", 32)
    less = strong.less([change])
    assert strong.has(change)
    assert not less.has(change)
    own = {part for part in CHANGES[change] if not part.startswith("trivial")}
    for field in dataclasses.fields(Augment):
        if field.name != "trivial" and field.name not in own:
            assert getattr(less, field.name) == getattr(strong, field.name)
    assert set(strong.trivial) - set(less.trivial) == {
        part.partition(":")[2] for part in CHANGES[change] if part.startswith("trivial")
    }
    assert less.words != strong.words


def test_a_picture_is_mirrored_in_every_other_pass_and_half_of_them_in_each() -> None:
    pixels, keys, how = pixels_of(64), keys_of(64), Augment(flip=True)
    turned = []
    for epoch in range(4):
        found = augmented(pixels, keys, 3, epoch, how, None)
        turned.append((found == pixels.flip(2)).all(dim=(1, 2, 3)) & (found != pixels).any(dim=(1, 2, 3)))
    assert torch.equal(turned[0], ~turned[1])
    assert torch.equal(turned[0], turned[2])
    assert torch.equal(turned[1], turned[3])
    assert 20 <= int(turned[0].sum()) <= 44
