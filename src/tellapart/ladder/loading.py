"""What takes long to import, imported while the run goes on telling that time passes, and so hears of signals."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from tellapart.events import Progress, Steps
from tellapart.learn.rungs import Fitted

__all__ = ["finetune_and_timm", "loaded", "scratch_itself"]

T = TypeVar("T")

_LOOK_SECONDS = 0.1


def loaded(load: Callable[[], T]) -> Steps[T]:
    """Return what `load()` returns, or raise what it raises; it works in a thread of its own.

    An interruption does not wait for it: the thread ends by itself, at the latest before Python does.
    """
    began, thread = time.monotonic(), ThreadPoolExecutor(1)
    try:
        found = thread.submit(load)
        while not wait([found], _LOOK_SECONDS).done:
            yield Progress("load", int(time.monotonic() - began), None, "seconds")
        return found.result()
    finally:
        thread.shutdown(wait=False)


def finetune_and_timm() -> Callable[..., Steps[Fitted]]:
    """Import torch and timm, which it will need, and return `finetune`."""
    from tellapart.learn.torch_export import import_timm
    from tellapart.learn.torch_finetune import finetune

    import_timm()
    return finetune


def scratch_itself() -> Callable[..., Steps[Fitted]]:
    """Import torch, and return `scratch`."""
    from tellapart.learn.torch_scratch import scratch

    return scratch
