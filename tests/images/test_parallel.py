"""Threads change when work is done, and nothing else."""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from tellapart.images import Preprocess, default_threads, map_in_runs, map_ordered, prepare


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("tellapart")]


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 60), threads=st.integers(1, 5), window=st.none() | st.integers(1, 9))
def test_results_come_in_the_order_of_the_items(count: int, threads: int, window: int | None) -> None:
    def uneven(number: int) -> int:
        time.sleep((number * 7 % 5) / 5000)
        return number * number

    assert list(map_ordered(uneven, range(count), threads, window)) == [n * n for n in range(count)]
    assert not our_threads()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_is_raised_when_its_turn_comes(threads: int) -> None:
    def fail_at_five(number: int) -> int:
        if number >= 5:
            raise KeyError(number)
        return number

    got: list[int] = []
    with pytest.raises(KeyError, match="5"):
        got.extend(map_ordered(fail_at_five, itertools.count(), threads))
    assert got == [0, 1, 2, 3, 4]
    assert not our_threads()


@pytest.mark.parametrize("threads", [1, 3])
def test_items_that_fail_do_so_after_the_results_of_those_before(threads: int) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk is gone")

    got: list[int] = []
    with pytest.raises(OSError, match="gone"):
        got.extend(map_ordered(lambda n: n, items(), threads))
    assert got == [0, 1, 2, 3, 4]
    assert not our_threads()


@pytest.mark.parametrize(("threads", "window"), [(1, None), (3, None), (3, 5), (4, 1)])
def test_no_more_items_are_taken_than_the_window_holds(threads: int, window: int | None) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = map_ordered(lambda n: n, items(), threads, window)
    for given_out in range(1, 50):
        next(results)
        assert taken < given_out + (1 if threads == 1 else window or 4 * threads)
    results.close()


def test_all_threads_work_at_once() -> None:
    meeting = threading.Barrier(3, timeout=20)
    assert list(map_ordered(lambda n: n if meeting.wait() >= 0 else -1, range(9), threads=3)) == list(range(9))


def test_one_thread_means_the_callers_own() -> None:
    assert set(map_ordered(lambda _: threading.get_ident(), range(5), threads=1)) == {threading.get_ident()}


@pytest.mark.parametrize("error", [GeneratorExit, KeyboardInterrupt])
def test_leaving_early_drops_what_was_not_begun_and_leaves_no_thread(error: type[BaseException]) -> None:
    begun = []
    gate = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number > 0:
            gate.wait(20)
        return number

    results = map_ordered(work, itertools.count(), threads=2, window=40)
    assert next(results) == 0
    gate_opener = threading.Timer(0.05, gate.set)
    gate_opener.start()
    if error is GeneratorExit:
        results.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            results.throw(KeyboardInterrupt)
    gate_opener.join()
    assert len(begun) < 10, "forty were waiting"
    assert not our_threads()


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 90), threads=st.integers(1, 4), fails=st.booleans())
def test_results_of_runs_come_one_by_one_in_the_order_of_the_items(count: int, threads: int, fails: bool) -> None:
    def items() -> Iterator[int]:
        yield from range(count)
        if fails:
            raise OSError("the disk is gone")

    got: list[int] = []
    with pytest.raises(OSError, match="gone") if fails else nullcontext():
        got.extend(map_in_runs(lambda run: [n * n for n in run], items(), threads))
    assert got == [n * n for n in range(count)]
    assert not our_threads()


def test_runs_of_quick_items_grow_to_sixteen_and_those_of_slow_ones_stay_single() -> None:
    runs: list[int] = []

    def quick(run: Sequence[int]) -> Sequence[int]:
        runs.append(len(run))
        return run

    def slow(run: Sequence[int]) -> Sequence[int]:
        runs.append(len(run))
        until = time.perf_counter() + 0.13
        while time.perf_counter() < until:
            pass
        return run

    assert len(list(map_in_runs(quick, range(100), threads=1))) == 100
    assert runs == [1, 2, 4, 8, 16, 16, 16, 16, 16, 5]
    runs.clear()
    assert len(list(map_in_runs(slow, range(3), threads=1))) == 3
    assert runs == [1, 1, 1]


def test_runs_that_are_not_asked_for_any_more_leave_no_thread() -> None:
    results = map_in_runs(lambda run: run, itertools.count(), threads=2)
    assert [next(results) for _ in range(20)] == list(range(20))
    results.close()
    assert not our_threads()


def test_nonsense_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="threads"):
        map_ordered(str, [1], threads=0)
    with pytest.raises(ValueError, match="window"):
        map_ordered(str, [1], threads=2, window=0)


def test_default_threads_is_what_this_process_may_use() -> None:
    assert 1 <= default_threads() <= 4096


def test_pictures_are_the_same_with_one_and_four_threads(photo: NDArray[np.uint8]) -> None:
    files = []
    for k in range(24):
        buffer = io.BytesIO()
        Image.fromarray(np.roll(photo[:200, :200], 17 * k, axis=1)).save(buffer, ["JPEG", "PNG", "TIFF", "GIF"][k % 4])
        files.append(buffer.getvalue())
    preprocess = Preprocess(image_size=32, at_least_px=50)
    one, four = (
        np.stack(list(map_ordered(lambda file: prepare(file, preprocess), files, threads))) for threads in (1, 4)
    )
    np.testing.assert_array_equal(one, four)
