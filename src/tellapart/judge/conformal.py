"""Sets of classes that hold the true one as often as promised, whatever the model: conformal prediction.

The set of a picture is its likeliest classes, as many as it takes for their probabilities to add up to a *mass*. A
picture whose set at `min_prob` is a single class is answered with it; any other is `unsure`. Sources: adaptive
prediction sets, without their randomisation: Romano et al., "Classification with valid and adaptive coverage" (2020);
calibration on out-of-fold predictions: Vovk, "Cross-conformal predictors" (2015).
"""

from __future__ import annotations

import math

import numpy as np

from tellapart.judge.arrays import Floats, Ints, checked_rows
from tellapart.runtime.answers import mass_before

__all__ = ["conformal_mass"]

# As in thresholds: the last bits of a float32 do not decide.
SLACK = 1e-6


def conformal_mass(targets: Ints, probs: Floats, coverage: float) -> float | None:
    """Return the mass in [0, 1] at which sets hold the true class of a new picture with at least this probability.

    From true classes int [N] and out-of-fold probabilities [N, K] of pictures that are exchangeable with the new one.
    None where they are too few to promise it (18 for 0.95, 98 for 0.99). A model that is right more often than asked
    for needs no more than its likeliest class: mass 0. Raises ValueError as `checked_rows` does.
    """
    targets, probs = checked_rows(targets, probs)
    place = math.ceil((len(targets) + 1) * coverage - 1e-9)
    if place > len(targets):
        return None
    before = np.sort(mass_before(probs)[np.arange(len(targets)), targets])[place - 1]
    return 0.0 if before == 0.0 else min(1.0, float(before) + SLACK)
