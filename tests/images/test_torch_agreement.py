"""A real network answers alike for pictures that were decoded in full and at a reduced scale."""

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

WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "weights" / "mobilenetv2_100"


@pytest.mark.weights
def test_the_likeliest_of_a_thousand_classes_stays_the_same_for_995_of_1000_pictures(hymenoptera: list[bytes]) -> None:
    if not WEIGHTS.is_dir():
        pytest.skip(f"{WEIGHTS} is not here")
    import timm
    import torch

    network = timm.create_model(f"local-dir:{WEIGHTS}", pretrained=True).eval()
    full = Preprocess(image_size=224, resize_policy="crop")
    reduced = dataclasses.replace(full, at_least_px=at_least_for(224))

    def classes(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
        with torch.inference_mode():
            batches = [torch.from_numpy(np.stack(pictures[i : i + 32])) for i in range(0, len(pictures), 32)]
            # The mean and the deviation of these weights are both 0.5 (their config.json).
            logits = [network(batch.permute(0, 3, 1, 2).float() / 127.5 - 1) for batch in batches]
        return torch.cat(logits).argmax(1).numpy()

    def both(file: bytes) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return prepare(file, full), prepare(file, reduced)

    # Hardly any of these photos is large enough to be reduced, so some are looked at three times as large, too.
    files = [*hymenoptera, *map_ordered(enlarged, hymenoptera[::8], threads=2)]
    pairs = list(map_ordered(both, files, threads=2))
    differing = [(a, b) for a, b in pairs if (a != b).any()]
    assert len(differing) > 40
    changed = classes([a for a, _ in differing]) != classes([b for _, b in differing])
    assert changed.sum() <= 0.005 * len(files)


def enlarged(file: bytes) -> bytes:
    pixels = decode(file)
    height, width = pixels.shape[:2]
    buffer = io.BytesIO()
    large = Image.fromarray(pixels).resize((3 * width + 1, 3 * height + 1), Image.Resampling.BICUBIC)
    large.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
