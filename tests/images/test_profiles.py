"""Colours come to sRGB as LittleCMS brings them there; what is no profile is told, and never raises."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from tellapart.images import DecodePolicy, decode
from tellapart.images.profiles import read_profile

from ..corpus.pictures import ADOBE_RGB, DISPLAY_P3, profile, saved

COLORIMETRIC = ImageCms.Intent.RELATIVE_COLORIMETRIC
SRGB = ImageCms.createProfile("sRGB")


@pytest.mark.parametrize("icc", [DISPLAY_P3, ADOBE_RGB], ids=["display p3", "adobe rgb"])
def test_wide_colours_are_brought_to_srgb_as_littlecms_does(icc: bytes) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    expected = np.asarray(
        ImageCms.profileToProfile(picture, ImageCms.ImageCmsProfile(io.BytesIO(icc)), SRGB, COLORIMETRIC)
    )
    got = decode(saved(picture, "PNG", icc_profile=icc), policy=DecodePolicy(colour_profiles="srgb"))
    apart = np.abs(got.astype(int) - expected)
    assert apart.mean() < 0.3
    assert np.quantile(apart, 0.99) <= 5
    assert np.abs(got.astype(int) - np.asarray(picture)).mean() > 3, "and it does something"


def test_alpha_and_grey_come_through() -> None:
    rgba = Image.new("RGBA", (16, 16), (200, 100, 50, 255))
    rgba.putpixel((0, 0), (0, 0, 0, 0))
    policy = DecodePolicy(colour_profiles="srgb", background=(10, 20, 30))
    got = decode(saved(rgba, "PNG", icc_profile=DISPLAY_P3), policy=policy)
    assert got[0, 0].tolist() == [10, 20, 30]
    assert np.abs(got[5, 5].astype(int) - (216, 93, 24)).max() <= 2
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    neutral = decode(saved(Image.fromarray(grey).convert("RGB"), "PNG", icc_profile=DISPLAY_P3), policy=policy)
    assert np.ptp(neutral.astype(int), axis=2).max() <= 2


def test_what_is_srgb_is_left_as_it_is() -> None:
    icc = ImageCms.ImageCmsProfile(SRGB).tobytes()
    assert read_profile(icc).kind == "srgb"
    near = profile(((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)), 2.2)
    assert read_profile(near).kind == "srgb"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    data = saved(Image.fromarray(pixels), "PNG", icc_profile=icc)
    np.testing.assert_array_equal(decode(data, policy=DecodePolicy(colour_profiles="srgb")), pixels)


def test_old_bundles_take_colours_as_stored() -> None:
    data = saved(Image.new("RGB", (16, 16), (200, 100, 50)), "PNG", icc_profile=DISPLAY_P3)
    assert decode(data)[0, 0].tolist() == [200, 100, 50]


@given(st.binary(max_size=400), st.lists(st.tuples(st.integers(0, len(DISPLAY_P3) - 1), st.integers(0, 255))))
def test_no_bytes_raise(some: bytes, flips: list[tuple[int, int]]) -> None:
    damaged = bytearray(DISPLAY_P3)
    for place, value in flips:
        damaged[place] = value
    for icc in (some, DISPLAY_P3[:132] + some, bytes(damaged), DISPLAY_P3[: len(some)]):
        assert read_profile(icc).kind in ("srgb", "wide", "other", "broken")
