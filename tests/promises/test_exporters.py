"""The exporter that is tried when the fast one fails: it is slow to load, and so are its tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tellapart.learn import torch_export
from tellapart.runtime.session import Session

pytestmark = pytest.mark.promise


class Small(nn.Module):
    """What a timm network is to the export: features, then a head without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.SiLU())

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.stem(pixels)
        return features

    def forward_head(self, features: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        assert pre_logits
        return features.mean((2, 3))


def test_the_slow_exporter_gives_the_same_numbers_and_bytes_without_a_trace_of_the_machine() -> None:
    torch.manual_seed(0)
    trunk = torch_export.Trunk(Small(), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    trunk.has_map = True
    graph = torch_export.stripped(torch_export._compiled(trunk, 32))
    assert graph == torch_export.stripped(torch_export._compiled(trunk, 32))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    given = Session(graph).run(images)
    with torch.inference_mode():
        embedding, feature_map = trunk(torch.from_numpy(images))
    np.testing.assert_allclose(given["embedding"], embedding.numpy(), atol=1e-5)
    np.testing.assert_allclose(given["feature_map"], feature_map.numpy(), atol=1e-5)
    for secret in (str(Path.home()), str(Path(__file__).parents[2]), "site-packages", ".py"):
        assert secret.encode() not in graph


def test_a_network_that_cannot_be_traced_is_exported_the_slow_way() -> None:
    class Normalised(Small):
        def forward_head(self, features: torch.Tensor, pre_logits: bool) -> torch.Tensor:
            return nn.functional.rms_norm(super().forward_head(features, pre_logits), (8,))

    _, exporter = torch_export.export(torch_export.Trunk(Normalised(), (0.5,) * 3, (0.5,) * 3), 32)
    assert exporter == "dynamo"
