from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tellapart.driving import finish
from tellapart.errors import InterruptedRunError, RecipeError
from tellapart.events import Event
from tellapart.learn.cuts import EMBEDDING, Cut, Place, Sums, choose_cut
from tellapart.learn.rungs import GraphHead, Head
from tellapart.learn.torch_export import Trunk, load_trunk
from tellapart.learn.torch_heads import GeneralisedMean, begun_from, shipped
from tellapart.learn.torch_norms import reestimated
from tellapart.learn.torch_profile import profiled
from tellapart.learn.torch_stages import Below, exported_below, is_sound, units
from tellapart.learn.torch_tuned import BnPolicy, Tuned, blended, check_pooling, joined, optimizer_for
from tellapart.learn.torch_tuning import loaded
from tellapart.runtime.session import Session

SIZE = 64


@pytest.fixture(scope="module")
def trunk(weights_root: Path) -> Trunk:
    return load_trunk(weights_root / "test_efficientnet", SIZE)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8))


def middle(trunk: Trunk) -> str:
    return next(unit.name for unit in units(trunk.model) if unit.name.startswith("blocks.2"))


def steps(network: Tuned, inputs: torch.Tensor, count: int = 3) -> None:
    optimizer = optimizer_for(network, 0.01)
    network.train()
    for _ in range(count):
        optimizer.zero_grad()
        network(inputs).square().sum().backward()
        optimizer.step(1.0)


@pytest.mark.parametrize("bn", ["frozen", "eval_stats", "train"])
def test_what_is_below_the_cut_is_unmoved_by_one_bit_and_what_is_above_moves(
    trunk: Trunk, image: torch.Tensor, bn: BnPolicy
) -> None:
    cut = middle(trunk)
    with torch.inference_mode():
        before, whole = Below(trunk, cut)(image), trunk(image)
    network = Tuned(trunk, cut, nn.Linear(whole[0].shape[1], 3), bn)
    steps(network, before.clone())
    tuned = joined(trunk, network)
    with torch.inference_mode():
        assert torch.equal(Below(tuned, cut)(image), before)  # by the frozen part of what ships
        assert torch.equal(trunk(image)[0], whole[0])  # and the trunk itself stays what it was
        network.eval()
        assert torch.equal(tuned(image)[0], network.embedding(before))
        assert not torch.allclose(tuned(image)[0], whole[0], atol=1e-3)


@pytest.mark.parametrize(("bn", "statistics", "affine"), [("frozen", 0, 0), ("eval_stats", 0, 1), ("train", 1, 1)])
def test_batch_norm_above_the_cut_does_what_its_policy_says(
    trunk: Trunk, image: torch.Tensor, bn: BnPolicy, statistics: int, affine: int
) -> None:
    network = Tuned(trunk, None, nn.Linear(trunk(image)[0].shape[1], 3), bn)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [
        (norm.running_mean.clone(), norm.weight.detach().clone()) for norm in norms if norm.running_mean is not None
    ]
    steps(network, image)
    for norm, (mean, weight) in zip(norms, before, strict=True):
        assert norm.running_mean is not None
        assert torch.equal(norm.running_mean, mean) != bool(statistics)
        assert torch.equal(norm.weight, weight) != bool(affine)


def test_frozen_stages_give_what_timm_gives(trunk: Trunk, image: torch.Tensor) -> None:
    with torch.inference_mode():
        pixels = (image.permute(0, 3, 1, 2).float() - trunk.mean) / trunk.std
        expected = trunk.model.forward_head(trunk.model.forward_features(pixels), pre_logits=True)  # type: ignore[operator]
        for unit in units(trunk.model)[1:-2]:
            assert is_sound(trunk, unit.name, SIZE)
            network = Tuned(trunk, unit.name, nn.Identity(), "frozen").eval()
            assert torch.allclose(network(Below(trunk, unit.name)(image)), expected, atol=1e-5)
    graph = exported_below(trunk, middle(trunk), SIZE)
    given = Session(graph).run(image.numpy(), ["activations"])["activations"]
    with torch.inference_mode():
        wanted = Below(trunk, middle(trunk))(image).numpy()
    assert np.abs(given - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_a_network_of_tokens_can_be_cut_too() -> None:
    from tellapart.learn.torch_export import import_timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = import_timm().create_model("test_vit", num_classes=0, img_size=SIZE)
    vit = Trunk(model, (0.5,) * 3, (0.5,) * 3)
    blocks = [unit.name for unit in units(model) if unit.name.startswith("blocks.")]
    assert all(is_sound(vit, name, SIZE) for name in blocks)


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        *(("test_efficientnet", True), ("test_resnet", True), ("regnetx_002", False), ("test_convnext", False)),
        *(("test_vit", False), ("mobilenetv3_small_050", False)),
    ],
)
def test_a_generalised_mean_is_refused_where_the_embedding_does_not_come_from_it(name: str, fits: bool) -> None:
    from tellapart.learn.torch_export import import_timm

    options = {"img_size": SIZE} if name == "test_vit" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = import_timm().create_model(name, num_classes=0, **options).eval()
    trunk = Trunk(model, (0.5,) * 3, (0.5,) * 3)
    if fits:
        check_pooling(trunk, SIZE, name)
        return
    with pytest.raises(RecipeError, match=f"--pooling got 'gem', and {name} has no average .* Leave --pooling out"):
        check_pooling(trunk, SIZE, name)


def test_dropout_and_stochastic_depth_act_in_training_alone_where_the_backbone_has_them(
    weights_root: Path, image: torch.Tensor
) -> None:
    trunk = loaded(weights_root / "test_efficientnet", SIZE)
    assert trunk.drops == {"drop_rate": 0.2, "drop_path_rate": 0.1}
    assert trunk.model.drop_rate == trunk.drops["drop_rate"]
    depths = [module.drop_prob for module in trunk.model.modules() if type(module).__name__ == "DropPath"]
    assert 0.0 < max(float(one) for one in depths if isinstance(one, float)) <= trunk.drops["drop_path_rate"]
    network = Tuned(trunk, None, nn.Identity(), "eval_stats")
    with torch.inference_mode():
        assert not torch.equal(network(image), network(image))
        network.eval()
        assert torch.equal(network(image), network(image))


def test_rates_fall_towards_the_input_and_norms_and_biases_do_not_decay(trunk: Trunk) -> None:
    network = Tuned(trunk, None, nn.Linear(4, 3), "train")
    groups = optimizer_for(network, 1.0)._groups
    peak = {id(p): group.peak for group in groups for p in group.params}
    decay = {id(p): group.decay for group in groups for p in group.params}
    by_unit = [
        {peak[id(p)] for p in network.model.get_submodule(name).parameters()}
        for name in network.names
        if list(network.model.get_submodule(name).parameters())
    ]
    assert all(len(rates) == 1 for rates in by_unit)
    rates = [rate for (rate,) in by_unit]
    assert rates == sorted(rates)
    assert rates[0] < 0.5 < rates[-1] == 1.0 == peak[id(network.head.weight)]
    assert all((decay[id(p)] > 0) == (p.ndim > 1) for p in network.parameters())


class Attentive(nn.Module):
    """What transformers have that is no weight, though it has two axes or more."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 3))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(5, 2))
        self.alpha = nn.Parameter(torch.ones(1, 1, 3))
        self.norm, self.attend, self.token = nn.LayerNorm(3), nn.Linear(3, 3), nn.Linear(3, 2)

    def no_weight_decay(self) -> set[str]:
        return {"token.weight"}


def test_weights_alone_decay_and_not_what_a_backbone_exempts(trunk: Trunk) -> None:
    network = Tuned(trunk, None, nn.Linear(4, 3), "train")
    network.model = Attentive()
    network.names = ["norm", "attend", "token"]
    decay = {id(p): group.decay for group in optimizer_for(network, 1.0)._groups for p in group.params}
    found = {name for name, p in network.named_parameters() if decay[id(p)] > 0}
    assert found == {"model.attend.weight", "head.weight"}


def test_statistics_are_those_of_the_batches_after_averaging(trunk: Trunk, image: torch.Tensor) -> None:
    network = Tuned(trunk, None, nn.Identity(), "train")
    reestimated(network, [image[:2], image[2:]])
    norm = network.model.bn1
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.inference_mode():
        pixels = (image.permute(0, 3, 1, 2).float() - trunk.mean) / trunk.std
        expected = network.model.conv_stem(pixels).mean((0, 2, 3))  # type: ignore[operator]
    assert norm.running_mean is not None
    assert torch.allclose(norm.running_mean, expected, atol=1e-4)
    assert norm.momentum == 0.1


def test_a_blend_lies_between_its_ends() -> None:
    layer = nn.Linear(2, 2)
    start, end = (
        {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)},
        {"weight": torch.ones(2, 2), "bias": torch.ones(2)},
    )
    blended(layer, start, end, 0.25)
    assert torch.equal(layer.weight.data, torch.full((2, 2), 0.25))


@pytest.mark.parametrize("kind", ["linear", "mlp", "cosine"])
def test_a_head_begins_as_the_probes_and_ships_as_it_is(kind: str) -> None:
    rng = np.random.default_rng(0)
    head = Head(rng.normal(size=(16, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32))
    x = rng.normal(size=(20, 16)).astype(np.float32)
    made = begun_from(head, kind)  # type: ignore[arg-type]
    with torch.inference_mode():
        first = made(torch.from_numpy(x)).numpy()
    if kind != "cosine":
        assert np.allclose(first, head.logits(x), atol=1e-4)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        expected = made(torch.from_numpy(x)).numpy()
    ready = shipped(made)
    assert isinstance(ready, Head if kind == "linear" else GraphHead)
    assert ready.shape == (16, 5)
    assert np.allclose(ready.logits(x), expected, atol=1e-4)
    assert np.allclose(ready.tempered(2.0).logits(x), expected / 2, atol=1e-4)


def test_the_generalised_mean_begins_as_the_average_and_goes_to_the_maximum() -> None:
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.01
    pooling = GeneralisedMean()
    assert torch.allclose(pooling(x), x.mean((2, 3)), atol=1e-6)
    pooling.power.data.fill_(60.0)
    assert torch.allclose(pooling(x), x.amax((2, 3)), rtol=0.06)


PLACES = [Place(None, 0.0, 0), Place("low", 0.5, 1000), Place("high", 0.9, 100), Place(EMBEDDING, 1.0, 10)]


def chosen(seconds: float, num_bytes: int = 10**9) -> Cut | None:
    return choose_cut(PLACES, Sums(100, 20, 0.01, 0.1, 3.0, seconds, num_bytes))


def test_as_much_is_tuned_as_there_is_time_and_room_for() -> None:
    found = [chosen(seconds) for seconds in (1000.0, 300.0, 30.0, 10.0, 0.1)]
    assert [cut and cut.name for cut in found] == [None, "low", "high", EMBEDDING, None]
    assert found[-1] is None
    assert all("are left" in cut.why for cut in found if cut)
    crowded = chosen(100.0, num_bytes=100_000)
    assert crowded is not None
    assert (crowded.name, crowded.num_views) == ("high", 8)
    hurried = chosen(50.0)
    assert hurried is not None
    assert hurried.name == "high"
    assert 2 <= hurried.num_views < 8


def test_a_higher_cut_with_fifteen_passes_is_worth_more_than_a_lower_one_with_six() -> None:
    found = chosen(200.0)
    assert found is not None
    assert (found.name, "15 passes" in found.why) == ("high", True)
    fewer = chosen(30.0)  # enough of them for the head alone
    assert fewer is not None
    assert (fewer.name, "6 passes" in fewer.why) == ("high", True)


def test_places_to_cut_are_measured_in_order(trunk: Trunk) -> None:
    places, seconds = finish(profiled(trunk, SIZE))
    shares = [place.below for place in places]
    assert shares == sorted(shares)
    assert (places[0].name, shares[0], places[-1].name, shares[-1]) == (None, 0.0, EMBEDDING, 1.0)
    assert seconds > 0
    assert all(place.num_bytes > 0 for place in places[1:])


def test_where_time_is_short_two_steps_must_do_and_each_can_be_interrupted(trunk: Trunk) -> None:
    seen: list[Event] = []
    places, _ = finish(profiled(trunk, SIZE, 2, seconds_left=0.0), seen.append)
    assert len(seen) == 2, "the first step warms up"
    assert places[-1].name == EMBEDDING
    before = torch.get_num_threads()
    steps = profiled(trunk, SIZE, 2)
    next(steps)
    with pytest.raises(InterruptedRunError):
        steps.throw(InterruptedRunError(2))
    assert torch.get_num_threads() == before
    assert not any(module._forward_pre_hooks for module in trunk.modules())
