"""Models of folds that come to nothing take nothing from the others, nor from the model of all pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tellapart.errors import OutOfTimeError, TellapartError
from tellapart.events import Decision, Epoch, Event, Recall, Steps
from tellapart.learn.rungs import OutOfFold
from tellapart.learn.torch_batches import Held, Samples, Varied
from tellapart.learn.torch_folds import out_of_fold
from tellapart.learn.torch_loop import Learned

COUNT, CLASSES, FOLDS = 30, 2, 3
EPOCHS = (Epoch(1, 10, 0.0, 0.1, 1.0, None, None, 0.1),)
TARGETS = np.arange(COUNT) % CLASSES


def samples() -> Samples:
    pixels = torch.zeros(COUNT, 2, 2, 3, dtype=torch.uint8)
    keys = np.arange(2 * COUNT, dtype=np.uint64).reshape(COUNT, 2)
    return Samples(Varied(Held(pixels)), TARGETS, keys, np.arange(COUNT))


def left_out(
    failing: int, code: str, late: int = 0, before: Sequence[Decision] = ()
) -> tuple[tuple[OutOfFold, bool], list[Event]]:
    """Fit a model of each fold that says the number of its fold; the `failing` one does not come about.

    With a code `ended as x` it does, of a fit that ended as x. That of the fold `late` meets the end of the time.
    `before` is what an attempt that was cut off had decided.
    """

    def fitted(seen: Samples, total: int, left: Any, stage: str) -> Steps[tuple[nn.Module, Learned]]:
        yield Decision(f"{stage}.began", True, "")
        fold = int(stage[-1])
        ended = code.removeprefix("ended as ") if fold == failing else "done"
        if fold == failing and ended == code:
            raise TellapartError(code, "The loss was not finite 4 times over.", "Report this as a bug.")
        if fold == late:
            raise OutOfTimeError
        network = nn.Identity()
        network.fold = fold  # type: ignore[assignment]
        return network, Learned({}, EPOCHS, total, ended, 8)

    def predicted(network: nn.Module, unseen: Samples) -> Steps[Tensor]:
        yield Decision("predicted", network.fold, "")
        return torch.full((len(unseen), CLASSES), float(network.fold))  # type: ignore[arg-type]

    folds = np.arange(COUNT) % FOLDS
    events: list[Event] = []
    learned = Learned({}, EPOCHS, 10, "done", 8)
    steps = out_of_fold(samples(), folds, CLASSES, learned, fitted, predicted, lambda: 1e4, "fit")
    try:
        while True:
            events.append(next(steps))
            if isinstance(events[-1], Recall):
                events[-1].decided.extend(known for known in before if known.name == events[-1].name)
    except StopIteration as end:
        return end.value, events


@pytest.mark.parametrize("code", ["diverged", "ended as diverged"])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_model_of_a_fold_that_diverged_says_nothing_and_the_others_do(failing: int, code: str) -> None:
    """Neither where there is none, nor where the best one is of before."""
    (found, interrupted), events = left_out(failing, code)
    assert not interrupted
    of_rows = found.rows % FOLDS + 1
    assert sorted(set(of_rows.tolist())) == [fold for fold in (1, 2, 3) if fold != failing]
    assert (found.logits[:, 0] == of_rows).all()
    (told,) = [event for event in events if isinstance(event, Decision) and event.value == "diverged"]
    assert told.name == f"fit.fold{failing}"


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("late", [2, 3])
def test_a_run_that_goes_on_ends_the_same_folds_when_the_time_was_up(failing: int, late: int) -> None:
    (first, was_cut), events = left_out(failing, "diverged", late)
    decided = [event for event in events if isinstance(event, Decision)]
    (again, is_cut), _ = left_out(failing, "diverged", 0, decided)
    assert was_cut is is_cut is (failing != late)
    assert again.rows.tolist() == first.rows.tolist()
    assert len(first.rows) == 10 * len({1, 2, 3}.difference({failing}, range(late, 4) if failing != late else ()))


def test_any_other_fault_of_a_fold_is_one_of_the_rung() -> None:
    with pytest.raises(TellapartError, match="not finite"):
        left_out(2, "something_else")
