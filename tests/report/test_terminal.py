from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from tellapart.report import LadderRow, Summary
from tellapart.report.terminal import show
from tellapart.report.verdict import verdict
from tellapart.report.words import plain

SummaryMaker = Callable[..., Summary]


def printed(summary: Summary, width: int = 100, terminal: bool = False) -> str:
    out = io.StringIO()
    show(
        summary, Console(file=out, width=width, force_terminal=terminal, color_system="truecolor" if terminal else None)
    )
    return out.getvalue()


def test_the_terminal_shows_the_verdict_the_ladder_and_the_next_commands(make_summary: SummaryMaker) -> None:
    text = printed(make_summary())
    lines = [line.split() for line in text.splitlines()]
    assert "It tells them apart" in text
    assert "accuracy 96.1% on 153 test pictures, 95% interval 91.7 to 98.5%, guessing 50.3%" in text
    assert ["probe", "mobilenetv2_100", "7.1", "s", "98%", "88", "to", "99%", "0.083", "kept"] in lines
    assert "\nscratch was left out: the budget leaves 4 s, and it needs 20\n" in text
    assert "  tellapart predict photos-runs/1/bundle new_pictures/\n" in text
    assert "  photos-runs/1/report.html\n" in text


@pytest.mark.parametrize("width", [60, 72, 80, 100])
def test_it_fits_the_terminal_and_keeps_its_numbers(make_summary: SummaryMaker, width: int) -> None:
    ladder = (
        LadderRow("majority", None, 0.04, 440, 0.238, 2.16),
        LadderRow("finetune", "convnext_tiny.in12k_ft_in1k", 3599.0, 440, 0.903, 0.357, chosen=True),
        LadderRow("scratch", skipped="the budget leaves 4 s, and it needs 20"),
    )
    text = printed(make_summary(ladder=ladder, fit_words="Overfitting: much.", test_openings=2), width, terminal=True)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert all(len(line.rstrip()) <= width for line in bare.splitlines() if not line.startswith("  "))
    for fact in ("59\u00a0min 59\u00a0s", "90.3%", "87.1 to 92.8%", "kept", "convnext_tin"):
        assert fact in bare


@pytest.mark.parametrize("width", range(60, 101))
def test_no_rung_is_broken_over_two_lines(make_summary: SummaryMaker, width: int) -> None:
    ladder = (
        LadderRow("majority", None, 0.04, 341, 0.238, 2.287),
        LadderRow("finetune", "mobilenetv2_100", 509.0, 341, 0.924, 0.294, chosen=True),
    )
    text = printed(make_summary(ladder=ladder), width)
    assert {"majority", "finetune"} <= set(text.split())


def test_piped_each_sentence_is_one_line(make_summary: SummaryMaker) -> None:
    summary = make_summary(n=40, skill=1.0, test_openings=2)
    said = verdict(summary)
    lines = printed(summary, width=40).splitlines()
    assert plain(said.headline) in lines
    assert f"! {plain(said.cautions[0])}" in lines


def test_no_color_is_respected(make_summary: SummaryMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = printed(make_summary(method="majority"), terminal=True)
    assert not re.search(r"\x1b\[[0-9;]*\b3[0-7]", text)


def test_a_command_is_never_broken_over_two_lines(make_summary: SummaryMaker) -> None:
    bundle = "a/very/long/path" * 10
    assert f"  tellapart predict {bundle} new_pictures/\n" in printed(make_summary(bundle=bundle), width=40)


def test_a_name_can_neither_style_the_terminal_nor_move_its_cursor(make_summary: SummaryMaker) -> None:
    name = "[bold red]x[/]\x1b[2J\x07\u202e"
    summary = make_summary(
        (name, "bees"),
        bundle=name,
        data=name,
        report=name,
        ladder=(LadderRow(name, name, 1.0, 9, 0.5, 0.5, words=name), LadderRow(name, skipped=name)),
    )
    text = printed(summary)
    assert not [c for c in text if ord(c) < 32 and c != "\n"]
    assert "\u202e" not in text
    assert "[bold red]x[/]␛[2J␇‹U+202E›" in text


def test_the_tone_is_a_colour_on_a_terminal_and_nothing_where_it_is_piped(make_summary: SummaryMaker) -> None:
    assert "\x1b[1;31mDo not use it" in printed(make_summary(method="majority"), terminal=True)
    assert "\x1b" not in printed(make_summary(method="majority"))


def test_many_cautions_are_cut_short_with_a_count(make_summary: SummaryMaker) -> None:
    summary = make_summary(
        n=40, skill=1.0, test_openings=2, fit_words="Overfitting: much.", counts={"used": 10, "excluded": 90}
    )
    assert "more in the report" in printed(summary)


@pytest.mark.parametrize("case", ["guessing", "nothing held out", "no better than guessing"])
def test_where_it_is_not_fit_for_use_the_terminal_begins_where_the_report_does(
    make_summary: SummaryMaker, case: str
) -> None:
    summary = {
        "guessing": lambda: make_summary(method="majority"),
        "nothing held out": lambda: make_summary(splits={}),
        "no better than guessing": lambda: make_summary(n=40, skill=0.0),
    }[case]()
    said = verdict(summary)
    assert said.tone == "poor"
    lines = printed(summary).splitlines()
    advised = [lines.index(plain(sentence)) for sentence in said.advice]
    commands = [line for line in lines if line.startswith("  tellapart ")]
    assert commands[0] == f"  tellapart check {summary.data}"
    assert "--effort best" not in commands[0]
    assert max(advised) < lines.index(commands[0])
    assert any("dd pictures" in line or "dd labelled pictures" in line for line in lines)
