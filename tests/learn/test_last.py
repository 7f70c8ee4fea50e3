"""What the curves of a fit say where its pictures were mixed two by two."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from torch import nn

from tellapart.events import Epoch
from tellapart.learn.rungs import Head
from tellapart.learn.torch_last import curve_words
from tellapart.learn.torch_loop import Learned
from tellapart.learn.torch_mix import Mix
from tests.learn.tasks import task_of
from tests.learn.test_loop import samples

# Few of the mixed pictures were told right, and validation was still getting better.
EPOCHS = tuple(Epoch(at, at + 1, 1.0, loss, 0.5, loss, 0.6, 1.0) for at, loss in enumerate((1.0, 0.9, 0.8)))


@pytest.mark.parametrize(("mix", "known", "said"), [(0.5, True, ""), (0.5, False, "34%"), (0.0, True, "50%")])
def test_pictures_as_they_are_say_how_much_was_learned_of_mixed_ones(mix: float, known: bool, said: str) -> None:
    """A held-out picture that is told wrong says nothing of it; nothing is asked where none are mixed."""
    train = samples(30)
    train = dataclasses.replace(train, targets=np.arange(30) % 3, mix=Mix(3, mix))
    held_out = np.array([4], np.int64)
    task = dataclasses.replace(task_of(train, samples(6, seed=1), nn.Identity), held_out=held_out)
    embeddings = np.eye(3, dtype=np.float32)[np.arange(30) % 3 if known else np.zeros(30, np.int64)]
    embeddings[4] = (1.0, 0.0, 0.0)
    head = Head(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    words = curve_words(task, Learned({}, EPOCHS, 3, "done", 8), head, embeddings, np.arange(30, dtype=np.int64))
    assert [said in one for one in words] == ([True] if said else [])
