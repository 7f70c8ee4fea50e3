from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from tellapart.learn.torch_networks import Network, Trunk, export, family_of, shape_for
from tellapart.runtime.session import Session


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pictures(count: int, side: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Soft blobs with some noise, so that neighbouring pixels are alike as they are in photographs."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.normal(size=(count, channels, 4, 4)))
    smooth = functional.interpolate(coarse, (side, side), mode="bilinear")
    levels = 128 + 60 * smooth + torch.from_numpy(rng.normal(size=smooth.shape) * 8)
    return levels.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def network_for(side: int, channels: int, seed: int = 0) -> Network:
    """A network whose batch norms have seen pictures and whose weights are not what they began as."""
    torch.manual_seed(seed)
    mean, std = torch.full((channels,), 0.45), torch.full((channels,), 0.25)
    network = Network(shape_for(side, channels, 5, 400), mean, std)
    network.fit_whitening(pictures(50, side, channels))
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    with torch.no_grad():
        for seed in range(3):
            network(pictures(20, side, channels, seed))
    return network.to(memory_format=torch.channels_last).eval()


@settings(deadline=None, max_examples=12)
@given(st.integers(8, 150), st.sampled_from([1, 3]), st.integers(2, 3000), st.integers(2, 40))
def test_there_is_a_network_for_every_size(side: int, channels: int, count: int, classes: int) -> None:
    network = Network(shape_for(side, channels, classes, count), torch.zeros(channels), torch.ones(channels))
    network.fit_whitening(pictures(8, side, channels))
    found = network(pictures(2, side, channels))
    features = network.feature_map(pictures(2, side, channels))
    assert found.shape == (2, classes)
    assert torch.isfinite(found).all()
    assert 2 <= features.shape[2] <= 5
    assert network.whiten.in_channels == channels


@pytest.mark.parametrize("side", [8, 32, 128])
@pytest.mark.parametrize("count", [20, 999, 1000, 9999, 10_000, 10**6])
def test_a_family_goes_from_narrow_to_wide_and_holds_the_usual_network(side: int, count: int) -> None:
    shape = shape_for(side, 3, 5, count)
    family = family_of(shape, count)
    assert shape.widths in family
    assert family == sorted(set(family))
    assert all(len(widths) == len(shape.widths) for widths in family)
    assert (len(family) == 1) == (count < 1000)
    assert (family[-1] > shape.widths) == (count >= 10_000)


def test_a_network_that_looks_both_ways_round_tells_a_picture_and_its_mirror_image_alike() -> None:
    network = network_for(28, 3)
    seen = pictures(3, 28, 3, seed=9)
    once = Session(export(network)).run(seen.numpy())
    turned = Session(export(network)).run(seen.flip(2).numpy())
    network.mirrors = True
    session = Session(export(network))
    found = session.run(seen.numpy())
    mean = (once["feature_map"] + turned["feature_map"][..., ::-1]) / 2
    assert np.allclose(found["feature_map"], mean, atol=1e-4)
    assert np.allclose(found["embedding"], (once["embedding"] + turned["embedding"]) / 2, atol=1e-4)
    assert np.allclose(found["embedding"], session.run(seen[:, :, range(27, -1, -1)].numpy())["embedding"], atol=1e-4)
    alone = session.run(seen[1:2].numpy())["embedding"][0]
    assert np.allclose(alone, found["embedding"][1], atol=1e-4)
    with torch.inference_mode():
        assert np.allclose(network.head(torch.from_numpy(found["embedding"])), network(seen), atol=1e-3)


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3), (64, 3)])
def test_what_ships_computes_what_was_trained(side: int, channels: int) -> None:
    network = network_for(side, channels)
    seen = pictures(5, side, channels, seed=9)
    as_shipped = seen.expand(-1, -1, -1, 3).contiguous()
    with torch.inference_mode():
        logits, features = network(seen), network.feature_map(seen)
        embedding, _ = Trunk(network)(as_shipped)
        assert torch.allclose(network.head(embedding), logits, atol=1e-3)
    session = Session(export(network))
    assert session.outputs == ("embedding", "feature_map")
    for batch in (as_shipped.numpy(), as_shipped[:1].numpy()):
        found = session.run(batch)
        weight, bias = network.head.weight.detach().T.numpy(), network.head.bias.detach().numpy()
        assert np.allclose(found["embedding"] @ weight + bias, logits[: len(batch)].numpy(), atol=1e-3)
        assert np.allclose(found["feature_map"], features[: len(batch)].numpy(), atol=1e-3)


def test_batch_norm_is_gone_from_what_ships_and_so_is_the_machine_it_was_made_on() -> None:
    graph = export(network_for(8, 3))
    assert b"BatchNorm" not in graph
    assert b"/work" not in graph
    assert b"torch" not in graph
    assert graph == export(network_for(8, 3))


def test_a_grey_network_has_one_channel_and_takes_colour_by_its_lightness() -> None:
    network = network_for(8, 1)
    assert network.whiten.weight.shape[1] == 1
    colour = pictures(3, 8, 3, seed=4)
    grey = (colour.float() @ torch.tensor([0.299, 0.587, 0.114])).round().to(torch.uint8)[..., None]
    session = Session(export(network))
    with torch.inference_mode():
        expected = network(grey)
    given_colour = session.run(colour.numpy())["embedding"]
    with torch.inference_mode():
        found = network.head(torch.from_numpy(given_colour))
    assert torch.allclose(found, expected, atol=0.05 * float(expected.abs().max()))


def test_the_first_layer_gives_outputs_that_are_uncorrelated_and_alike_in_size() -> None:
    side = 16
    seen = pictures(200, side)
    colours = seen.double().flatten(0, 2) / 255.0
    network = Network(shape_for(side, 3, 2, 200), colours.mean(0).float(), colours.std(0).float())
    network.fit_whitening(seen)
    with torch.inference_mode():
        bias = network.whiten.bias
        assert bias is not None
        found = functional.conv2d(network.normalised(seen), network.whiten.weight).transpose(0, 1).flatten(1)[:12]
    second_moments = found @ found.T / found.shape[1]
    assert torch.allclose(second_moments, torch.diag(second_moments.diag()), atol=0.02)
    assert second_moments.diag()[:4].min() > 0.9
    assert second_moments.diag().max() < 1.05
    assert not network.whiten.weight.requires_grad
    scales = [layer.weight for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not any(scale.requires_grad for scale in scales)  # else folding across the pooling would be wrong


def test_a_network_begins_by_passing_its_input_through() -> None:
    torch.manual_seed(0)
    network = Network(shape_for(32, 3, 2, 5000), torch.zeros(3), torch.ones(3))
    conv = network.groups[0].get_submodule("convs.1")
    assert isinstance(conv, nn.Conv2d)
    x = torch.randn(1, conv.in_channels, 6, 6)
    assert torch.allclose(conv(x), x, atol=1e-6)
