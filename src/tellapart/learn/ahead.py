"""Pictures made ready while a backbone is being exported: some cores would be idle meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from tellapart.errors import DataError
from tellapart.images import Preprocess, map_ordered
from tellapart.images.decode import Pixels
from tellapart.learn.embed import ChangedFileError, checked_picture

__all__ = ["Ahead", "Squares"]

Squares = dict[str, Pixels]

_MOST_BYTES = 64 << 20


class Ahead:
    """Squares uint8 [S, S, 3] by digest, made in the background until `stop`, at most 64 MB of them.

    A picture that cannot be made ready is left to whoever asks for it in its turn, and says why. What else there is to
    do comes `afterwards`, a step at a time.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        files: Sequence[Path],
        digests: Sequence[str],
        threads: int,
        afterwards: Iterable[None] = (),
    ) -> None:
        self.preprocess = preprocess
        self.squares: Squares = {}
        self._files, self._digests, self._threads, self._afterwards = files, digests, threads, afterwards
        self._stopped = threading.Event()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def stop(self) -> None:
        """Begin no other picture, and wait until those begun are ready."""
        self._stopped.set()
        self._worker.join()

    def _work(self) -> None:
        most = min(len(self._files), _MOST_BYTES // (3 * self.preprocess.image_size**2))
        for _ in map_ordered(self._make, range(most), self._threads):
            if self._stopped.is_set():
                return
        with contextlib.suppress(Exception):  # whoever needs it does it then, and says why
            for _ in self._afterwards:
                if self._stopped.is_set():
                    return

    def _make(self, index: int) -> None:
        if not self._stopped.is_set():
            with contextlib.suppress(DataError, ChangedFileError):
                digest = self._digests[index]
                self.squares[digest] = checked_picture(self._files[index], digest, self.preprocess)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
