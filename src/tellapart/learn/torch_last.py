"""The last steps of a rung: what the runtime that ships says of pictures, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tellapart import judge
from tellapart.events import Decision, Progress, Steps, decide
from tellapart.images import map_ordered
from tellapart.learn.linear import stratified
from tellapart.learn.rungs import FloatArray, GraphHead, Head, IntArray
from tellapart.learn.torch_batches import Samples
from tellapart.learn.torch_loop import Learned, copied
from tellapart.learn.torch_networks import Network, export
from tellapart.learn.torch_norms import MOST_BATCHES, reestimated_on
from tellapart.learn.torch_task import Task
from tellapart.learn.torch_validate import logits_of, validated
from tellapart.memory import out_of_memory
from tellapart.runtime.session import Session

__all__ = [
    "compared_on",
    "curve_words",
    "embedded",
    "mirrored_too",
    "seconds_for_statistics",
    "seconds_to_finish",
    "statistics_anew",
    "with_embeddings",
]

N = TypeVar("N", bound=nn.Module)

_LOOKED_AT = 5000  # training pictures, and those held out: what references and drift are known from, with some to spare
_TIMED = 256  # pictures, embedded to see what all will cost
_FEWEST, _COMPARED_ON = 100, 2000  # validation pictures, for questions that are asked again and again
_CAUTION = 1.3  # times as long as that look said


def with_embeddings(targets: IntArray, held_out: IntArray, seed: int) -> IntArray:
    """Return the training rows, sorted, that get embeddings: all, where none is held out or they are few enough."""
    some = stratified(targets, _LOOKED_AT, seed) if len(held_out) else np.arange(len(targets), dtype=np.int64)
    return np.union1d(some, held_out)


def seconds_to_finish(task: Task[Network], num_train: int, num_later: int) -> float:
    """Return about how long it takes to export the network and to embed pictures, from a look at a few.

    `num_train` training pictures, all of `val`, and `num_later` (the test split's), which have to be decoded as well.
    """
    began = time.perf_counter()
    network = task.start(task.train.rows)
    network.mirrors = task.augment.flip
    trunk = export(network)
    exported = time.perf_counter() - began
    few = task.train.at(task.train.rows[:_TIMED])

    def each() -> float:
        began = time.perf_counter()
        for _ in embedded(trunk, few, network.head.in_features, task.threads):
            pass
        return (time.perf_counter() - began) / len(few)

    seconds = _CAUTION * min(each() for _ in range(3))  # what disturbs a look for a moment will not do so all the time
    return 1.0 + 2.0 * exported + seconds * (num_train + len(task.val) + num_later) + 0.0005 * num_later


def compared_on(val: Samples, seed: int) -> Samples:
    """Return at most some 2,000 of the validation pictures, as many of each class as its share of all."""
    return val.at(val.rows[stratified(val.targets[val.rows], _COMPARED_ON, seed)]) if len(val) else val


def seconds_for_statistics(task: Task[N]) -> float:
    """Return about how long `statistics_anew` takes; pictures go through a network thrice as fast as they train it.

    Statistics are taken of whole batches, one after the other, also where parts of a batch are trained side by side.
    """
    pictures = MOST_BATCHES * task.choices.batch_size * task.choices.shards + 2 * min(_COMPARED_ON, len(task.val))
    return pictures / (3.0 * task.choices.batch_size * task.steps_a_second)


def statistics_anew(task: Task[N], network: N) -> Steps[bool]:
    """Decide whether batch norm of averaged weights has statistics taken anew, or the average of those there were.

    Validation says which is better; without any it is the former. The network has them then.
    """
    name, val = f"{task.name}.statistics", task.val
    some = compared_on(val, task.choices.seed)
    averaged = copied(network)
    old = yield from validated(network, some, task.exact, name)
    try:
        reestimated_on(network, task.learned_from, task.choices)
    except (RuntimeError, MemoryError) as error:
        if (told := out_of_memory(error, name)) is None:
            raise
        network.load_state_dict(averaged)
        yield Decision(name, "averaged", f"batch norm's: {told.message}")
        return False
    new = yield from validated(network, some, task.exact, name)
    if old is None or new is None:
        yield Decision(name, "anew", "batch norm's: those of averaged weights are others; there is no validation")
        return True
    better = new.tempered <= old.tempered
    if not better:
        network.load_state_dict(averaged)
    words = f"batch norm's: validation loss {new.tempered:.4f} with new ones, {old.tempered:.4f} with those averaged"
    yield Decision(name, "anew" if better else "averaged", words)
    return better


def curve_words(
    task: Task[N], learned: Learned, head: Head | GraphHead, embeddings: FloatArray, rows: IntArray
) -> tuple[str, ...]:
    """Return what the curves of a fit say, if anything; `embeddings` float32 [n, D] are of the training `rows` [n].

    Of pictures that were mixed two by two few are told right however well a network learns: it is asked about them as
    they are.
    """
    mix, right = task.train.mix, None
    if mix is not None and not mix.nothing:
        seen = np.isin(rows, task.learned_from.rows)
        right = float((head.logits(embeddings[seen]).argmax(1) == task.train.targets[rows[seen]]).mean())
    return tuple(filter(None, [judge.curve_words(learned.epochs, task.max_steps, right)]))


def mirrored_too(task: Task[Network], network: Network) -> Steps[bool]:
    """Decide whether the network that ships looks at pictures mirrored too, which takes it twice the time.

    Only where training pictures were mirrored, and validation pictures are told clearly better so.
    """
    name, val = f"{task.name}.mirrored_too", task.val
    if not task.augment.flip or len(val) < _FEWEST:
        few = f"{len(val)} validation pictures are too few to tell"
        yield Decision(name, False, few if task.augment.flip else "training pictures were not mirrored")
        return False
    some = compared_on(val, task.choices.seed)
    targets = val.targets[some.rows]

    def probs(mirrors: bool) -> Steps[NDArray[np.float64]]:
        network.mirrors = mirrors
        logits = (yield from logits_of(network, some, task.choices, name)).numpy()
        return judge.softmax((logits / judge.fit_temperature(logits, targets)).astype(np.float32))

    both, plain = (yield from probs(True)), (yield from probs(False))
    found = judge.compare(targets, both, plain, False, names=("looking both ways round", "looking once"))
    better: bool = yield from decide(name, found.better, found.words)
    return better


def embedded(trunk: bytes, samples: Samples, width: int, threads: int) -> Steps[FloatArray]:
    """Return float32 [n, D] from the runtime that ships: one picture a run, so that its neighbours never matter."""
    session = Session(trunk)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for pixels, _ in samples.in_order(64):
            for picture in pixels.numpy():
                yield np.repeat(picture, 3 // picture.shape[-1], axis=-1)[None]

    found: list[FloatArray] = []
    for value in map_ordered(lambda image: session.run(image, ["embedding"])["embedding"][0], pictures(), threads):
        found.append(value)
        if len(found) % 64 == 0 or len(found) == len(samples):
            yield Progress("embed", len(found), len(samples))
    return np.stack(found) if found else np.empty((0, width), np.float32)
