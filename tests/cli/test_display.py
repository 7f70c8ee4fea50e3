"""Who pipes a run reads few plain lines; who watches it on a terminal sees bars that go away."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TextColumn

from tellapart.cli.display import PlainLines, _bars, _OnTerminal
from tellapart.events import Decision, Epoch, Event, Note, Progress, RungEnded, StageBegan, StageEnded

RUN: list[Event] = [
    StageBegan("embed"),
    *(Progress("embed", done, 1000) for done in range(0, 1001, 10)),
    StageEnded("embed", 10.0),
    Decision("resize", "crop", "most pictures are near 4:3"),
    RungEnded("probe", 7.1, 0.977, 0.08, 44, chosen=True),
    RungEnded("scratch", 0.0, skipped="no time is left"),
    Note("warning", "class 'x\x1b[2J' has one picture"),
]


def lines_of(events: list[Event], seconds_between: float) -> list[str]:
    stream = io.StringIO()
    now = 0.0

    def clock() -> float:
        return now

    show = PlainLines(stream, clock)
    for event in events:
        show(event)
        now += seconds_between
    return stream.getvalue().splitlines()


def test_a_fast_stage_is_one_line() -> None:
    lines = lines_of(RUN, 0.001)
    assert lines[0] == "embed  1,000 pictures in 10.0 s, 100 a second"
    assert lines[1] == "  resize: crop (most pictures are near 4:3)"
    assert lines[2] == "probe  97.7% of 44 validation pictures right, log loss 0.080, 7.1 s, kept"
    assert lines[3] == "scratch  left out: no time is left"
    assert lines[4].startswith("warning: class")
    assert len(lines) == 5


def test_a_slow_stage_tells_its_progress_once_in_five_seconds() -> None:
    lines = [line for line in lines_of(RUN, 0.5) if " of 1,000" in line]
    assert len(lines) == 10
    assert "a second" in lines[-1]


def test_epochs_are_told_once_in_five_seconds() -> None:
    epochs: list[Event] = [Epoch(n, n, 0.1, 0.5, 0.8, 0.6, 0.7, 1.0) for n in range(20)]
    assert len(lines_of(epochs, 1.0)) == 3


def test_what_starts_to_count_anew_has_a_rate_of_its_own() -> None:
    first: list[Event] = [Progress("embed", done, 200) for done in range(0, 201, 10)]
    second: list[Event] = [Progress("embed", done, 2000) for done in range(0, 2001, 100)]
    lines = lines_of([*first, *second], 1.0)
    assert lines[-1] == "embed  1,900 of 2,000 pictures, 100 a second"


def test_time_that_passes_has_no_rate() -> None:
    export: list[Event] = [
        StageBegan("export"),
        *(Progress("export", passed, None, "seconds") for passed in range(12)),
        StageEnded("export", 12.0),
    ]
    assert lines_of(export, 1.0) == ["export  5 seconds", "export  10 seconds", "export  12.0 s"]


def test_a_stage_that_counts_several_things_ends_with_its_pictures_or_with_what_took_longest() -> None:
    scan: list[Event] = [
        StageBegan("scan"),
        Progress("scan", 400, None, "files"),
        *(Progress("scan", done, 300) for done in range(0, 301, 10)),
        *(Progress("scan", done, 100) for done in range(0, 101, 10)),
        *(Progress("scan", done, 60, "look-alikes") for done in range(61)),
        StageEnded("scan", 50.0),
    ]
    assert lines_of(scan, 1.0)[-1] == "scan  400 pictures in 50.0 s, 8 a second"
    train: list[Event] = [
        StageBegan("scratch"),
        *(Progress("scratch", done, 4, "trials") for done in range(5)),
        *(Progress("scratch", done, 30, "steps") for done in range(31)),
        StageEnded("scratch", 60.0),
    ]
    assert lines_of(train, 1.0)[-1] == "scratch  30 steps in 60.0 s, 0.5 a second"


def test_a_rate_is_of_what_was_seen_to_be_done_and_a_new_end_on_the_way_changes_nothing() -> None:
    steps: list[Event] = [StageBegan("scratch")]
    steps += [Progress("scratch", done, 100, "steps") for done in range(50, 70)]  # fifty were done in a run before
    steps += [Progress("scratch", done, 90, "steps") for done in range(70, 91)]
    rates = [line.rpartition(", ")[2] for line in lines_of(steps, 1.0) if "of" in line]
    assert set(rates) == {"1 a second"}
    ended = [*steps, StageEnded("scratch", 40.0)]
    assert lines_of(ended, 1.0)[-1] == "scratch  90 steps in 40.0 s, 1 a second"


def test_what_cannot_be_counted_is_under_way() -> None:
    assert lines_of([Progress("fit", 0, None, "steps")] * 8, 1.0) == ["fit  under way"]


def test_values_of_decisions_are_written_as_a_person_would() -> None:
    values = [0.31622776, True, ["majority", "probe"], {"min_prob": 0.5240544, "max_novelty": 0.99}]
    assert lines_of([Decision("name", value, "because") for value in values], 1.0) == [
        "  name: 0.3162 (because)",
        "  name: yes (because)",
        "  name: majority, probe (because)",
        "  name: min_prob 0.5241, max_novelty 0.99 (because)",
    ]


def test_control_characters_do_not_reach_the_stream() -> None:
    assert "\x1b" not in "".join(lines_of(RUN, 1.0))


def test_a_terminal_shows_a_bar_that_goes_and_lines_that_stay() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    with Bars(TextColumn("{task.description}"), console=console, auto_refresh=False, transient=True) as bars:
        show = _OnTerminal(bars)
        for event in RUN[:50]:
            show(event)
        assert [task.description for task in bars.tasks] == ["embed"]
        assert bars.tasks[0].total == 1000
        for event in RUN[50:]:
            show(event)
        assert bars.tasks == []
    assert "resize: crop" in stream.getvalue()
    assert "\x1b[2J'" not in stream.getvalue()


def test_a_bar_says_how_many_a_second_and_how_long_it_will_take() -> None:
    stream, now = io.StringIO(), [0.0]
    with _bars(Console(file=stream, force_terminal=True, width=100)) as bars:
        show = _OnTerminal(bars, lambda: now[0])
        show(StageBegan("embed"))
        for done in (0, 500):
            show(Progress("embed", done, 1000))
            now[0] += 2.0
        bars.refresh()
    assert "500/1000" in stream.getvalue()
    assert "pictures, 250 a second" in stream.getvalue()
