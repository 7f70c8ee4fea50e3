from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from tellapart.report import LadderRow, Summary
from tellapart.report.terminal import show

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
    assert ["probe,", "mobilenetv2_100", "7.1", "s", "98%", "0.083", "kept"] in lines
    assert "left out: the budget leaves 4 s" in text
    assert "  tellapart predict photos-runs/1/bundle new_pictures/\n" in text
    assert "  photos-runs/1/report.html\n" in text


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
