"""The verdict in plain words: how good, how sure, when not to trust it, what to do next. Numbers in, sentences out."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from tellapart.report.summary import SplitReport, Summary
from tellapart.report.words import amount, interval, percent, quoted

__all__ = ["Score", "Verdict", "score", "tried", "verdict"]

Tone = Literal["good", "fair", "poor"]

# Of the mistakes that guessing makes, the share that must be gone for `good`, even at the interval's low end.
GOOD_GAIN = 0.75
FEW_PICTURES = 100
FEW_OF_A_CLASS = 10
WIDE_INTERVAL = 0.10
MISCALIBRATED = 0.05
UNEVEN = 5.0
# An interval so wide that the number in its middle says nothing.
UNKNOWABLE = 0.3
# How `judge.fit_words` begins where it names a fault.
OVERFITTING, UNDERFITTING = "Overfitting:", "Underfitting:"


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """The one number of a run, in [0, 1], with its 95% interval, its `n`, and what guessing would get (`chance`)."""

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    chance: float | None
    split: str

    @property
    def knowable(self) -> bool:
        """Whether the interval is narrow enough for the number itself to be worth showing large."""
        return self.low is None or self.high is None or self.high - self.low <= UNKNOWABLE


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Sentences without markup; names in them stand in quotation marks and are isolated (`words.plain` undoes that).

    `tone`: `good`, `fair`, or `poor` (do not use it).
    """

    headline: str
    tone: Tone
    score: Score | None
    sure: tuple[str, ...]
    cautions: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it after the headline, in reading order."""
        return self.sure + self.cautions + self.advice


def score(summary: Summary) -> Score | None:
    """Return the headline number of a run, or None where no split has one."""
    split, name = summary.headline, summary.headline_split
    if split is None or name is None:
        return None
    measure = "balanced_accuracy" if summary.balanced else "accuracy"
    value = split.metric(measure)
    if value is None:
        return None
    low, high = split.ends(measure)
    chance = 1 / len(summary.classes) if summary.balanced and summary.classes else summary.most_common_share
    return Score("balanced accuracy" if summary.balanced else "accuracy", value, low, high, split.n, chance, name)


def verdict(summary: Summary) -> Verdict:
    """Return the verdict on a run."""
    found = score(summary)
    if found is None:
        return Verdict(
            "There is no verdict: no picture was held out to measure on.",
            "poor",
            None,
            (),
            ("Nothing here says how good the model is.",),
            ("Add labelled pictures, so that some can be kept for testing, and train again.",),
        )
    tone = _tone(summary, found)
    return Verdict(
        _headline(summary, found, tone),
        tone,
        found,
        _sure(summary, found),
        _cautions(summary, found),
        _advice(summary, found, tone),
    )


def _tone(summary: Summary, found: Score) -> Tone:
    low = found.low if found.low is not None else found.value
    chance = found.chance or 0.0
    if summary.method == "majority" or low <= chance:
        return "poor"
    gain = (low - chance) / (1 - chance) if chance < 1 else 0.0
    return "good" if gain >= GOOD_GAIN and found.split == "test" else "fair"


def _headline(summary: Summary, found: Score, tone: Tone) -> str:
    if not tried(summary):
        return "Do not use it: it always guesses the most common class, and nothing else was tried."
    if summary.method == "majority":
        return "Do not use it: nothing that was tried beat always guessing the most common class."
    if tone == "poor":
        return "Do not rely on it: it is not shown to be better than guessing."
    if not found.knowable:
        return f"It is better than guessing; how much better, {amount(found.n)} pictures cannot tell."
    kind = {
        "test": "of these pictures" if summary.evaluated else "new pictures",
        "val": "validation pictures",
        "train": "left-out pictures",
    }[found.split]
    if summary.balanced:
        share = f"averaged over the classes, it names {_in_a_hundred(found.value)} {kind} right"
    else:
        share = f"it names {_in_a_hundred(found.value)} {kind} right"
    return f"It tells them apart: {share}." if tone == "good" else f"It helps, but check its answers: {share}."


def tried(summary: Summary) -> bool:
    """Say whether anything but guessing was measured, as far as the ladder tells."""
    others = [row for row in summary.ladder if row.method != "majority"]
    return summary.method != "majority" or not others or any(row.skipped is None for row in others)


def _in_a_hundred(value: float) -> str:
    if value >= 0.995:
        return "all" if value == 1 else "more than 99 in 100"
    return f"about {max(1, round(value * 100))} in 100"


def _sure(summary: Summary, found: Score) -> tuple[str, ...]:
    between = interval(found.low, found.high, found.n)
    range_ = f"; 95% interval {between}" if between else ""
    of_test = "pictures it was given" if summary.evaluated else "test pictures it never saw"
    kinds = {"test": of_test, "val": "validation pictures", "train": "pictures left out in turn"}
    kind = kinds[found.split]
    name = found.name.capitalize()
    sentences = [f"{name} is {percent(found.value, found.n)} on {amount(found.n)} {kind}{range_}."]
    if found.chance is not None:
        guess = "Guessing" if summary.balanced else "Always guessing the most common class"
        sentences.append(f"{guess} would get {percent(found.chance, found.n)}.")
    return (*sentences, *_by_hand(summary), *_calibration(summary.headline))


def _by_hand(summary: Summary) -> tuple[str, ...]:
    """Say so where features made by hand were kept before networks, or stood in for them, and why."""
    if summary.method != "classical":
        return ()
    networks = [row for row in summary.ladder if row.method in ("probe", "finetune", "scratch")]
    tried = [row for row in networks if row.skipped is None]
    if tried:
        return (f"Features made by hand were kept before a network. {tried[-1].words}",)
    why = f" Left out was {networks[-1].method}: {networks[-1].skipped}." if networks else ""
    return (f"It works by features made by hand, without a network.{why}",)


def _calibration(split: SplitReport | None) -> tuple[str, ...]:
    error = split.metric("ece") if split else None
    if split is None or error is None or split.n < FEW_PICTURES:
        return ()
    if error <= MISCALIBRATED:
        return (f"Its probabilities can be taken at face value: they are {100 * error:.1f} points off on average.",)
    usable = [b for b in split.reliability if b.n and b.confidence is not None and b.accuracy is not None]
    lean = sum(b.n * ((b.confidence or 0.0) - (b.accuracy or 0.0)) for b in usable)
    word = "off" if not usable else "too high" if lean > 0 else "too low"
    return (f"Its probabilities are {word}, by {100 * error:.0f} points on average: do not take them at face value.",)


def _cautions(summary: Summary, found: Score) -> tuple[str, ...]:
    said = []
    if summary.attention is not None and summary.attention.borders is not None and summary.attention.borders.warned:
        said.append(summary.attention.borders.words)
    if found.split == "val":
        why = "The test split was not opened" if summary.counts.get("test") else "There is no test split"
        said.append(
            f"{why}: these numbers are of the validation pictures, which also chose the model, so expect a little less."
        )
    elif found.split == "train":
        said.append(
            "Nothing was set apart to test on: each picture was named by a model that had not seen it, and the model "
            "that ships has learned from all of them. Measure it on new pictures before you rely on it."
        )
    elif summary.evaluated:
        said.append(
            "These numbers hold for pictures like these, and only if it has learned from none of them: that cannot be "
            "told from the bundle."
        )
    elif summary.test_openings > 1:
        said.append(
            f"The test split has been opened {_times(summary.test_openings)}: "
            "if what it said steered any change, its numbers are too good by now."
        )
    said += _worst_kind(summary)
    if found.n < FEW_PICTURES or (found.low is not None and found.high is not None and _width(found) > WIDE_INTERVAL):
        said.append(
            f"{amount(found.n)} pictures are few to measure on: the true number may lie anywhere in the interval."
        )
    said += _fit(summary, found)
    said += _weak_classes(summary)
    said += _held_back(summary)
    said += _uneven(summary)
    used, excluded = summary.counts.get("used", 0), summary.counts.get("excluded", 0)
    if excluded > 0.05 * (used + excluded):
        said.append(
            f"{amount(excluded)} of {amount(used + excluded)} files found could not be used; they are listed below."
        )
    return tuple(said)


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{amount(count)} times"


def _fit(summary: Summary, found: Score) -> list[str]:
    """Return what `fit_words` found in few words; in full it stands beside the numbers of the splits."""
    learned = summary.splits["train"].metric("accuracy") if "train" in summary.splits else None
    held_out = summary.headline.metric("accuracy") if summary.headline else None
    if summary.fit_words.startswith(UNDERFITTING):
        return [f"It has not learned even its training pictures: {percent(learned)} of them are named right."]
    if summary.fit_words.startswith(OVERFITTING):
        elsewhere = percent(held_out, found.n)
        return [f"It overfits: {percent(learned)} right on the pictures it learned from, {elsewhere} on others."]
    return []


def _width(found: Score) -> float:
    return (found.high or 0.0) - (found.low or 0.0)


def _worst_kind(summary: Summary) -> list[str]:
    worst = summary.slices.worst if summary.slices is not None else None
    if worst is None or summary.method == "majority":
        return []
    here, rest = percent(worst.accuracy, worst.n), percent(worst.rest_accuracy, worst.rest_n)
    return [
        f"It is worse on pictures with {quoted(f'{worst.what} {worst.where}')}: {here} of {amount(worst.n)} are right, "
        f"{rest} of the other {amount(worst.rest_n)}."
    ]


def _weak_classes(summary: Summary) -> list[str]:
    split = summary.headline
    if split is None or summary.method == "majority":
        return []
    rows = [row for row in split.per_class if row.n]
    said = []
    judged = [row for row in rows if row.n >= FEW_OF_A_CLASS and row.recall is not None and math.isfinite(row.recall)]
    if judged and len(rows) > 1:
        mean = sum((row.recall or 0.0) for row in judged) / len(judged)
        worst = min(judged, key=lambda row: (row.recall or 0.0, row.label))
        recall = worst.recall or 0.0
        if recall < mean - 0.1 or (worst.recall_high is not None and worst.recall_high < mean):
            said.append(
                f"Weakest on {quoted(worst.label)}: it finds {percent(recall, worst.n)} of {amount(worst.n)}"
                f"{_taken_for(split, summary.classes, worst.label)}."
            )
    thin = sum(row.n < FEW_OF_A_CLASS for row in rows) + (len(split.per_class) - len(rows))
    if thin and rows:
        which = "1 class has" if thin == 1 else f"{amount(thin)} classes have"
        said.append(f"{which} fewer than {FEW_OF_A_CLASS} pictures to measure on: numbers of so few say little.")
    return said


def _uneven(summary: Summary) -> list[str]:
    rows = summary.splits["train"].per_class if "train" in summary.splits else ()
    if len(rows) < 2:
        return []
    most, least = max(rows, key=lambda row: row.n), min(rows, key=lambda row: row.n)
    if most.n < UNEVEN * max(1, least.n):
        return []
    return [
        f"The classes are uneven: it learned from {amount(most.n)} pictures of {quoted(most.label)} and "
        f"{amount(least.n)} of {quoted(least.label)}, and knows the rare ones less well."
    ]


def _taken_for(split: SplitReport, classes: tuple[str, ...], label: str) -> str:
    if split.confusion is None or label not in classes:
        return ""
    true = classes.index(label)
    counts = [(int(count), other) for other, count in enumerate(split.confusion[true]) if other != true and count]
    if not counts:
        return ""
    _, other = max(counts, key=lambda pair: (pair[0], -pair[1]))
    return f", and takes it most often for {quoted(classes[other])}"


def _held_back(summary: Summary) -> list[str]:
    shares = {share.answer: share for share in summary.answers}
    back = [shares[name] for name in ("unsure", "unknown") if name in shares and shares[name].n]
    if not back:
        return []
    parts = " and ".join(f"“{share.answer}” to {percent(share.share)}" for share in back)
    label = shares.get("label")
    rest = (
        f"; of the rest, {percent(label.accuracy, label.n)} are right" if label and label.accuracy is not None else ""
    )
    return [f"It answers {parts} of the pictures: a person should look at those{rest}."]


def _advice(summary: Summary, found: Score, tone: Tone) -> tuple[str, ...]:
    said = []
    if not tried(summary):
        said.append("Let it try more and train again: beside the ladder stands why each rung was left out.")
    elif tone == "poor":
        said.append("Look at the pictures: are the labels right, and can you tell the classes apart yourself?")
        said.append("Then add pictures of every class, or pretrained weights, and train again.")
    else:
        if summary.mistakes:
            said.append("Look at the confident mistakes below: some may be wrong labels, which are quick to correct.")
        said.append(
            "Then use it: the commands are below."
            if tone == "good"
            else "Add pictures of the weakest classes, or give it more time, and train again."
        )
    needed = _pictures_needed(found)
    if needed > found.n:
        said.append(f"For an interval of ± 3 points, test on about {amount(needed)} pictures.")
    return tuple(said)


def _pictures_needed(found: Score) -> int:
    """Return how many pictures give an interval of ± 0.03, by the normal approximation; 0 where it is narrow enough."""
    if found.low is None or found.high is None or _width(found) <= WIDE_INTERVAL:
        return 0
    value = min(max(found.value, 0.05), 0.95)
    return math.ceil(1.96**2 * value * (1 - value) / 0.03**2 / 10) * 10
