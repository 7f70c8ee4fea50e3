"""How this process keeps memory that it has used: training asks for the same large blocks again and again."""

from __future__ import annotations

import contextlib
import ctypes
import sys

__all__ = ["keep_large_blocks"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h of the GNU C library
_LARGEST = 1 << 30


def keep_large_blocks() -> None:
    """Let large blocks come from the heap and stay there, instead of being mapped and zeroed by the system each time.

    Blocks above 32 MB are mapped anew otherwise, a page fault for every 4 KB: half of the time of training a network
    on a processor. Threads that are begun later share the heap, since one of their own holds no block above 64 MB.
    Other C libraries are left as they are.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_MMAP_THRESHOLD, _LARGEST)
            library.mallopt(_ARENA_MAX, 1)
            library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST - 1)
