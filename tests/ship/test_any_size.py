"""A graph that resizes sees what this package sees: pictures of any size and shape, every policy and filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.images import DecodePolicy, Preprocess, decode, resize
from tellapart.runtime.onnx_bytes import inspect_model
from tellapart.runtime.session import Session
from tellapart.ship.any_size import of_any_size, squares_alone
from tests.ship.conv import SIDE, trunk

KINDS = [(policy, kind) for policy in ("crop", "pad", "squash") for kind in ("bicubic", "bilinear")]
SESSIONS: dict[tuple[str, str, int], tuple[Preprocess, Session]] = {}


def resizing(policy, kind, side: int) -> tuple[Preprocess, Session]:
    key = policy, kind, side
    if key not in SESSIONS:
        background = DecodePolicy(background=(10, 200, 90))
        preprocess = Preprocess(side, resize_policy=policy, interpolation=kind, decode=background)
        SESSIONS[key] = preprocess, Session(of_any_size(squares_alone(side), preprocess))
    return SESSIONS[key]


def differences(pixels: np.ndarray, policy, kind, side: int) -> np.ndarray:
    preprocess, session = resizing(policy, kind, side)
    given = session.run(pixels[None])["square"][0].astype(int)
    away: np.ndarray = np.abs(given - resize(pixels, preprocess).astype(int))
    return away


@pytest.mark.parametrize(("policy", "kind"), KINDS)
@settings(max_examples=25)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 99))
def test_any_size_of_noise_is_within_two_levels(policy, kind, height: int, width: int, seed: int) -> None:
    """Noise is the hardest there is: of photos one level is off at most."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert differences(pixels, policy, kind, 24).max() <= 2


@pytest.mark.parametrize(("policy", "kind"), KINDS)
def test_photos_are_within_one_level(policy, kind, hymenoptera: list[bytes]) -> None:
    for content in hymenoptera[::40]:
        away = differences(decode(content), policy, kind, 224)
        assert away.max() <= 1
        assert (away > 0).mean() <= 0.02


def test_a_square_of_the_right_size_stays() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    assert differences(pixels, "crop", "bicubic", 24).max() == 0


@pytest.mark.parametrize("size", [(30, 70), (70, 30), (24, 90), (90, 24), (50, 50)])
def test_without_branches_it_gives_the_same_bits(size: tuple[int, int]) -> None:
    preprocess = Preprocess(24, resize_policy="squash")
    pixels = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    first, second = (
        Session(of_any_size(squares_alone(24), preprocess, branches=branches)).run(pixels)["square"]
        for branches in (True, False)
    )
    np.testing.assert_array_equal(first, second)


def test_a_network_behind_it_gives_what_it_gave() -> None:
    preprocess = Preprocess(SIDE, interpolation="bilinear")
    model = of_any_size(trunk(), preprocess)
    facts = inspect_model(model)
    assert facts.inputs[0].shape == (None, None, None, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
    squares = np.stack([resize(picture, preprocess) for picture in pixels])
    ours, theirs = Session(trunk()).run(squares)["embedding"], Session(model).run(pixels)["embedding"]
    np.testing.assert_allclose(theirs, ours, atol=0.02)
