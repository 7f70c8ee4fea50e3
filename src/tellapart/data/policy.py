"""What the pictures as a whole say: how they become square, whether they are grey, what white is in 16 bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from tellapart.data.facts import PictureFacts
from tellapart.data.manifest import Manifest, Split
from tellapart.images.examine import white_of
from tellapart.images.preprocess import DecodePolicy, ResizePolicy
from tellapart.recipe import Recipe

__all__ = ["decode_policy", "resize_policy", "set_facts"]

# Out-of-fold log loss of a probe, five folds, on photographs: 3,068 in ten classes (two backbones), longer by 1.33 in
# the middle and 1.78 at the 95th percentile, and 245 in two classes, 1.33 and 1.59. Crop 0.365, 0.341, 0.078; squash
# 0.395, 0.381, 0.091; pad 0.398, 0.361, 0.109. Beyond nothing was measured: there a crop throws away half a picture.
_CROP_UP_TO = 1.8
_SQUASH_UP_TO = 2.2


def set_facts(facts: Sequence[PictureFacts], splits: Sequence[Split]) -> Mapping[str, object]:
    """Return the manifest's `facts`.

    `all_grey`, `aspects` (longer over shorter side: median and 95th percentile) and `shorter_side` (least and median,
    in pixels) are of the training pictures, or of all where there are none to train on. `sixteen_bit_scale` is the
    16-bit level that is white, one for all pictures: 4095 when there are 16-bit pictures and all of them fit into 12
    bits, else 65535.
    """
    train = [fact for fact, split in zip(facts, splits, strict=True) if split == "train"] or list(facts)
    sides = np.array([(fact.width, fact.height) for fact in train], dtype=np.float64)
    shorter, longer = sides.min(axis=1), sides.max(axis=1)
    aspects = np.quantile(longer / shorter, [0.5, 0.95])
    peaks = [fact.sixteen_bit_peak for fact in facts if fact.sixteen_bit_peak is not None]
    return {
        "all_grey": all(fact.grey for fact in train),
        "aspects": [round(float(value), 4) for value in aspects],
        "shorter_side": [int(shorter.min()), int(np.median(shorter))],
        "sixteen_bit_scale": white_of(peaks),
    }


def decode_policy(recipe: Recipe) -> DecodePolicy:
    """Return how pictures are decoded while they are scanned, before the data set's 16-bit scale is known."""
    options = recipe.data
    return DecodePolicy(
        background=options.background,
        max_pixels=options.max_pixels,
        min_side_px=options.min_side,
        colour_profiles=options.colour_profiles,
        allow_truncated=options.allow_truncated,
    )


def resize_policy(manifest: Manifest) -> tuple[ResizePolicy, str]:
    """Return how pictures become square, and why, from the aspect ratios of the training pictures."""
    median, p95 = cast("Sequence[float]", manifest.facts["aspects"])
    seen = f"the longer side is {median:.2f} times the shorter in the middle, and up to {p95:.2f} times in 95 of 100"
    if p95 <= _CROP_UP_TO:
        return (
            "crop",
            f"Pictures are not far from square: {seen}; a crop loses {1 - 1 / p95:.0%} of these.",
        )
    if p95 <= _SQUASH_UP_TO:
        return "squash", f"Pictures are long: {seen}; squashing keeps all of each, and a crop would lose much."
    return "pad", f"Some pictures are very long: {seen}; padding keeps their shapes."
