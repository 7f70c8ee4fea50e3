from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tellapart.judge import compare_slices
from tellapart.recipe import Recipe
from tellapart.report import AnswerShare, ClassRow, LadderRow, SplitReport, Summary, verdict
from tellapart.report.commands import next_commands
from tellapart.report.verdict import Verdict, score
from tellapart.report.words import plain

SummaryMaker = Callable[..., Summary]


def one_split(right: int, n: int, low: float, high: float, ece: float = 0.02) -> SplitReport:
    """Two classes of n / 2 pictures, as many mistakes in either."""
    half, wrong = n // 2, (n - right) // 2
    accuracy = right / n
    rows = tuple(ClassRow(label, half, half, accuracy, accuracy, low, high, accuracy) for label in ("ants", "bees"))
    metrics = {"n": n, "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high, "ece": ece}
    return SplitReport(metrics, rows, np.array([[half - wrong, wrong], [wrong, half - wrong]]))


def judged(make: SummaryMaker, **changes: object) -> Verdict:
    return verdict(make(**{"fit_words": "", "answers": (), **changes}))


def text_of(said: Verdict) -> str:
    return plain(" ".join((said.headline, *said.sentences)))


def test_a_good_result_says_how_good_on_how_many_and_how_sure(make_summary: SummaryMaker) -> None:
    said = judged(make_summary, splits={"test": one_split(148, 154, 0.917, 0.985)})
    assert said.tone == "good"
    assert said.headline == "It tells them apart: it names about 96 in 100 new pictures right."
    assert said.sure[0] == "Accuracy is 96.1% on 154 test pictures it never saw; 95% interval 91.7 to 98.5%."
    assert said.sure[1] == "Always guessing the most common class would get 50.0%."
    assert "face value" in said.sure[2]
    assert said.cautions == ()


def test_a_middling_result_is_not_called_good(make_summary: SummaryMaker) -> None:
    said = judged(make_summary, splits={"test": one_split(140, 200, 0.63, 0.76)})
    assert said.tone == "fair"
    assert "check its answers" in said.headline
    assert any("are few to measure on" in sentence for sentence in said.cautions)


def test_a_kind_of_pictures_that_is_truly_worse_is_minded_and_no_other(make_summary: SummaryMaker) -> None:
    right = np.arange(400) % 10 > 0
    cameras = {"camera": ["old"] * 100 + ["new"] * 300}
    same = judged(make_summary, slices=compare_slices(right, {}, cameras))
    right[:100] &= np.arange(100) % 3 > 0
    worse = judged(make_summary, slices=compare_slices(right, {}, cameras))
    said = "It is worse on pictures with “camera old”: 60.0% of 100 are right, 90.0% of the other 300."
    assert said in [plain(caution) for caution in worse.cautions]
    assert "camera" not in text_of(same)


def test_a_result_that_guessing_could_have_had_is_refused(make_summary: SummaryMaker) -> None:
    said = judged(make_summary, splits={"test": one_split(16, 30, 0.34, 0.72)})
    assert said.tone == "poor"
    assert "not shown to be better than guessing" in said.headline
    assert any("test on about 1,0" in sentence for sentence in said.advice)


def test_when_guessing_won_the_verdict_is_not_to_use_it(make_summary: SummaryMaker) -> None:
    summary = make_summary(method="majority")
    said = verdict(summary)
    assert said.tone == "poor"
    assert said.headline.startswith("Do not use it")
    assert "Weakest" not in text_of(said)
    assert [command.line.split()[1] for command in next_commands(summary, said)] == ["check", "train"]


def test_when_nothing_but_guessing_was_tried_the_pictures_are_not_blamed(make_summary: SummaryMaker) -> None:
    ladder = (
        LadderRow("majority", None, 0.2, 36, 0.53, 0.69, True),
        LadderRow("probe", None, 60.0, skipped="the budget was used up"),
    )
    summary = make_summary(method="majority", ladder=ladder)
    said = verdict(summary)
    assert said.tone == "poor"
    assert "nothing else was tried" in said.headline
    assert "labels" not in " ".join(said.advice)
    assert [command.line.split()[1] for command in next_commands(summary, said)] == ["train", "check"]


def test_a_test_split_that_was_not_opened_is_not_said_to_be_missing(make_summary: SummaryMaker) -> None:
    held_out = {"val": one_split(148, 154, 0.917, 0.985)}
    assert "The test split was not opened" in judged(make_summary, splits=held_out).cautions[0]
    said = judged(make_summary, splits=held_out, counts={"found": 400, "used": 400, "train": 246, "val": 154})
    assert "There is no test split" in said.cautions[0]


def test_without_a_test_split_it_says_that_validation_chose_the_model(make_summary: SummaryMaker) -> None:
    said = judged(make_summary, splits={"val": one_split(148, 154, 0.917, 0.985)})
    assert said.tone == "fair"
    assert "validation pictures right" in said.headline
    assert "also chose the model" in said.cautions[0]


def test_with_nothing_held_out_it_says_that_the_numbers_say_almost_nothing(make_summary: SummaryMaker) -> None:
    said = judged(make_summary, splits={"train": one_split(154, 154, 0.97, 1.0)})
    assert said.tone == "fair"
    assert "Nothing was set apart" in said.cautions[0]
    none = judged(make_summary, splits={})
    assert (none.tone, none.score) == ("poor", None)
    assert "no verdict" in none.headline


@pytest.mark.parametrize(("times", "word"), [(2, "twice"), (7, "7 times")])
def test_a_test_split_opened_again_is_a_caution(make_summary: SummaryMaker, times: int, word: str) -> None:
    split = {"test": one_split(148, 154, 0.917, 0.985)}
    assert f"opened {word}" in judged(make_summary, splits=split, test_openings=times).cautions[0]
    assert judged(make_summary, splits=split, test_openings=1).cautions == ()


def test_overfitting_and_underfitting_are_cautions_and_their_absence_is_not(make_summary: SummaryMaker) -> None:
    splits = {"train": one_split(200, 200, 0.98, 1.0), "test": one_split(160, 200, 0.75, 0.85)}
    over = judged(make_summary, splits=splits, fit_words="Overfitting: the numbers differ.")
    assert "It overfits: 100.0% right on the pictures it learned from, 80.0% on others." in over.cautions
    under = judged(make_summary, splits=splits, fit_words="Underfitting: low everywhere.")
    assert any("not learned even its training pictures" in sentence for sentence in under.cautions)
    assert "overfits" not in text_of(judged(make_summary, splits=splits, fit_words="No overfitting: all is well."))


def test_the_weakest_class_is_named_with_what_it_is_taken_for(make_summary: SummaryMaker) -> None:
    rows = (
        ClassRow("ants", 50, 60, 0.8, 0.98, 0.9, 1.0, 0.9),
        ClassRow("bees", 50, 45, 0.9, 0.62, 0.47, 0.75, 0.8),
        ClassRow("wasps", 50, 45, 0.9, 0.96, 0.86, 1.0, 0.9),
    )
    metrics = {"n": 150, "accuracy": 0.85, "accuracy_low": 0.78, "accuracy_high": 0.9}
    split = SplitReport(metrics, rows, np.array([[49, 1, 0], [16, 31, 3], [1, 1, 48]]))
    said = judged(make_summary, classes=("ants", "bees", "wasps"), splits={"test": split})
    assert "Weakest on “bees”: it finds 62% of 50, and takes it most often for “ants”." in map(plain, said.cautions)


def test_classes_with_few_pictures_to_measure_on_are_counted(make_summary: SummaryMaker) -> None:
    split = one_split(148, 154, 0.917, 0.985)
    thin = dataclasses.replace(split, per_class=(*split.per_class, ClassRow("wasps", 3, 3, 1, 1, 0.3, 1, 1)))
    assert any(
        "1 class has fewer than 10" in sentence for sentence in judged(make_summary, splits={"test": thin}).cautions
    )


def test_what_it_holds_back_is_said_with_how_right_the_rest_is(make_summary: SummaryMaker) -> None:
    shares = (
        AnswerShare("label", 140, 0.9, 0.986),
        AnswerShare("unsure", 12, 0.08, 0.6),
        AnswerShare("unknown", 3, 0.02),
    )
    said = judged(make_summary, splits={"test": one_split(148, 154, 0.917, 0.985)}, answers=shares)
    assert said.cautions == (
        "It answers “unsure” to 8.0% and “unknown” to 2.0% of the pictures: a person should look at those; "
        "of the rest, 98.6% are right.",
    )


def test_files_that_could_not_be_used_are_a_caution_when_they_are_many(make_summary: SummaryMaker) -> None:
    split = {"test": one_split(148, 154, 0.917, 0.985)}
    many = judged(make_summary, splits=split, counts={"used": 300, "excluded": 100})
    assert "100 of 400 files found could not be used; they are listed below." in many.cautions
    assert judged(make_summary, splits=split, counts={"used": 398, "excluded": 2}).cautions == ()


def test_probabilities_that_lean_are_not_to_be_taken_at_face_value(make_summary: SummaryMaker) -> None:
    made = make_summary()
    split = dataclasses.replace(made.splits["test"], metrics={**made.splits["test"].metrics, "ece": 0.12})
    bins = split.reliability
    raised = tuple(dataclasses.replace(b, confidence=1.0 if b.n else None, accuracy=0.5 if b.n else None) for b in bins)
    lowered = tuple(
        dataclasses.replace(b, confidence=0.5 if b.n else None, accuracy=1.0 if b.n else None) for b in bins
    )
    for reliability, word in ((raised, "too high"), (lowered, "too low"), ((), "off")):
        leaning = dataclasses.replace(split, reliability=reliability)
        assert f"Its probabilities are {word}, by 12 points" in text_of(judged(make_summary, splits={"test": leaning}))


def test_uneven_classes_are_scored_alike_with_their_own_interval(make_summary: SummaryMaker) -> None:
    rows = (
        ClassRow("ants", 900, 905, 0.99, 0.99, 0.98, 0.995, 0.99),
        ClassRow("bees", 20, 15, 0.9, 0.6, 0.4, 0.8, 0.7),
    )
    metrics = {"n": 920, "accuracy": 0.98, "accuracy_low": 0.97, "accuracy_high": 0.99, "balanced_accuracy": 0.795}
    ends = {"balanced_accuracy_low": 0.69, "balanced_accuracy_high": 0.89}
    found = score(make_summary(balanced=True, splits={"test": SplitReport(metrics, rows, intervals=ends)}))
    assert found is not None
    assert (found.name, found.value, found.chance) == ("balanced accuracy", 0.795, 0.5)
    assert (found.low, found.high) == (0.69, 0.89)


def test_numbers_that_are_none_or_not_a_number_give_a_verdict_all_the_same(make_summary: SummaryMaker) -> None:
    for value in (None, math.nan):
        metrics = {"n": 20, "accuracy": 0.9, "accuracy_low": value, "accuracy_high": value, "ece": value}
        rows = (ClassRow("ants", 20, 20, value, value, value, value, value), ClassRow("bees", 0, 0, *[value] * 5))
        said = verdict(make_summary(splits={"test": SplitReport(metrics, rows)}))
        assert "nan" not in text_of(said).lower()
        assert "None" not in text_of(said)
        assert verdict(make_summary(splits={"test": SplitReport({"n": 20, "accuracy": value})})).score is None


def test_commands_give_a_shell_exactly_the_paths_that_were_meant(make_summary: SummaryMaker) -> None:
    summary = make_summary(bundle="my runs/$(rm -rf ~)'/bundle", data="-odd `name`")
    predict, evaluate, train = (shlex.split(command.line) for command in next_commands(summary, verdict(summary)))
    assert predict[:3] == ["tellapart", "predict", "my runs/$(rm -rf ~)'/bundle"]
    assert evaluate[:3] == ["tellapart", "evaluate", "my runs/$(rm -rf ~)'/bundle"]
    assert train[:3] == ["tellapart", "train", "./-odd `name`"]


@pytest.mark.parametrize(
    ("asked", "harder"),
    [
        ({}, "--effort best"),
        ({"effort": "quick"}, ""),
        ({"effort": "quick", "budget": "30s"}, ""),
        ({"effort": "quick", "budget": "10m", "method": "probe"}, "--method probe --budget 20m"),
        ({"budget": "5m", "balance": "weights", "seed": 3}, "--effort best --balance weights --seed 3"),
        ({"effort": "best"}, "--effort best --budget 120m"),
        ({"effort": "best", "budget": "45s", "distill": True}, "--effort best --budget 90s --distill"),
        ({"effort": "best", "budget": "7.3"}, "--effort best --budget 14.6s"),
        ({"method": "scratch", "epochs": 3, "flip": "off"}, "--method scratch --effort best --flip off"),
        ({"method": "majority"}, "--effort best"),
        ({"backbone": "local-dir:my weights"}, "--backbone 'local-dir:my weights' --effort best"),
        ({"label_column": "-my label"}, "'--label-column=-my label' --effort best"),
        (
            {"background": "0,9,255", "skip_missing": True, "reference": False, "checkpoint_every": 90, "val": 0.2},
            "--val 0.2 --skip-missing --background 0,9,255 --effort best --checkpoint-every 90s --no-reference",
        ),
    ],
)
def test_trying_harder_keeps_what_was_asked_for(make_summary: SummaryMaker, asked: dict[str, Any], harder: str) -> None:
    summary = make_summary(asked=Recipe.of(**asked).model_dump(mode="json"), recipe={"model": {"method": "scratch"}})
    line = next_commands(summary, verdict(summary))[2].line
    assert line == f"tellapart train photos {harder}".strip()
    # What a shell makes of it is what the command line takes, and is the recipe that was meant.
    words = shlex.split(line)[3:]
    given: dict[str, Any] = {}
    names = {f"--{option.name.replace('_', '-')}": option for option in Recipe.options()}
    while words:
        flag, equals, value = words.pop(0).partition("=")
        switch = flag in names and names[flag].type is bool
        name = flag if flag in names else flag.replace("--no-", "--")
        given[names[name].name] = switch if names[name].type is bool else value if equals else words.pop(0)
    changed = {"effort", "budget", "epochs"} | ({"method"} if asked.get("method") == "majority" else set())
    kept = {name: value for name, value in asked.items() if name not in changed}
    meant = Recipe.of(**kept, effort="balanced" if asked.get("effort") == "quick" else "best")
    assert Recipe.of(Recipe.of(**given), budget=None) == meant


@pytest.mark.parametrize(("skill", "place"), [(2.6, 2), (0.0, 0)])
def test_a_run_that_was_asked_to_end_is_gone_on_with(make_summary: SummaryMaker, skill: float, place: int) -> None:
    summary = make_summary(n=40, skill=skill, run="-my runs/1", interrupted=True, asked={"fit": {"effort": "best"}})
    commands = next_commands(summary, verdict(summary))
    assert shlex.split(commands[place].line) == [
        *("tellapart", "train", "photos", "--resume", "--out", "./-my runs/1"),
        *("--recipe", "./-my runs/1/recipe.json"),
    ]
    assert not [command for command in commands if "--effort" in command.line]


def test_uneven_classes_are_named_with_their_numbers(make_summary: SummaryMaker) -> None:
    def rows(*counts: int) -> SplitReport:
        named = zip("ab", counts, strict=True)
        return SplitReport(
            {"n": sum(counts)}, tuple(ClassRow(label, n, n, 0.9, 0.9, 0.8, 1.0, 0.9) for label, n in named)
        )

    splits = make_summary().splits
    uneven = verdict(make_summary(splits={**splits, "train": rows(500, 12)})).cautions
    assert any("500 pictures of" in plain(said) and "12 of" in plain(said) for said in uneven)
    even = verdict(make_summary(splits={**splits, "train": rows(40, 12)})).cautions
    assert not any("uneven" in said for said in even)


def test_a_number_of_two_pictures_is_not_knowable(make_summary: SummaryMaker) -> None:
    few, many = verdict(make_summary(n=2)).score, verdict(make_summary(n=153)).score
    assert few is not None
    assert many is not None
    assert (few.knowable, many.knowable) == (False, True)
    said = verdict(make_summary(splits={"test": one_split(9, 10, 0.555, 0.997)}))
    assert said.headline == "It is better than guessing; how much better, 10 pictures cannot tell."


def test_where_features_by_hand_are_kept_before_networks_the_verdict_says_so_and_by_how_much(
    make_summary: SummaryMaker,
) -> None:
    by_hand = LadderRow("classical", seconds=5.0, accuracy=0.7, chosen=True)
    words = "The log loss of scratch minus that of classical is +0.11 (95% interval +0.02 to +0.20): worse."
    network = LadderRow("scratch", seconds=40.0, accuracy=0.6, words=words)
    said = judged(make_summary, method="classical", ladder=(by_hand, network))
    assert f"Features made by hand were kept before a network. {words}" in said.sure
    left_out = LadderRow("scratch", seconds=0.0, skipped="60 pictures are too few")
    said = judged(make_summary, method="classical", ladder=(by_hand, left_out))
    assert any("without a network. Left out was scratch: 60 pictures are too few." in text for text in said.sure)
    said = judged(make_summary, method="scratch", ladder=(by_hand, network))
    assert not any("by hand" in text for text in said.sure)
