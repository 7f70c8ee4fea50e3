"""`predict` streams a line for each picture, in the form asked for."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tellapart import api
from tellapart.cli import display
from tellapart.cli.display import PlainLines
from tellapart.errors import PictureError
from tellapart.runtime.predictor import Failure


@dataclass(frozen=True)
class Answer:
    """What the API yields, as far as the command line looks at it."""

    line: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return self.line


def answer(path: str, label: str = "ants", prob: float = 0.973, word: str = "label") -> Answer:
    top = [{"label": label, "prob": prob}]
    return Answer({"path": path, "label": label, "prob": prob, "top": top, "novelty": 0.1, "answer": word})


def failure(path: str) -> Failure:
    return Failure(path, PictureError("truncated", "The picture ends too early.", "Fetch it again."))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Answer | Failure]:
    """What the API will answer: the pictures themselves are its business, not that of the command line."""
    planned: list[Answer | Failure] = []
    monkeypatch.setattr(api, "predict", lambda bundle, pictures, threads=None: iter(planned), raising=False)
    return planned


def test_a_line_for_each_picture(tellapart, answers: list[Answer | Failure]) -> None:
    answers += [answer("a.jpg"), answer("b.jpg", word="unsure", prob=0.6), answer("c.jpg", word="unknown", prob=0.5)]
    ran = tellapart("predict", "bundle", "a.jpg")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "a.jpg: ants 97.3%",
        "b.jpg: unsure, perhaps ants 60.0%",
        "c.jpg: unknown, nearest ants 50.0%",
    ]


def test_json_lines_keep_the_order_and_go_on_after_a_bad_file(tellapart, answers: list[Answer | Failure]) -> None:
    answers += [answer("a\n\udcff.jpg"), failure("b.jpg"), answer("c.jpg")]
    ran = tellapart("predict", "bundle", "a.jpg", "--json")
    assert ran.code == 0
    assert ran.err == ""
    assert ran.lines == [planned.as_json() for planned in answers]


def test_where_results_go_elsewhere_it_is_told_how_many_there_are(
    tellapart, answers: list[Answer | Failure], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(display, "PlainLines", lambda stream: PlainLines(stream, lambda: float(next(ticks))))
    answers += [answer(f"{number}.jpg") for number in range(12)]
    ran = tellapart("predict", "bundle", "new/", "--json")
    assert len(ran.lines) == 12
    assert ran.err.splitlines() == ["predict  6 pictures, 1 a second", "predict  11 pictures, 1 a second"]


def test_a_bad_file_is_told_on_standard_error(tellapart, answers: list[Answer | Failure]) -> None:
    answers += [failure("b\x1b.jpg"), answer("c.jpg")]
    ran = tellapart("predict", "bundle", "x")
    assert ran.code == 0
    assert ran.err == "b\\x1b.jpg: The picture ends too early. Fetch it again. [truncated]\n"
    assert ran.out == "c.jpg: ants 97.3%\n"


@pytest.mark.parametrize("flags", [[], ["--json"], ["--csv", "-"]])
def test_only_when_no_picture_could_be_answered_it_is_a_failure(
    tellapart, answers: list[Answer | Failure], flags
) -> None:
    for name, said in (("a.jpg", "The one picture could not"), ("b.jpg", "None of the 2 pictures could")):
        answers.append(failure(name))
        ran = tellapart("predict", "bundle", "x", *flags)
        assert ran.code == 2
        last = ran.err.splitlines()[-1]
        assert last.startswith(f"tellapart: {said} be answered. ")
        assert last.endswith("give other pictures. [none_answered]")


def test_csv_on_standard_output(tellapart, answers: list[Answer | Failure]) -> None:
    answers += [answer("=a.jpg", label="a,b"), failure("c.jpg")]
    ran = tellapart("predict", "bundle", "x", "--csv", "-")
    header, first, second = csv.reader(io.StringIO(ran.out))
    assert header == ["path", "label", "prob", "answer", "novelty", "error"]
    assert first == ["'=a.jpg", "a,b", "0.973", "label", "0.1", ""]
    assert second == ["c.jpg", "", "", "", "", "The picture ends too early."]


def test_csv_in_a_file_beside_the_lines(tellapart, answers: list[Answer | Failure], tmp_path: Path) -> None:
    answers += [answer("a\udcff.jpg")]
    ran = tellapart("predict", "bundle", "x", "--json", "--csv", tmp_path / "table.csv")
    assert len(ran.lines) == 1
    assert (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()[1].startswith("a\\udcff.jpg,ants,")


def test_a_table_that_cannot_be_written_is_the_users_to_mend(
    tellapart, answers: list[Answer | Failure], tmp_path: Path
) -> None:
    ran = tellapart("predict", "bundle", "x", "--csv", tmp_path / "absent" / "table.csv")
    assert ran.code == 2


HEADER = b"path,label,prob,answer,novelty,error\n"


@pytest.mark.parametrize(
    "name",
    [
        *("notes.txt", "labels.csv", "looks.csv", "bundle/card.json", "bundle/new.csv", "folder", "link.csv"),
        *("photos/1.jpg", "photos/new.JPG", "asked", "photos/*.png"),
    ],
)
def test_a_table_takes_the_place_of_nothing_but_a_table_of_predict(
    tellapart, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    def never(*args: Any, **options: Any) -> Iterator[Any]:
        raise AssertionError("refused before any picture is looked at")

    monkeypatch.setattr(api, "predict", never)
    monkeypatch.chdir(tmp_path)
    for folder in ("bundle", "folder", "photos"):
        (tmp_path / folder).mkdir()
    (tmp_path / "looks.csv").write_bytes(HEADER.replace(b"error", b"remark"))
    for file in ("notes.txt", "labels.csv", "bundle/card.json", "photos/1.jpg", "photos/2.jpg"):
        (tmp_path / file).write_text("dear")
    (tmp_path / "asked").write_bytes(HEADER)
    (tmp_path / "link.csv").symlink_to("notes.txt")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ran = tellapart("predict", "bundle", "photos/2.jpg", "asked", "--csv", name)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"tellapart: --csv {name} ")
    assert ran.err.count("\n") == 1
    assert "answers.csv" in ran.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("earlier", [None, b"", HEADER + b"old.jpg,bees,0.9,label,0.5,\n"])
def test_an_earlier_table_is_replaced_when_the_new_one_is_whole(
    tellapart, answers: list[Answer | Failure], tmp_path: Path, earlier: bytes | None
) -> None:
    answers += [answer("a.jpg")]
    table = tmp_path / "table.csv"
    if earlier is not None:
        table.write_bytes(earlier)
    assert tellapart("predict", "bundle", "x", "--csv", table).code == 0
    assert table.read_bytes() == HEADER + b"a.jpg,ants,0.973,label,0.1,\n"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_run_that_breaks_off_leaves_the_earlier_table(tellapart, monkeypatch, tmp_path: Path) -> None:
    def breaks(*args: Any, **options: Any) -> Iterator[Answer]:
        yield answer("a.jpg")
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "predict", breaks)
    table = tmp_path / "table.csv"
    table.write_bytes(HEADER + b"old\n")
    assert tellapart("predict", "bundle", "x", "--csv", table).code == 130
    assert table.read_bytes() == HEADER + b"old\n"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.skipif(os.name != "posix", reason="/dev/null is that of POSIX")
def test_a_table_may_go_to_a_device(tellapart, answers: list[Answer | Failure]) -> None:
    answers += [answer("a.jpg")]
    assert tellapart("predict", "bundle", "x", "--csv", os.devnull).code == 0
    assert not os.path.isfile(os.devnull)


def test_one_standard_output_is_not_asked_for_two_things(tellapart) -> None:
    ran = tellapart("predict", "bundle", "x", "--json", "--csv", "-")
    assert ran.code == 2
    assert "standard output" in ran.json["error"]["message"]


def test_pictures_are_sorted_by_their_answer(tellapart, answers: list[Answer | Failure], tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    names = [str(tmp_path / "new" / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    for name in names:
        Path(name).write_bytes(b"picture")
    words = ("label", "unsure", "unknown")
    answers += [answer(name, word=word) for name, word in zip(names, words, strict=True)]
    ran = tellapart("predict", "bundle", tmp_path / "new", "--sort-into", tmp_path / "sorted")
    assert ran.code == 0
    found = sorted(str(p.relative_to(tmp_path / "sorted")) for p in (tmp_path / "sorted").rglob("*.jpg"))
    assert found == ["_unknown/c.jpg", "_unsure/b.jpg", "ants/a.jpg"]


STREAM = """
import sys
sys.path.insert(0, {here!r})
import test_predict
from tellapart import api, cli

def endless(bundle, pictures, threads=None):
    while True:
        yield test_predict.answer("a.jpg")

api.predict = endless
sys.exit(cli.main(["predict", "bundle", "x", *sys.argv[1:]]))
"""


@pytest.fixture
def endless() -> Iterator[Any]:
    """Start a `predict` that never ends by itself."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> subprocess.Popen[bytes]:
        program = STREAM.format(here=str(Path(__file__).parent))
        started.append(
            subprocess.Popen([sys.executable, "-c", program, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("flags", [[], ["--json"], ["--csv", "-"]])
def test_a_reader_that_leaves_ends_it_quietly(endless, flags: list[str]) -> None:
    process = endless(*flags)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_an_interrupt_ends_it_without_a_trace(endless) -> None:
    process = endless()
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
