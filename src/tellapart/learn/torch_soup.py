"""A soup: networks that began alike, their weights averaged as far as validation is the better for it.

Wortsman and others, "Model soups" (arXiv 2203.05482), the greedy one.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tellapart.events import Decision, Epoch, Progress, Steps, decide, without
from tellapart.learn.rungs import Fitted, IntArray, OutOfFold, Soup
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_folds import deaf, out_of_fold
from tellapart.learn.torch_loop import Learned, copied
from tellapart.learn.torch_norms import reestimated_on
from tellapart.learn.torch_task import Clock, Task, less, trained
from tellapart.learn.torch_validate import logits_of, validated

__all__ = ["Pot", "averaged", "nothing", "souped"]

_MOST = 3  # networks, the first included
_CAUTION = 1.2  # times as long as the first network took

N = TypeVar("N", bound=nn.Module)


@dataclasses.dataclass(frozen=True, eq=False)
class Pot(Generic[N]):
    """What a soup is made from, kept from the rung that was climbed.

    `network` is what that rung ships, `learned` how it was trained, `folds` the weights of its models of folds by name
    (`fold1`), empty where a slice is held out; `predicted` pictures are predicted out of fold. Another network is
    trained for `steps` with other draws, from where the task begins; where `again`, from where the first one ended,
    since networks from nothing have no average otherwise. `done` is what is done to one after its training (the rows
    are those it learned from); `ship` makes a rung of the soup, given out-of-fold predictions, which takes `reserve`
    seconds. All is done on `threads` threads.
    """

    task: Task[N]
    network: N
    learned: Learned
    folds: Mapping[str, Mapping[str, Tensor]]
    steps: int
    again: bool
    done: Callable[[N, IntArray], None]
    ship: Callable[[N, OutOfFold], Steps[Fitted]]
    predicted: int
    reserve: float
    threads: int = dataclasses.field(default_factory=torch.get_num_threads)

    @classmethod
    def of(cls, network: N, **fields: object) -> Pot[N]:
        """Return a pot with a copy of the network, which may change afterwards."""
        return cls(network=copy.deepcopy(network), **fields)  # type: ignore[arg-type]


def nothing(words: str, left: Clock) -> Steps[Soup]:
    """Return no soup, for a reason that the rung knows."""
    yield Progress("soup", 0, None, "networks")
    return Soup(words)


def souped(pot: Pot[N], left: Clock) -> Steps[Soup]:
    """Train more networks like the first, as many as there is time for, and average the weights of those that help.

    The best by validation loss is the start; another joins where the average is better with it, batch norm having its
    statistics taken anew. Out-of-fold predictions are made the same way, by averages of models of folds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(pot.threads)
    try:
        return (yield from _souped(pot, less(left, pot.reserve)))
    finally:
        torch.set_num_threads(before)


def _souped(pot: Pot[N], left: Clock) -> Steps[Soup]:
    task, name = pot.task, f"{pot.task.name}.soup"
    num_folds = 0 if len(task.held_out) else int(task.folds.max(initial=-1)) + 1
    if not len(task.val):
        return Soup("there are no validation pictures by which to choose networks to average.")
    if pot.predicted < int((task.folds >= 0).sum()):
        return Soup(f"there are no predictions of models of all {num_folds} folds of the first network.")
    took = sum(epoch.seconds for epoch in pot.learned.epochs) * pot.steps / max(1, pot.learned.epochs[-1].step)
    fits = max(1, num_folds)  # for each network: itself, and a model of each fold, on what is left without it
    affordable = max(0, min(_MOST - 1, int(left() / (_CAUTION * took * fits))))
    why = f"{max(0.0, left()):.0f} s are left, and another network takes about {took * fits:.0f} s, folds included"
    count = yield from decide(f"{name}.more", affordable, why)
    if not count:
        return Soup("there is no time for another network.")
    weights = [copied(pot.network)]
    steps: list[int] = []
    for number in range(1, count + 1):
        share = 1.0 / (1 + (count - number) + (fits - 1) * count)
        clock = less(left, (1.0 - share) * max(0.0, left()))
        stage, seed = f"{name}.{number + 1}", task.choices.seed + number
        begun = _begun(pot, weights[0])
        fit = trained(begun, task.learned_from, task.val, pot.steps, clock, stage, seed=seed)
        network, learned = yield from without(fit, Epoch)
        if learned.ended == "interrupted":
            return Soup("the training of another network was cut short.")
        pot.done(network, task.learned_from.rows)
        weights.append(copied(network))
        steps.append(learned.best_step)
    network = copy.deepcopy(pot.network).to(task.choices.device)
    kept, words = yield from deaf(_chosen(pot, network, weights))
    yield Decision(name, [place + 1 for place in kept], words)
    if kept == [0]:
        return Soup(f"{words[0].upper()}{words[1:]}: the first network alone is the best.")
    _poured(task, network, [weights[place] for place in kept], task.learned_from.rows)
    if len(task.held_out):
        logits = yield from logits_of(network, task.train.at(task.held_out), task.exact, "predict")
        found = OutOfFold(task.held_out, logits.numpy())
    else:
        best = round(float(np.mean([steps[place - 1] for place in kept if place])))
        found, cut = yield from _out_of_fold(pot, network, kept, max(1, best), left)
        if cut or not len(found.rows):
            return Soup("the time was too short for models of folds of the networks that were averaged.")
    fitted = yield from pot.ship(network, found)
    of = {"of": fitted.method, "networks": len(weights), "averaged": [place + 1 for place in kept]}
    details = {**fitted.details, "soup": of}
    return Soup(f"{words}.", dataclasses.replace(fitted, method="soup", details=details))


def _begun(pot: Pot[N], first: Mapping[str, Tensor]) -> Task[N]:
    """Return the task as another network begins it."""

    def start(_: IntArray) -> N:
        network = copy.deepcopy(pot.network)
        network.load_state_dict(first)
        return network

    return dataclasses.replace(pot.task, start=start) if pot.again else pot.task


def _chosen(pot: Pot[N], network: N, weights: Sequence[Mapping[str, Tensor]]) -> Steps[tuple[list[int], str]]:
    """Return the places of the weights whose average validation finds best, the best alone first, and words on it."""
    rows, told = pot.task.learned_from.rows, []

    def loss_of(places: Sequence[int]) -> Steps[float]:
        _poured(pot.task, network, [weights[place] for place in places], rows)
        found = yield from validated(network, pot.task.val, pot.task.exact, f"{pot.task.name}.soup.validate")
        assert found is not None, "there are validation pictures"
        told.append(f"{' + '.join(str(place + 1) for place in places)}: {found.tempered:.4f}")
        return found.tempered

    losses = []
    for place in range(len(weights)):
        losses.append((yield from loss_of([place])))
    order = sorted(range(len(weights)), key=lambda place: losses[place])
    kept, best = order[:1], losses[order[0]]
    for place in order[1:]:
        loss = yield from loss_of([*kept, place])
        if loss < best:
            kept, best = [*kept, place], loss
    return kept, f"validation loss of networks, and of averages of them, {', '.join(told)}"


def _poured(task: Task[N], network: N, weights: Sequence[Mapping[str, Tensor]], rows: IntArray) -> None:
    """Give `network` the average of some weights; of more than one, batch norm's statistics are taken anew."""
    network.load_state_dict(averaged(weights))
    network.eval()
    if len(weights) > 1:
        reestimated_on(network, task.train.at(rows), task.choices)


def averaged(weights: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of weights and buffers; what is not a number with a point is the first one's.

    It is taken by differences from the first, so that what is the same in all (frozen parts) moves by no bit.
    """

    def mean(name: str, first: Tensor) -> Tensor:
        apart = [torch.where(one[name] == first, 0.0, one[name] - first) for one in weights]
        return first + torch.stack(apart).mean(0)

    return {name: mean(name, first) if first.is_floating_point() else first for name, first in weights[0].items()}


def _out_of_fold(pot: Pot[N], like: N, kept: Sequence[int], steps: int, left: Clock) -> Steps[tuple[OutOfFold, bool]]:
    """Return what averages of models of folds say of what these did not see, and whether that was cut short."""
    task, others = pot.task, [place for place in kept if place]

    def fitted(seen: Samples, total: int, clock: Clock, stage: str) -> Steps[tuple[N, Learned]]:
        first = pot.folds[stage.rpartition(".")[2]]
        weights = [first] * (len(kept) - len(others))
        for place in others:
            begun, seed = _begun(pot, first), task.choices.seed + place
            fit = trained(begun, seen, task.nothing, total, clock, f"{stage}.{place + 1}", enough=2.0, seed=seed)
            network, found = yield from fit
            if found.ended == "interrupted":
                break
            pot.done(network, seen.rows)
            weights.append(copied(network))
        network = copy.deepcopy(like)
        _poured(task, network, weights, seen.rows)
        return network, found

    def predicted(network: N, unseen: Samples) -> Steps[Tensor]:
        return logits_of(network, unseen, task.exact, "predict")

    learned = dataclasses.replace(pot.learned, best_step=steps)
    each = len(others)  # networks are trained for each fold, one after the other
    clock = lambda: left() / each  # noqa: E731
    return out_of_fold(task.train, task.folds, task.num_classes, learned, fitted, predicted, clock, f"{task.name}.soup")
