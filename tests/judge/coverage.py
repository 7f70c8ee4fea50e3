"""How often the intervals hold the truth, over samples drawn from classifiers whose numbers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from tellapart.judge import calibration_error, metrics

__all__ = ["MEASURES", "Drawn", "held"]

MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A classifier of `classes` classes, the last the most common, whose logits are `sharp` times what is true.

    It sees `n` groups of 1 to `most` pictures that look alike and share their luck.
    """

    classes: int
    n: int
    sharp: float
    most: int = 1

    def sample(
        self, rng: np.random.Generator, n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Return true classes [N], probabilities [N, K] and groups [N] of `n` groups."""
        groups = np.repeat(np.arange(n), rng.integers(1, self.most + 1, n))
        alike = rng.normal(0.0, 3.0 * np.sqrt(0.5), (n, self.classes))[groups]
        logits = alike + rng.normal(0.0, 3.0 * np.sqrt(0.5), alike.shape) + np.log(np.arange(1, self.classes + 1))
        true, said = _softmax(logits), _softmax(self.sharp * logits)
        targets = (true.cumsum(axis=1) > rng.random(n)[groups][:, None] * (1 - 1e-12)).argmax(axis=1)
        return targets, said, groups


def held(drawn: Drawn, rounds: int, seed: int = 0) -> dict[str, float]:
    """Return how often, of `rounds` samples, the interval of each measure held what 100,000 pictures give."""
    rng = np.random.default_rng([seed, drawn.classes, drawn.n])
    truth = metrics(*drawn.sample(rng, 100_000)[:2])
    true = {name: float(getattr(truth, name)) for name in MEASURES}
    if drawn.sharp == 1.0:
        true["ece"] = 0.0
    count = dict.fromkeys(MEASURES, 0)
    for _ in range(rounds):
        rows = drawn.sample(rng, drawn.n)
        got, error = metrics(*rows), calibration_error(*rows)
        assert error is not None
        for name in MEASURES:
            ends = error[1:] if name == "ece" else (getattr(got, f"{name}_low"), getattr(got, f"{name}_high"))
            count[name] += ends[0] <= true[name] <= ends[1]
    return {name: count[name] / rounds for name in MEASURES}


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
