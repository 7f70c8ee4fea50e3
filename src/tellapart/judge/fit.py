"""Overfitting, underfitting or neither, in words, and only where the difference is more than noise."""

from __future__ import annotations

from collections.abc import Sequence

from tellapart.events import Epoch
from tellapart.judge.intervals import difference_interval
from tellapart.judge.metrics import Metrics

__all__ = ["curve_words", "fit_words"]

# A gap that is real and at least this wide is called overfitting; below, it is what learning always leaves.
WORTH_NAMING = 0.05
# So much worse than at its best, the validation loss has turned.
TURNED = 1.05
# A model that is right on fewer of its own training pictures than this, beyond noise, has not learned them.
LEARNED = 0.8


def fit_words(train: Metrics | None, val: Metrics | None, test: Metrics | None) -> str:
    """Return one or two plain sentences on how training and unseen pictures compare.

    The unseen pictures are those of `test`, or of `val` when it has more. Overfitting is named when the 95 % interval
    of the difference in accuracy (Newcombe) is above 0 and the difference is at least 0.05; underfitting when the
    whole interval of the training accuracy is below 0.8.
    """
    unseen, where = max(((test, "test"), (val, "validation")), key=lambda pair: pair[0].n if pair[0] else 0)
    learned = _accuracy(train)
    held_out = _accuracy(unseen)
    if train is None or unseen is None or learned is None or held_out is None:
        return "Overfitting cannot be judged: there are no unseen pictures, or no training pictures, to compare."
    gap = learned[0] - held_out[0]
    low, high = difference_interval(learned[0], learned[1], held_out[0], held_out[1])
    numbers = (
        f"accuracy is {learned[0]:.1%} on the {train.n:,} training pictures and {held_out[0]:.1%} on the "
        f"{unseen.n:,} {where} pictures"
    )
    if low > 0.0 and gap >= WORTH_NAMING:
        return (
            f"Overfitting: {numbers}, {_points(gap)} less (95% interval {_points(low)} to {_points(high)}). "
            "More pictures or stronger augmentation would help."
        )
    if learned[1][1] < LEARNED:
        return (
            f"Underfitting: {numbers}, so it has not learned even the pictures it was shown. "
            "A stronger model, longer training, or cleaner labels would help."
        )
    if high >= 2 * WORTH_NAMING and low <= 0.0:
        return (
            f"No overfitting can be seen: {numbers}. "
            f"With so few pictures a true difference of up to {_points(high)} would not show."
        )
    if low > 0.0:
        return f"No overfitting worth naming: {numbers}, a small difference of {_points(gap)}."
    return f"No overfitting: {numbers}, and the difference is within noise."


def curve_words(epochs: Sequence[Epoch], most_steps: int | None = None, told_right: float | None = None) -> str:
    """Return a sentence on what the curves of a fit say, or nothing where they say nothing in particular.

    `most_steps` is how many the fit could have at the most, where that is known: had it fewer, time was the limit.
    `told_right` is the share of the training pictures that were told right in the end, as they are, where the last pass
    does not say it: of pictures mixed two by two few are, however well they were learned.
    Overfitting: the validation loss ended at least 5 % above its best while the training loss went on falling.
    Underfitting: the training pictures were not learned, and the validation loss was at its best in the last pass.
    """
    judged = [(epoch.val_loss, epoch) for epoch in epochs if epoch.val_loss is not None]
    if len(judged) < 2:
        return ""
    best_loss, best = min(judged, key=lambda pair: pair[0])
    last_loss, last = judged[-1]
    if last_loss >= TURNED * best_loss and last.train_loss < best.train_loss:
        return (
            f"Overfitting in the curves: from pass {best.epoch + 1} on the training loss fell from "
            f"{best.train_loss:.2f} to {last.train_loss:.2f} while that of validation rose from {best_loss:.2f} to "
            f"{last_loss:.2f}; the weights of the best pass are kept. More pictures would help most."
        )
    learned = last.train_accuracy if told_right is None else told_right
    if learned < LEARNED and best.epoch == last.epoch:
        return (
            f"Underfitting in the curves: after {len(judged)} passes {learned:.0%} of the training "
            f"pictures were told right, and validation was still getting better. {_more(last.step, most_steps)}"
        )
    return ""


def _more(steps: int, most: int | None) -> str:
    """Return what would lead to more steps than there were."""
    if most is None:
        return "A longer --budget would help, or more --epochs where these were the limit."
    if steps >= most:
        return "More --epochs would help: there was time for all of them."
    return f"A longer --budget would help: it ended at step {steps:,} of {most:,}."


def _accuracy(split: Metrics | None) -> tuple[float, tuple[float, float]] | None:
    if split is None or split.accuracy is None or split.accuracy_low is None or split.accuracy_high is None:
        return None
    return split.accuracy, (split.accuracy_low, split.accuracy_high)


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
