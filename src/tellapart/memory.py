"""Memory: telling that the machine had too little of it, by whatever library noticed, and giving back what is free."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

from tellapart.errors import InputError

__all__ = ["give_back", "out_of_memory"]

# What libraries raise, in words of theirs, where Python would raise MemoryError: torch on the processor and on a card,
# onnxruntime, OpenBLAS through numpy.
_WORDS = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "bad allocation",
    "std::bad_alloc",
    "failed to allocate memory",
    "unable to allocate",
)


def out_of_memory(error: BaseException, what: str) -> InputError | None:
    """Return `out_of_memory` for an error that says so, with what there is and what is free in bytes; else None.

    `what` is what asked for too much: it begins the sentence.
    """
    if not isinstance(error, MemoryError):
        words = str(error).lower()
        if not isinstance(error, RuntimeError) or not any(told in words for told in _WORDS):
            return None
    total, free = _pages("SC_PHYS_PAGES"), _pages("SC_AVPHYS_PAGES")
    there = f"{free:,} of {total:,} bytes are free" if total and free else "how much there is is not known"
    return InputError(
        "out_of_memory",
        f"{what} needed more memory than this machine or a limit on it gives ({there}).",
        "End other programs, choose a smaller --image-size or --backbone, or give fewer --threads.",
    )


def give_back() -> None:
    """Return to the system what this process has freed but the GNU C library keeps for later; elsewhere do nothing."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _pages(name: str) -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(name)
    except (ValueError, OSError, AttributeError):
        return 0
