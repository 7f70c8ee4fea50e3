"""Soups: averages of networks that began alike, as far as validation is the better for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tellapart.events import Decision, Event
from tellapart.images import Preprocess, prepare
from tellapart.learn.backbones_export import Graph
from tellapart.learn.draws import picture_keys
from tellapart.learn.probe import probe
from tellapart.learn.rungs import Fitted, Later, Pictures, Soup
from tellapart.learn.torch_batches import Held, Samples, Varied
from tellapart.learn.torch_finetune import finetune
from tellapart.learn.torch_loop import Learned, copied
from tellapart.learn.torch_norms import reestimated
from tellapart.learn.torch_scratch import scratch
from tellapart.learn.torch_soup import Pot, _chosen, _poured
from tellapart.recipe import Recipe
from tellapart.runtime.session import Session
from tests.learn.tasks import task_of
from tests.learn.test_finetune import stripes

Run = Callable[..., Any]
NONE = np.empty(0, np.int64)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Normed(nn.Module):
    """Logits from three sums of pixels, normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(48, 3, bias=False)
        self.norm = nn.BatchNorm1d(3, affine=False)
        self.last = nn.Linear(3, 3, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(3).repeat(1, 16))
            self.last.weight.copy_(4.0 * torch.eye(3))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.last(self.norm(self.first(pixels.flatten(1).float() / 255.0)))
        return logits


def samples(count: int, seed: int) -> Samples:
    """Pictures of three classes, told apart by their brightest colour."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, count)
    pixels = rng.integers(0, 150, (count, 4, 4, 3))
    pixels[np.arange(count), :, :, targets] += 30
    keys = picture_keys([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels])
    return Samples(Varied(Held(torch.from_numpy(pixels.astype(np.uint8)))), targets, keys, np.arange(count))


def varied_by(train: Samples, change: Tensor) -> dict[str, Tensor]:
    """Return the weights of a network that is right but for a change of its sums, with its own statistics."""
    network = Normed()
    with torch.no_grad():
        network.first.weight.add_(change)
    reestimated(network, (pixels for pixels, _ in train.in_order(16)))
    return copied(network)


@pytest.fixture
def pot() -> Pot[Normed]:
    train, val = samples(64, 0), samples(60, 1)
    task = task_of(train, val, Normed)
    never: Any = None
    learned = Learned({}, (), 1, "done", 8)
    fields = {"task": task, "learned": learned, "folds": {}, "steps": 1, "again": False, "done": never, "ship": never}
    return Pot.of(Normed(), **fields, predicted=0, reserve=0.0)


def test_a_network_joins_only_where_the_average_is_better_with_it(run: Run, pot: Pot[Normed]) -> None:
    change = torch.from_numpy(np.random.default_rng(3).normal(0, 1.5, (3, 48)).astype(np.float32))
    other = torch.from_numpy(np.random.default_rng(4).normal(0, 9.0, (3, 48)).astype(np.float32))
    weights = [varied_by(pot.task.train, part) for part in (other, change, -change)]
    kept, words = run(_chosen(pot, Normed(), weights))
    assert sorted(kept) == [1, 2]
    losses = {name: float(loss) for name, loss in (part.split(": ") for part in words.split(", ")[2:])}
    together = losses[" + ".join(str(place + 1) for place in kept)]
    assert together < 0.7 * min(losses["2"], losses["3"])
    assert together < losses[" + ".join(str(place + 1) for place in [*kept, 0])]


def test_the_statistics_of_batch_norm_are_those_of_the_average(pot: Pot[Normed]) -> None:
    train = pot.task.train
    change = torch.from_numpy(np.random.default_rng(3).normal(0, 2.0, (3, 48)).astype(np.float32))
    network = Normed()
    _poured(pot.task, network, [varied_by(train, change), varied_by(train, -change)], train.rows)
    with torch.no_grad():
        sums = [network.first(pixels.flatten(1).float() / 255.0) for pixels, _ in train.epoch(16, 0, 0)]
    assert network.norm.running_mean is not None
    assert network.norm.running_var is not None
    assert not network.norm.training
    np.testing.assert_allclose(network.norm.running_mean, torch.stack([one.mean(0) for one in sums]).mean(0), rtol=1e-4)
    np.testing.assert_allclose(network.norm.running_var, torch.stack([one.var(0) for one in sums]).mean(0), rtol=1e-4)


def odd(pictures: Pictures) -> Pictures:
    return pictures.take(np.arange(1, len(pictures), 2))


def even(pictures: Pictures) -> Pictures:
    return pictures.take(np.arange(0, len(pictures), 2))


def decided(seen: list[Event]) -> dict[str, object]:
    return {event.name: event.value for event in seen if isinstance(event, Decision)}


def holds(soup: Soup, first: Fitted, val: Pictures, seen: list[Event]) -> None:
    """A soup of all three networks is one network of the same size, with honest predictions as its first had them."""
    made, name = soup.fitted, first.method
    assert made is not None, soup.words
    assert decided(seen)[f"{name}.soup.more"] == 2
    assert made.details["soup"] == {"of": name, "networks": 3, "averaged": decided(seen)[f"{name}.soup"]}
    assert made.method == "soup"
    assert abs(len(made.trunk) - len(first.trunk)) < 0.01 * len(first.trunk)
    assert np.array_equal(made.out_of_fold.rows, first.out_of_fold.rows)
    assert not np.array_equal(made.out_of_fold.logits, first.out_of_fold.logits)
    image = prepare(val.files[0], made.preprocess)[None]
    found = Session(made.trunk).run(image)["embedding"][0]
    assert np.allclose(found, made.embeddings["val"][0], atol=1e-4)


def test_networks_from_nothing_go_on_from_the_first_one_and_become_one(photo_pictures: Pictures, run: Run) -> None:
    train, val, later = even(photo_pictures), odd(photo_pictures), Later()
    recipe = Recipe.of(epochs=3, image_size=8, flip="off", threads=1)
    steps = scratch(train, val, 2, Preprocess(image_size=32), recipe, lambda: 1e4, shorter_px=32, later=later)
    first = run(steps)
    assert later.soup is not None
    assert run(later.soup(lambda: 0.01)).words == "there is no time for another network."
    seen: list[Event] = []
    holds(run(later.soup(lambda: 1e4), seen), first, val, seen)


@pytest.mark.promise
def test_tuned_backbones_become_one(run: Run, exported: tuple[Graph, Path], tmp_path: Path) -> None:
    train, val, later = stripes(tmp_path / "train", 66, 1), stripes(tmp_path / "val", 45, 2), Later()
    graph, recipe = exported[0], Recipe.of(epochs=8, lr=6e-3, tune="last", flip="off")
    begun = run(probe(graph, graph.preprocess("squash"), train, val, 3, recipe, tmp_path, threads=1))
    how = (begun, graph.folder, train, val, 3, recipe, tmp_path, lambda: 1e4, 1)
    first = run(finetune(*how, later=later))
    assert later.soup is not None
    seen: list[Event] = []
    holds(run(later.soup(lambda: 1e4), seen), first, val, seen)


def test_without_validation_pictures_there_is_no_soup(photo_pictures: Pictures, run: Run) -> None:
    later, recipe = Later(), Recipe.of(epochs=1, image_size=8, flip="off", threads=1)
    how = (photo_pictures.take(NONE), 2, Preprocess(image_size=32), recipe, lambda: 1e4)
    run(scratch(even(photo_pictures), *how, shorter_px=32, later=later))
    assert later.soup is not None
    assert "no validation pictures" in run(later.soup(lambda: 1e4)).words


def test_where_the_probe_stays_there_is_nothing_to_average_and_the_ladder_is_told(
    run: Run, exported: tuple[Graph, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, later = stripes(tmp_path / "train", 66, 1), stripes(tmp_path / "val", 45, 2), Later()
    graph, recipe = exported[0], Recipe.of(epochs=8, lr=6e-3, tune="last", flip="off")
    monkeypatch.setattr("tellapart.learn.torch_finetune._BLENDS", (0.0,))
    begun = run(probe(graph, graph.preprocess("squash"), train, val, 3, recipe, tmp_path, threads=1))
    run(finetune(begun, graph.folder, train, val, 3, recipe, tmp_path, lambda: 1e4, 1, later=later))
    assert later.soup is not None
    soup = run(later.soup(lambda: 1e4))
    assert soup.fitted is None
    assert "the probe's own weights" in soup.words
