"""Features by hand are those of scikit-image, computed by the runtime that serves them."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import hog, local_binary_pattern

from tellapart.learn.draft import Draft
from tellapart.learn.features import Family, features, features_side, project
from tellapart.learn.features_lbp import codes
from tellapart.runtime.session import Session


def pictures(side: int, count: int = 4, seed: int = 0) -> np.ndarray:
    """Soft blobs with noise: edges in every direction, and no ties."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, side // 8, side // 8, 3))
    smooth = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)
    noisy: np.ndarray = np.clip(smooth + rng.integers(-30, 30, smooth.shape), 0, 255).astype(np.uint8)
    return noisy


def parts(side: int, grey: bool, seen: np.ndarray, whole: float = 0.0) -> dict[str, np.ndarray]:
    graph, families = features(side, grey, None, whole)
    given = np.concatenate([Session(graph).run(one[None], ["embedding"])["embedding"] for one in seen])
    ends = np.cumsum([family.width for family in families])
    return {family.name: given[:, end - family.width : end] for family, end in zip(families, ends, strict=True)}


@pytest.mark.parametrize(("side", "name", "cells"), [(32, "edges", 8), (32, "edges_coarse", 4), (64, "edges", 8)])
def test_edges_are_scikit_images_hog(side, name, cells):
    seen = pictures(side)
    found = parts(side, False, seen)[name]
    for row, picture in zip(found, seen, strict=True):
        expected = hog(
            picture.astype(np.float64),
            orientations=9,
            pixels_per_cell=(side // cells, side // cells),
            cells_per_block=(2, 2),
            block_norm="L2-Hys",
            feature_vector=False,
            channel_axis=-1,
        )
        blocks = expected.reshape(cells - 1, cells - 1, 36).transpose(2, 0, 1).reshape(-1)
        # A pixel whose angle lies on the border of two bins may go to either: rare, and small.
        assert np.mean(np.abs(row - blocks)) < 2e-3
        assert np.corrcoef(row, blocks)[0, 1] > 0.999


@pytest.mark.parametrize("radius", [1, 2])
def test_textures_are_scikit_images_uniform_patterns(radius):
    seen = pictures(32, seed=radius)
    light = np.stack([np.round(rgb2gray(picture) * 255) for picture in seen])
    draft = Draft()
    value = codes(draft, "light", radius)
    graph = draft.model(("light", "FLOAT", ["N", 1, 32, 32]), {"codes": (value, ["N", 1, 32, 32])}, "codes")
    found = Session(graph).run(light[:, None].astype(np.float32), ["codes"])["codes"][:, 0]
    for got, levels in zip(found, light, strict=True):
        expected = local_binary_pattern(levels.astype(np.uint8), 8, radius, method="uniform")
        assert np.mean(got == expected) > 0.99  # ties of interpolated levels may fall either way


def test_colours_are_shares_and_grey_sets_have_none():
    seen = pictures(32)
    coloured, grey = parts(32, False, seen), parts(32, True, np.repeat(seen[..., :1], 3, axis=3))
    shares = np.square(coloured["colour"].reshape(len(seen), 33, 16))
    np.testing.assert_allclose(shares[:, :25].sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(shares[:, 25:].sum(axis=1), 1.0, atol=1e-5)
    assert grey["colour"].shape[1] == 8 * 16
    means = seen.reshape(4, 8, 4, 8, 4, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(4, -1) / 255
    np.testing.assert_allclose(coloured["layout"], means, atol=1e-5)


@pytest.mark.parametrize("side", [32, 128])
def test_colours_of_the_whole_are_shares_and_do_not_hang_on_the_place(side):
    seen = pictures(side)
    rng = np.random.default_rng(1)
    blocks = seen.reshape(4, side // 8, 8, side // 8, 8, 3).transpose(1, 3, 0, 2, 4, 5).reshape(-1, 4, 8, 8, 3)
    moved = rng.permutation(blocks).reshape(side // 8, side // 8, 4, 8, 8, 3).transpose(2, 0, 3, 1, 4, 5)
    moved = np.ascontiguousarray(moved.reshape(seen.shape))
    plain, whole = parts(side, False, seen), parts(side, False, seen, 1.0)["colour_of_whole"]
    assert "colour_of_whole" not in plain
    np.testing.assert_allclose(np.square(whole).sum(axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(parts(side, False, moved, 1.0)["colour_of_whole"], whole, atol=1e-3)
    assert "colour_of_whole" not in parts(side, True, seen, 1.0)


def test_a_projection_in_the_graph_is_the_projection_outside():
    seen = pictures(32, 40)
    graph, families = features(32, False)
    rows = np.concatenate([Session(graph).run(one[None], ["embedding"])["embedding"] for one in seen])
    made = project(rows, families)
    assert made.weight.shape[1] == 39
    whole, _ = features(32, False, made)
    got = np.concatenate([Session(whole).run(one[None], ["embedding"])["embedding"] for one in seen])
    np.testing.assert_allclose(got, rows @ made.weight + made.bias, atol=1e-5)
    assert np.square(got - got.mean(axis=0)).mean(axis=0).sum() == pytest.approx(made.kept, rel=0.02)


def test_families_count_alike_whatever_their_scale():
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(60, 5)), 1e4 * rng.normal(size=(60, 50))
    made = project(np.hstack([small, large]).astype(np.float32), (Family("a", 5, 1.0), Family("b", 50, 1.0)))
    reduced = np.hstack([small, large]) @ made.weight
    of_small = np.square(small @ made.weight[:5]).sum() / np.square(reduced).sum()
    assert 0.3 < of_small < 0.7


@pytest.mark.parametrize(
    ("shorter", "asked", "side"), [(8, None, 32), (32, None, 32), (90, None, 64), (400, None, 128)]
)
def test_the_side_follows_the_pictures(shorter, asked, side):
    assert features_side(shorter, asked) == side
    assert features_side(shorter, 100) == 96
