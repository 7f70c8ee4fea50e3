"""Overfitting and underfitting are named when they are there, and noise is not called either."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.events import Epoch
from tellapart.judge import Metrics, curve_words, fit_words, metrics


def _right(hits: int, n: int) -> Metrics:
    targets = np.arange(n) % 2
    predicted = np.where(np.arange(n) < hits, targets, 1 - targets)
    return metrics(targets, np.eye(2)[predicted])


@pytest.mark.parametrize(
    ("train", "val", "test", "verdict"),
    [
        ((200, 200), (60, 80), None, "Overfitting:"),
        ((999, 1000), (180, 200), (850, 1000), "Overfitting:"),
        ((120, 200), (48, 80), None, "Underfitting:"),
        ((970, 1000), (480, 500), None, "No overfitting:"),
        ((9990, 10000), (9700, 10000), None, "No overfitting worth naming:"),
        ((20, 20), (9, 10), None, "No overfitting can be seen:"),
        ((200, 200), (39, 44), (146, 153), "No overfitting worth naming:"),
        ((200, 200), None, None, "Overfitting cannot be judged:"),
        ((200, 200), (0, 0), None, "Overfitting cannot be judged:"),
    ],
)
def test_the_verdict_is_the_one_that_the_numbers_carry(
    train: tuple[int, int], val: tuple[int, int] | None, test: tuple[int, int] | None, verdict: str
) -> None:
    splits = [None if counts is None else _right(*counts) for counts in (train, val, test)]
    words = fit_words(*splits)
    assert words.startswith(verdict)
    assert words.endswith(".")


def test_the_words_have_both_numbers_and_how_many_pictures_they_stand_on() -> None:
    words = fit_words(_right(200, 200), _right(60, 80), None)
    for part in ("100.0%", "200 training", "75.0%", "80 validation", "25.0 points"):
        assert part in words


def test_noise_between_equal_splits_is_hardly_ever_called_overfitting() -> None:
    rng = np.random.default_rng(0)
    drawn = zip(rng.binomial(200, 0.9, 200), rng.binomial(50, 0.9, 200), strict=True)
    called = sum(fit_words(_right(a, 200), _right(b, 50), None).startswith("Overfitting:") for a, b in drawn)
    assert called <= 6


def _curve(*passes: tuple[float, float, float]) -> list[Epoch]:
    return [
        Epoch(number, 10 * (number + 1), 0.1, loss, accuracy, val_loss, 0.5, 1.0)
        for number, (loss, accuracy, val_loss) in enumerate(passes)
    ]


def test_curves_that_part_are_called_overfitting_and_curves_that_still_fall_underfitting() -> None:
    parted = curve_words(_curve((1.0, 0.6, 0.9), (0.5, 0.8, 0.7), (0.1, 1.0, 0.9)))
    assert parted.startswith("Overfitting in the curves: from pass 2 on")
    for part in ("0.50 to 0.10", "0.70 to 0.90"):
        assert part in parted
    falling = curve_words(_curve((2.0, 0.3, 1.9), (1.5, 0.5, 1.4)))
    assert falling.startswith("Underfitting in the curves: after 2 passes 50%")
    assert "or more --epochs where these were the limit" in falling
    assert curve_words(_curve((1.0, 0.6, 0.9), (0.2, 0.95, 0.5), (0.1, 1.0, 0.51))) == ""
    assert curve_words(_curve((1.0, 0.6, 0.9))) == ""
    assert "40% of the training pictures" in curve_words(_curve((2.0, 0.3, 1.9), (1.5, 0.99, 1.4)), told_right=0.4)
    assert curve_words(_curve((2.0, 0.3, 1.9), (1.5, 0.5, 1.4)), told_right=0.99) == "", "mixed pictures say nothing"


@pytest.mark.parametrize(("most", "asked", "other"), [(20, "--epochs", "--budget"), (300, "--budget", "--epochs")])
def test_underfitting_asks_for_more_of_what_ended_the_fit(most: int, asked: str, other: str) -> None:
    told = curve_words(_curve((2.0, 0.3, 1.9), (1.5, 0.5, 1.4)), most)
    assert asked in told
    assert other not in told
