from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tellapart import judge
from tellapart.events import Decision
from tellapart.learn.balanced_head import balanced_head
from tellapart.learn.balancing import balancing, class_weights_of, log_priors_of
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import fit_path
from tellapart.learn.rungs import IntArray
from tellapart.learn.torch_balancing import balanced
from tellapart.learn.torch_batches import Held, Samples, Varied
from tellapart.learn.torch_step import Choices


def clouds(counts: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, IntArray]:
    """Overlapping clouds of points, one a class, in eight dimensions."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    middles = 1.2 * np.eye(len(counts), 8)
    return (middles[targets] + rng.normal(size=(len(targets), 8))).astype(np.float32), targets


def folds_of(targets: IntArray) -> IntArray:
    return make_folds(targets, [str(row) for row in range(len(targets))])


UNEVEN = (400, 80, 16)
EVEN = clouds((1000, 1000, 1000), seed=9)


def balanced_accuracy(run: Any, wish: Any) -> tuple[float, Any, Decision]:
    X, targets = clouds(UNEVEN)
    seen: list[Any] = []
    fitted, way = run(balanced_head(X, targets, 3, folds_of(targets), wish), seen)
    share = judge.metrics(EVEN[1], judge.softmax(fitted.head.logits(EVEN[0]))).balanced_accuracy
    assert share is not None
    decision = next(event for event in seen if isinstance(event, Decision) and event.name == "balance")
    return share, way, decision


@pytest.mark.parametrize("wish", ["weights", "sampler", "logit"])
def test_each_way_of_balancing_tells_rare_classes_better_than_none(run: Any, wish: str) -> None:
    plain, _, _ = balanced_accuracy(run, "none")
    share, way, decision = balanced_accuracy(run, wish)
    assert share > plain + 0.1
    assert way.kind == decision.value == wish


def test_auto_takes_what_is_best_out_of_fold_and_says_by_how_much(run: Any) -> None:
    share, way, decision = balanced_accuracy(run, "auto")
    assert way.kind in ("weights", "logit")
    assert share > balanced_accuracy(run, "none")[0] + 0.1
    assert "balanced accuracy of 496 predictions out of fold" in decision.evidence
    for said in ("with weights", "with adjusted logits", "without"):
        assert said in decision.evidence


def test_classes_that_are_about_even_are_left_as_they_are(run: Any) -> None:
    X, targets = clouds((60, 50, 40))
    seen: list[Any] = []
    _, way = run(balanced_head(X, targets, 3, folds_of(targets), "auto"), seen)
    assert not way.alike


def test_adjusted_logits_are_those_of_a_loss_with_the_shares_in_it(run: Any) -> None:
    """The oracle: torch minimises the loss of Menon and others, with the features as the head sees them."""
    X, targets = clouds(UNEVEN)
    (head,) = run(fit_path(X, targets, 3, [1e-6]))  # hardly a penalty, so that scales do not matter
    ours = balancing("logit", targets, 3).adjusted(head).logits(EVEN[0])
    layer, priors = nn.Linear(8, 3), torch.from_numpy(log_priors_of(targets, 3))
    x, y = torch.from_numpy(X), torch.from_numpy(targets)
    solver = torch.optim.LBFGS(layer.parameters(), lr=1.0, max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = nn.functional.cross_entropy(layer(x) + priors, y)
        loss.backward()
        return loss

    solver.step(closure)
    with torch.no_grad():
        theirs = layer(torch.from_numpy(EVEN[0])).numpy()
    assert np.abs(judge.softmax(ours) - judge.softmax(theirs)).max() < 0.02


def test_weights_add_up_to_the_pictures_and_absent_classes_have_none() -> None:
    targets = np.array([0] * 30 + [2] * 10)
    weights = class_weights_of(targets, 4)
    assert weights.tolist() == pytest.approx([40 / 60, 0, 2, 0])
    assert weights[targets].sum() == pytest.approx(40)
    assert np.isfinite(log_priors_of(targets, 4)).all()


def test_probabilities_are_calibrated_where_each_class_is_as_frequent_as_the_others(run: Any) -> None:
    X, targets = clouds(UNEVEN)
    for wish in ("weights", "logit"):
        fitted, _ = run(balanced_head(X, targets, 3, folds_of(targets), wish))
        truth = targets[fitted.rows]
        weights = class_weights_of(truth, 3)[truth]
        temperature = judge.fit_temperature(fitted.out_of_fold, truth, weights)
        found = judge.metrics(EVEN[1], judge.softmax(fitted.head.logits(EVEN[0]) / np.float32(temperature)))
        assert found.ece is not None
        assert found.ece < 0.08


@pytest.mark.parametrize("kind", ["none", "weights", "sampler", "logit"])
def test_a_network_is_balanced_in_its_loss_or_in_its_pictures_and_judged_alike(kind: str) -> None:
    targets = np.array([0] * 12 + [1] * 4)
    source = Varied(Held(torch.zeros((16, 4, 4, 3), dtype=torch.uint8)))
    samples = Samples(source, targets, np.arange(16, dtype=np.uint64), np.arange(16))
    choices, shown = balanced(Choices(seed=0, batch_size=4), samples, kind, targets, 2)
    assert (choices.val_weights is not None) is (kind != "none")
    assert (choices.class_weights is not None) is (kind == "weights")
    assert (choices.log_priors is not None) is (kind == "logit")
    drawn = torch.cat([found for _, found in shown.epoch(4, 0, 0)])
    assert torch.bincount(drawn).tolist() == ([8, 8] if kind == "sampler" else [12, 4])
