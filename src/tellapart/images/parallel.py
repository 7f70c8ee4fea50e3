"""Work on threads whose results come in the order of the items, with bounded memory."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

__all__ = ["default_threads", "map_in_runs", "map_ordered"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_LONGEST_RUN = 16
_SHORT_SECONDS, _LONG_SECONDS = 0.06, 0.12  # of a run: below, the next are twice as long, above, half as long

_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, window: int | None = None
) -> Generator[Result, None, None]:
    """Yield `function(item)` for each item, in the order of `items`, worked out by `threads` threads.

    At most `window` items (4 a thread by default) are taken from `items` before the first of their results is handed
    on, so `items` may be endless. An exception for one item is raised when its turn comes, and so is one that `items`
    itself raises; either ends the iteration. When it ends, or the iterator is closed or interrupted, work not begun is
    dropped, and work begun is waited for, so that no thread outlives the iterator. One thread means no thread at all:
    the function runs in the caller's.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    if threads == 1:
        return (function(item) for item in items)
    return _on_threads(function, items, threads, window or 4 * threads)


def map_in_runs(
    function: Callable[[Sequence[Item]], Sequence[Result]], items: Iterable[Item], threads: int
) -> Generator[Result, None, None]:
    """Yield the results of `function`, which takes a few items and returns as many results, in the order of `items`.

    For work in stages that push each other out of a processor's cache, such as decoding and a network: a stage is done
    for some items before the next begins. Runs grow from 1 item to 16 at the most while they take well under a tenth of
    a second, so that results keep coming; how long they are hangs on the clock, and no result may. An exception that
    `function` raises takes the place of all results of its run. Otherwise as `map_ordered`.
    """
    length = 1

    def timed(run: Sequence[Item]) -> Sequence[Result]:
        nonlocal length
        began = time.perf_counter()
        results = function(run)
        took = time.perf_counter() - began
        if took < _SHORT_SECONDS and len(run) == length:
            length = min(2 * length, _LONGEST_RUN)
        elif took > _LONG_SECONDS:
            length = max(1, len(run) // 2)
        return results

    def runs() -> Iterator[list[Item]]:
        iterator = iter(items)
        while True:
            run: list[Item] = []
            try:
                run.extend(islice(iterator, length))
            except Exception:
                if run:
                    yield run
                raise
            if not run:
                return
            yield run

    with closing(map_ordered(timed, runs(), threads, 2 * threads)) as finished:
        for results in finished:
            yield from results


def _on_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, window: int
) -> Generator[Result, None, None]:
    pool = ThreadPoolExecutor(min(threads, window), thread_name_prefix="tellapart")
    waiting: deque[Future[Result]] = deque()
    failure: Exception | None = None
    iterator = iter(items)
    try:
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(pool.submit(function, item))
            del item
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def default_threads() -> int:
    """Return how many processors this process may use: its affinity, and a container's quota where there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text(encoding="ascii").split()
        if quota != "max":
            count = min(count, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return max(1, count)
