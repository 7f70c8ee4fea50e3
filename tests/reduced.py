"""Photos that are large enough to be decoded at a reduced scale, and what a network says of both decodes."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tellapart.images import Preprocess, at_least_for, decode, map_ordered, prepare

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights" / "mobilenetv2_100"
SIDE = 224


@dataclasses.dataclass(frozen=True)
class Both:
    """Probabilities float32 [n, 1000] of the full and of the reduced decode; mean differences of their levels [n]."""

    full: NDArray[np.float32]
    reduced: NDArray[np.float32]
    levels: NDArray[np.float64]


def answers_of_both(photos: Sequence[bytes]) -> Both:
    """Return what a MobileNetV2 says of photos, each enlarged until it is decoded at a reduced scale."""
    if not WEIGHTS.is_dir():
        pytest.skip(f"{WEIGHTS} is not here")
    import timm
    import torch

    network = timm.create_model(f"local-dir:{WEIGHTS}", pretrained=True).eval()
    full = Preprocess(image_size=SIDE, resize_policy="crop")
    reduced = dataclasses.replace(full, at_least_px=at_least_for(SIDE))

    def both(photo: bytes) -> NDArray[np.uint8]:
        file = _enlarged(photo)
        pair = np.stack([prepare(file, full), prepare(file, reduced)])
        assert (pair[0] != pair[1]).any(), "it is not reduced"
        return pair

    pairs = list(map_ordered(both, photos, threads=2))
    said = []
    with torch.inference_mode():
        for pair in pairs:
            # The mean and the deviation of these weights are both 0.5 (their config.json).
            logits = network(torch.from_numpy(pair).permute(0, 3, 1, 2).float() / 127.5 - 1)
            said.append(logits.softmax(1).numpy())
    probs = np.stack(said)
    levels = np.array([np.abs(pair[0].astype(int) - pair[1]).mean() for pair in pairs])
    return Both(probs[:, 0], probs[:, 1], levels)


def _enlarged(photo: bytes) -> bytes:
    """Return a JPEG whose shorter side is just long enough for half a scale, where the difference is largest."""
    picture = Image.fromarray(decode(photo))
    scale = (2 * at_least_for(SIDE) + 1) / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
