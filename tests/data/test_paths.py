"""Paths by the million: in the order of `sorted`, found again at any place, beyond a few of them not in memory."""

from __future__ import annotations

import tempfile
import threading
import tracemalloc
from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.data.paths import Paths, Sorting

NAMES = st.text(st.characters() | st.sampled_from("/\0\1\2\3\udc80\ud800\ue000\U0001f600"), max_size=5)


@given(st.lists(NAMES, max_size=400), st.integers(1, 300), st.integers(1, 150), NAMES, st.data())
def test_paths_are_those_that_were_put_in_the_order_of_sorted(
    names: list[str], run: int, kept: int, asked: str, data: st.DataObject
) -> None:
    sorting = Sorting(run)
    for name in names:
        sorting.append(name)
    assert len(sorting) == len(names)
    expected, paths = sorted(names), Paths(sorting, kept)
    assert list(paths) == expected == paths
    assert [paths[place] for place in range(len(names))] == expected
    assert [paths[-1 - place] for place in range(len(names))] == expected[::-1]
    place = data.draw(st.slices(len(names)))
    assert paths[place] == expected[place]
    start = data.draw(st.integers(0, len(names)))
    stop = data.draw(st.integers(start, len(names)))
    assert list(paths.between(start, stop)) == expected[start:stop]
    assert (bisect_left(paths, asked), bisect_right(paths, asked)) == (
        bisect_left(expected, asked),
        bisect_right(expected, asked),
    )
    with pytest.raises(IndexError):
        paths[len(names)]


@pytest.mark.parametrize("kept", [64, 10**9])
def test_places_are_read_by_several_threads_at_once(kept: int) -> None:
    names = [f"{number:06d}" for number in range(5000)]
    paths = Paths(names, kept)
    wrong: list[int] = []

    def look(step: int) -> None:
        wrong.extend(place for place in range(0, 5000, step) if paths[place] != names[place])
        if list(paths) != names:
            wrong.append(step)

    threads = [threading.Thread(target=look, args=(step,)) for step in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_few_paths_make_no_file_and_many_stay_in_memory_where_none_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    names = [f"{number:06d}" for number in range(1000)]
    assert Paths(names)._spool._file is None
    assert Paths(names, kept=100) == names


def test_of_a_path_on_disk_next_to_nothing_is_in_memory() -> None:
    tracemalloc.start()
    paths = Paths((f"some/folder/{number:08d}.jpg" for number in range(50_000)), kept=1000)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(paths) == 50_000
    assert kept / 50_000 < 4
    assert peak / 50_000 < 20
