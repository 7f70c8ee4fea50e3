"""Looking at a test split is counted, over all the runs that lie beside each other."""

from __future__ import annotations

from pathlib import Path

from tellapart.data.manifest import Row
from tellapart.driving import drive
from tellapart.events import Decision, Steps
from tellapart.ladder.openings import OPENED, count_openings, fingerprint_of_test


def row(number: int, label: str = "a") -> Row:
    return Row(f"{number}.png", label, "test", f"{number:064d}", f"{number:064d}", 8, 8)


def opening(run: Path, fingerprint: str) -> None:
    def steps() -> Steps[None]:
        yield Decision(OPENED, fingerprint, "the winner is measured")
        return None

    run.mkdir(parents=True, exist_ok=True)
    drive(steps(), run, None, lambda: None)


def test_a_fingerprint_is_of_content_and_label_not_of_order_or_name() -> None:
    rows = [row(1), row(2)]
    assert fingerprint_of_test(rows) == fingerprint_of_test(rows[::-1])
    assert fingerprint_of_test(rows) != fingerprint_of_test([row(1), row(2, "b")])


def test_openings_add_up_over_the_runs_side_by_side(tmp_path: Path) -> None:
    assert count_openings(tmp_path / "1", "f1") == 0
    opening(tmp_path / "1", "f1")
    opening(tmp_path / "2", "f2")
    opening(tmp_path / "3", "f1")
    opening(tmp_path / "3", "f1")
    assert count_openings(tmp_path / "3", "f1") == 3


def test_a_torn_line_does_not_stop_the_count(tmp_path: Path) -> None:
    opening(tmp_path / "1", "f1")
    with (tmp_path / "1" / "events.jsonl").open("a") as file:
        file.write('{"name": "test_opened", "val')
    assert count_openings(tmp_path / "1", "f1") == 1
