"""Parts of a batch side by side: the steps of the whole batch, whatever the order in which threads run."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tellapart.errors import InputError
from tellapart.learn.torch_optimizers import AdamW, Group
from tellapart.learn.torch_shards import Draws, Shards
from tellapart.learn.torch_soup import averaged
from tellapart.learn.torch_step import Choices, one_step


class Net(nn.Module):
    def __init__(self, norm: bool = False, drop: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(functional.relu(self.norm(self.conv(x))).mean((2, 3))))
        return logits


def stepped(network: Net, count: int, steps: int = 5, micro_batch: int = 1 << 30) -> Net:
    optimizer = AdamW([Group(tuple(network.parameters()), 1e-2, 0.0)])
    shards = Shards(network.train(), count)
    choices = Choices(seed=3, batch_size=13, micro_batch=micro_batch, clip=1.0)
    x = torch.randn(13, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    for step in range(steps):
        one_step(shards, optimizer, x, torch.arange(13) % 4, 1.0, step, choices)
    return network


@pytest.mark.parametrize("count", [2, 3, 20])
def test_steps_are_those_of_the_whole_batch(count: int) -> None:
    whole, parts = stepped(Net(), 1), stepped(Net(), count)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_what_is_drawn_hangs_on_seed_and_step_alone() -> None:
    torch.manual_seed(1)
    one = stepped(Net(drop=0.5), 2)
    torch.manual_seed(2)
    two = stepped(Net(drop=0.5), 2)
    plain = stepped(Net(), 2)
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, plain.head.weight)


def test_draws_of_one_thread_are_no_other_threads() -> None:
    def drawn(seed: int) -> Tensor:
        with Draws(torch.Generator().manual_seed(seed)):
            first = functional.dropout(torch.ones(64), 0.5)
            return torch.stack([first, torch.empty(64).bernoulli_(0.5)])

    expected, found = [drawn(seed) for seed in range(4)], dict[int, Tensor]()
    threads = [threading.Thread(target=lambda seed=seed: found.update({seed: drawn(seed)})) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[seed], expected[seed]) for seed in range(4))
    assert set(expected[0][0].tolist()) == {0.0, 2.0}


def test_dropout_keeps_the_mean_and_is_off_in_evaluation() -> None:
    with Draws(torch.Generator().manual_seed(0)):
        assert functional.dropout(torch.ones(100_000), 0.2).mean() == pytest.approx(1.0, abs=0.01)
        assert torch.equal(nn.Dropout(0.2).eval()(torch.ones(9)), torch.ones(9))


def test_statistics_of_batch_norm_are_the_mean_of_the_parts() -> None:
    network = Net(norm=True).train()
    shards, x = Shards(network, 2), torch.randn(2, 4, 3, 9, 9)
    with torch.no_grad():
        means = [network.conv(part).mean((0, 2, 3)) for part in x]
    shards.each(lambda part, number: part(x[number]).sum().backward())
    assert isinstance(network.norm, nn.BatchNorm2d)
    assert network.norm.running_mean is not None
    assert torch.allclose(network.norm.running_mean, 0.1 * (means[0] + means[1]) / 2, atol=1e-6)
    network.load_state_dict(Net(norm=True).state_dict())  # as a fit that goes on does: the parts take it over
    network.eval()
    both = shards.each(lambda part, number: part(x[0]))
    assert torch.equal(both[0], both[1])


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_statistics_that_are_frozen_move_by_no_bit(count: int) -> None:
    network = Net(norm=True).eval()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.1, 1.7, generator=torch.Generator().manual_seed(count))
    before = [buffer.clone() for buffer in network.buffers()]
    shards, x = Shards(network, count), torch.randn(count, 4, 3, 9, 9)
    for _ in range(5):
        shards.each(lambda part, number: part(x[number]).sum().backward())
    assert all(torch.equal(one, other) for one, other in zip(network.buffers(), before, strict=True))
    soup = averaged([copy.deepcopy(network.state_dict()) for _ in range(count)])
    assert all(torch.equal(value, soup[name]) for name, value in network.state_dict().items())


def test_a_part_that_fails_is_told() -> None:
    def work(_: nn.Module, number: int) -> None:
        if number:
            raise ValueError("the second")

    with pytest.raises(ValueError, match="the second"):
        Shards(Net(), 2).each(work)


def test_when_a_part_failed_no_other_still_works() -> None:
    """The third is at work until after the second has failed; the next step must not meet it."""
    failed, ended = threading.Event(), threading.Event()

    def work(_: nn.Module, number: int) -> None:
        if number == 1:
            failed.set()
            raise MemoryError
        if number == 2:
            failed.wait()
            for _again in range(20):
                torch.randn(200, 200) @ torch.randn(200, 200)
            ended.set()

    with pytest.raises(MemoryError):
        Shards(Net(), 3).each(work)
    assert ended.is_set()


def test_memory_that_fails_while_weights_move_is_no_reason_to_take_the_step_again() -> None:
    class Short(AdamW):
        def step(self, rate: float) -> None:
            super().step(rate)
            raise MemoryError

    network = Net()
    optimizer = Short([Group(tuple(network.parameters()), 1e-2, 0.0)])
    with pytest.raises(InputError) as caught:
        one_step(Shards(network), optimizer, torch.randn(4, 3, 9, 9), torch.arange(4), 1.0, 0, Choices(0, 4))
    assert caught.value.code == "out_of_memory"
