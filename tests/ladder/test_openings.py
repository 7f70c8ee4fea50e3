"""Looking at a test split is counted, over all the runs that lie beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.data.manifest import Manifest, Row
from tellapart.driving import drive
from tellapart.events import Decision, Steps
from tellapart.ladder.openings import OPENED, count_openings, fingerprint_of_test


def row(number: int, label: str = "a") -> Row:
    return Row(f"{number}.png", label, "test", f"{number:064d}", f"{number:064d}", 8, 8)


def rows(*numbers: int, label: str = "a") -> tuple[Row, ...]:
    return tuple(row(number, label) for number in numbers)


FIRST, SECOND = rows(*range(60)), rows(*range(60, 120))


def opening(run: Path, opened: tuple[Row, ...], kept: bool = True) -> None:
    """Open a split as a run does; its manifest is `kept` beside."""

    def steps() -> Steps[None]:
        yield Decision(OPENED, fingerprint_of_test(opened), "the winner is measured")
        return None

    run.mkdir(parents=True, exist_ok=True)
    drive(steps(), run, None, lambda: None)
    if kept:
        learned = Row("l.png", "test", "train", "9" * 64, "9" * 64, 8, 8)
        Manifest(run, (*opened, learned), ("a", "b", "test")).write(run / "manifest.jsonl")


def test_a_fingerprint_is_of_content_and_label_not_of_order_or_name() -> None:
    assert fingerprint_of_test(rows(1, 2)) == fingerprint_of_test(rows(2, 1))
    assert fingerprint_of_test(rows(1, 2)) != fingerprint_of_test([row(1), row(2, "b")])


@pytest.mark.parametrize("kept", [True, False])
def test_openings_add_up_over_the_runs_side_by_side(tmp_path: Path, kept: bool) -> None:
    assert count_openings(tmp_path / "1", FIRST) == 0
    opening(tmp_path / "1", FIRST, kept)
    opening(tmp_path / "2", SECOND, kept)
    opening(tmp_path / "3", FIRST, kept)
    opening(tmp_path / "3", FIRST, kept)
    assert count_openings(tmp_path / "3", FIRST) == 3


def test_a_split_that_was_corrected_is_the_one_that_it_was(tmp_path: Path) -> None:
    opening(tmp_path / "1", FIRST)
    corrected = {
        "relabelled": rows(*range(60), label="b"),
        "dropped": rows(*range(6, 60)),
        "grown": rows(*range(70)),
        "another": rows(*range(50, 110)),
    }
    counts = {name: count_openings(tmp_path / "2", split) for name, split in corrected.items()}
    assert counts == {"relabelled": 1, "dropped": 1, "grown": 1, "another": 0}


def test_a_torn_line_does_not_stop_the_count(tmp_path: Path) -> None:
    opening(tmp_path / "1", FIRST)
    for name, torn in (("events", '{"name": "test_opened", "val'), ("manifest", '{"split": "test", "sha')):
        with (tmp_path / "1" / f"{name}.jsonl").open("a") as file:
            file.write(torn)
    assert count_openings(tmp_path / "1", FIRST) == 1
    assert count_openings(tmp_path / "1", FIRST[3:]) == 1
