"""Nothing of a network's training is bound to the processor: what can be known of that without another device."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import tellapart
from tellapart.errors import RecipeError
from tellapart.learn.torch_devices import device_of, let_go, seeded, synchronize
from tellapart.learn.torch_heads import Cosine, Mlp
from tellapart.learn.torch_muon import Muon
from tellapart.learn.torch_networks import Network, shape_for
from tellapart.learn.torch_optimizers import AdamW, Group, Optimizer

AWAY = "meta"  # a device on which nothing is computed: a tensor that stayed on the processor is refused there


def optimizers(network: nn.Module) -> list[Optimizer]:
    params = tuple(p for p in network.parameters() if p.requires_grad)
    return [AdamW([Group(params, 1e-3, 0.05)]), Muon(network)]


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_network_of_ours_and_its_optimizers_work_where_they_are_put(layout: torch.memory_format) -> None:
    network = Network(shape_for(32, 3, 4, 500), torch.full((3,), 0.5), torch.full((3,), 0.2)).to(AWAY)
    network.layout = layout
    pixels = torch.zeros(6, 32, 32, 3, dtype=torch.uint8, device=AWAY)
    assert network.normalised(pixels).is_contiguous(memory_format=layout)
    loss = functional.cross_entropy(network(pixels), torch.zeros(6, dtype=torch.int64, device=AWAY))
    loss.backward()
    for optimizer in optimizers(network):
        here = {name: torch.zeros(value.shape) for name, value in optimizer.state_dict().items() if value.ndim}
        optimizer.step(0.5)
        optimizer.load_state_dict({**optimizer.state_dict(), **here})
        optimizer.step(0.5)


@pytest.mark.parametrize("head", [Mlp(8, 3), Cosine(8, 3)])
def test_heads_work_where_they_are_put(head: nn.Module) -> None:
    assert head.to(AWAY)(torch.zeros(2, 8, device=AWAY)).shape == (2, 3)


def test_draws_are_a_function_of_the_seed_and_leave_no_trace() -> None:
    before = torch.default_generator.get_state()
    drawn = []
    for seed in (5, 5, 6):
        with seeded("cpu", seed):
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert torch.equal(torch.default_generator.get_state(), before)
    synchronize("cpu")
    let_go("cpu")


def test_auto_is_what_there_is_and_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device_of("auto") == device_of("cpu") == "cpu"
    with pytest.raises(RecipeError, match=r"got 'mps'.* there is cpu") as caught:
        device_of("mps")
    assert caught.value.code == "no_device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == device_of("cuda") == "cuda"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("method", ["scratch", "probe", "finetune"])
def test_a_device_that_is_not_there_is_told_before_anything_is_made(method: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="--device got 'cuda'"):
        tellapart.train(photos, out=tmp_path / "run", method=method, device="cuda")
    assert not (tmp_path / "run").exists()
