"""A picture that crashes, hangs or eats memory harms nothing but itself: its neighbours and this process go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tellapart.errors import TellapartError
from tellapart.images import guard
from tellapart.images.guard import Answer, Guard, memory_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits are POSIX's")

HOSTILE = '''
import ctypes, os, signal, time
from tellapart.errors import PictureError

def act(picture, **options):
    """Do what the bytes say, as a decoder that is broken by them would."""
    words = picture.decode().split(":")
    if words[0] == "noise":
        for _ in range(int(words[2])):
            try:
                os.write(2, words[1].encode())
            except OSError:
                break
    elif words[0] == "noisy crash":
        os.write(2, b"assertion failed in decode.c")
        os.abort()
    elif words[0] == "crash":
        ctypes.string_at(0)
    elif words[0] == "crash once":
        if not os.path.exists(words[1]):
            open(words[1], "w").close()
            ctypes.string_at(0)
    elif words[0] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif words[0] == "hang":
        while True:
            pass
    elif words[0] == "wait":
        time.sleep(1000)
    elif words[0] == "eat":
        bytearray(1 << 40)
    elif words[0] == "refuse":
        raise PictureError("corrupt", "It is damaged.", "Remove it.")
    elif words[0] == "fault":
        raise ZeroDivisionError("an own fault")
    elif words[0] == "large":
        return bytes(int(words[1]))
    return picture.upper()
'''


@pytest.fixture(autouse=True)
def _hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give children of this test, and no others, a module of hostile functions, and little time."""
    (tmp_path / "hostile.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(guard, "PICTURE_SECONDS", 0.3)
    guard._end_idle()
    yield
    guard._end_idle()


def run(*pictures: str) -> list[Answer]:
    return Guard().run("hostile:act", [picture.encode() for picture in pictures], {}, memory_for(1_000_000))


def told(answers: list[Answer]) -> list[str]:
    return [answer.error.code if answer.error else answer.value.decode() for answer in answers]


def test_answers_come_in_order() -> None:
    assert told(run("a", "refuse", "b")) == ["A", "corrupt", "B"]
    assert run() == []
    assert len(run("large:5000000")[0].value) == 5_000_000


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        ("crash", "decoder_crash"),
        ("noisy crash", "decoder_crash"),
        ("hang", "decode_timeout"),
        ("eat", "decode_oom"),
        ("killed", "decode_oom"),
    ],
)
def test_what_one_picture_does_is_said_of_it_alone(hostile: str, code: str) -> None:
    assert told(run("a", "b", hostile, "c", hostile, "d")) == ["A", "B", code, "C", code, "D"]
    assert told(run(hostile)) == [code]
    assert told(run("still here")) == ["STILL HERE"]


def test_a_refusal_is_one_sentence_and_a_next_step() -> None:
    (answer,) = run("noisy crash")
    assert answer.error is not None
    assert answer.error.message == "The picture makes its decoder crash (Aborted)."
    assert answer.error.next
    assert answer.noise == "assertion failed in decode.c"


def test_one_that_neither_works_nor_answers_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_SILENT_SECONDS", 0.5)
    assert told(run("a", "wait", "b")) == ["A", "decode_timeout", "B"]


def test_a_death_that_does_not_come_again_does_not_count(tmp_path: Path) -> None:
    assert told(run("a", f"crash once:{tmp_path / 'crashed'}", "b"))[::2] == ["A", "B"]
    assert "decoder_crash" not in told(run(f"crash once:{tmp_path / 'again'}"))


def test_noise_is_caught_and_attached_to_its_picture(capfd: pytest.CaptureFixture[str]) -> None:
    quiet, noisy, after, flood = run("a", "noise:bad\ttag\n\x1b:2", "b", "noise:0123456789:300000")
    assert (quiet.noise, noisy.noise, after.noise) == ("", "bad tag ?bad tag ?", "")
    assert 100 < len(flood.noise) < 1000
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_the_function_costs_one_picture() -> None:
    good, bad = run("a", "fault")
    assert good.value == b"A"
    assert bad.error is not None
    assert bad.error.code == "decoder_crash"
    assert "ZeroDivisionError: an own fault" in bad.error.message


def test_threads_share_a_guard_and_idle_children_are_used_again() -> None:
    shared = Guard()
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        found[number] = told(shared.run("hostile:act", [b"%d" % number] * 3, {}, memory_for(1_000_000)))

    for _ in range(2):
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {number: [str(number)] * 3 for number in range(4)}
        assert 1 <= len(guard._idle) <= 4


def test_stopping_ends_what_is_being_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PICTURE_SECONDS", 100.0)
    shared = Guard()
    caught: list[TellapartError] = []

    def work() -> None:
        try:
            shared.run("hostile:act", [b"hang"], {}, memory_for(1_000_000))
        except TellapartError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not shared._busy:
        pass
    shared.stop()
    thread.join(30)
    assert [error.code for error in caught] == ["stopped"]


def test_where_no_child_can_be_started_the_work_is_done_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no_python"))
    assert told(run("a", "refuse", "b")) == ["A", "corrupt", "B"]


def test_a_module_in_the_user_s_folder_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "numpy.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(elsewhere)
    shared = Guard()
    shared.run("hostile:act", [b"a"], {}, memory_for(1_000_000))
    assert guard._idle, "a child did it"


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in /proc")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_child_outlives_its_parent(ending: signal.Signals, tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from tellapart.images.guard import Guard, _Child, memory_for
import threading
guard = Guard()
work = lambda picture: guard.run("hostile:act", [picture], {{}}, memory_for(1_000_000))
work(b"idle")
threads = [threading.Thread(target=work, args=(b"hang",), daemon=True) for _ in range(2)]
[thread.start() for thread in threads]
while len(guard._busy) < 2: pass
print(*(child._process.pid for child in guard._busy), flush=True)
threads[0].join()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        assert len(children) == 2
        parent.send_signal(ending)
        parent.wait(20)
    deadline = time.monotonic() + 20
    while any(map(_runs, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_runs, children))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_children_that_were_prepared_take_the_first_orders() -> None:
    guard.prepare_children()
    prepared = {child._process.pid for child in guard._idle}
    assert prepared
    assert told(run("a", "refuse")) == ["A", "corrupt"]
    assert {child._process.pid for child in guard._idle} == prepared


def test_a_prepared_child_that_died_costs_nothing() -> None:
    guard.prepare_children()
    for child in guard._idle:
        child._process.kill()
        child._process.wait()
    assert told(run("a", "b")) == ["A", "B"]
