"""Pictures to embeddings by onnxruntime: each picture once, kept on disk by content, the same bits whoever asks.

Decode, resize and network run on the same threads, each picture through the network alone: the bits of a picture's
embedding never depend on its neighbours, and on processors batches gain nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np

from tellapart.cache import Space, digest_of
from tellapart.errors import DataError, PictureError, TellapartError
from tellapart.events import Progress, Steps
from tellapart.images import Preprocess, default_threads, map_in_runs, prepare_guarded
from tellapart.images.decode import Pixels
from tellapart.learn.rungs import FloatArray
from tellapart.runtime.session import Session

__all__ = ["ChangedFileError", "checked_picture", "embed", "gathered", "measure_rate", "missing", "said_of_changed"]

Found = TypeVar("Found")

_VERSION = 1  # part of the cache's key: raise it when an embedding would come out differently
_SAVE_SECONDS = 1.0
_SHOW_SECONDS = 0.1


def embed(
    graph: bytes,
    preprocess: Preprocess,
    files: Sequence[Path],
    digests: Sequence[str],
    cache: Path | None,
    *,
    flip: bool = False,
    threads: int | None = None,
    into: FloatArray | None = None,
    prepared: Mapping[str, Pixels] | None = None,
) -> Steps[FloatArray]:
    """Return float32 [N, D], the graph's `embedding` of each picture, in the order given.

    `digests` are the sha256 of the files' bytes; a value that is cached under its digest is not computed again, and
    when all are cached neither a picture nor the graph is opened. `flip` mirrors the prepared pictures. `into`
    float32 [N, D] is filled and returned where the caller has the memory already. `prepared` holds, by digest, squares
    uint8 [S, S, 3] that were made ready by the same `preprocess` before.
    Raises DataError: `changed_file` when a file is not what its digest says (all such files are named), or a picture's
    own code when it cannot be decoded.
    """
    threads = threads or default_threads()

    def computed(wanted: Sequence[int]) -> Iterator[FloatArray]:
        session = Session(graph)

        def seen(index: int) -> Pixels:
            ready = None if prepared is None else prepared.get(digests[index])
            square = checked_picture(files[index], digests[index], preprocess) if ready is None else ready
            return np.ascontiguousarray(square[:, ::-1]) if flip else square

        def some(indices: Sequence[int]) -> list[FloatArray]:
            squares = [seen(index) for index in indices]
            return [session.run(square[None], ["embedding"])["embedding"][0] for square in squares]

        return map_in_runs(some, wanted, threads)

    space = _space_key(graph, preprocess, flip)
    return (yield from gathered(space, files, digests, cache, computed, into))


def missing(
    graph: bytes, preprocess: Preprocess, digests: Sequence[str], cache: Path | None, *, flip: bool = False
) -> list[int]:
    """Return the positions of the pictures whose embedding is not cached, each digest once."""
    first = {digest: index for index, digest in reversed(list(enumerate(digests)))}
    if cache is not None:
        with Space(cache, "embeddings", _space_key(graph, preprocess, flip)) as space:
            for index, _ in space.get(list(digests)):
                first.pop(digests[index], None)
    return sorted(first.values())


def measure_rate(
    graph: bytes, preprocess: Preprocess, files: Sequence[Path], threads: int | None = None
) -> Steps[float]:
    """Return the wall seconds that one picture takes when many are embedded, measured on those given (some eight).

    One picture more is embedded first, unmeasured, so that loading does not count. A picture that cannot be decoded
    counts with the time it takes to find that out.
    """
    session = Session(graph)
    threads = threads or default_threads()

    def prepared(file: Path) -> Pixels | None:
        try:
            return prepare_guarded(file, preprocess)
        except PictureError:
            return None

    def some(files: Sequence[Path]) -> list[None]:
        for square in [prepared(file) for file in files]:
            if square is not None:
                session.run(square[None], ["embedding"])
        return [None] * len(files)

    some(files[:1])
    began = time.monotonic()
    for done, _ in enumerate(map_in_runs(some, files, threads)):
        yield Progress("measure", done + 1, len(files))
    return (time.monotonic() - began) / len(files)


def gathered(
    space_key: str,
    files: Sequence[Path],
    digests: Sequence[str],
    cache: Path | None,
    computed: Callable[[Sequence[int]], Iterator[FloatArray]],
    into: FloatArray | None,
) -> Steps[FloatArray]:
    """Return float32 [N, D] from the cache and, for what it lacks, from `computed`, which yields a vector a position.

    What was computed is kept about once a second and when the generator is closed, so an interruption loses little.
    """
    total = len(digests)
    store = _Kept(cache, space_key)
    first: dict[str, int] = {}
    copies: list[tuple[int, int]] = []
    for index, digest in enumerate(digests):
        if digest in first:
            copies.append((index, first[digest]))
        else:
            first[digest] = index
    try:
        output = into
        unique = list(first.values())
        found = np.zeros(total, dtype=bool)
        for position, vector in store.get([digests[index] for index in unique]):
            output = np.empty((total, len(vector)), dtype=np.float32) if output is None else output
            output[unique[position]] = vector
            found[unique[position]] = True
        wanted = [index for index in unique if not found[index]]
        done = total - len(wanted)
        yield Progress("embed", done, total)
        shown = time.monotonic()
        if wanted:
            for index, vector in zip(wanted, said_of_changed(computed, wanted, files, digests), strict=True):
                output = np.empty((total, len(vector)), dtype=np.float32) if output is None else output
                output[index] = vector
                store.put(digests[index], vector)
                done += 1
                if time.monotonic() - shown > _SHOW_SECONDS:
                    yield Progress("embed", done, total)
                    shown = time.monotonic()
            yield Progress("embed", total, total)
    finally:
        store.close()
    if output is None:
        return np.zeros((0, 0), dtype=np.float32)
    for index, source in copies:
        output[index] = output[source]
    for start in range(0, total, 4096):
        if not np.isfinite(output[start : start + 4096]).all():
            raise TellapartError(
                "not_finite",
                "The backbone gives embeddings that are not finite numbers.",
                "Choose another --backbone: these weights are damaged, or overflow on these pictures.",
            )
    return output


class ChangedFileError(Exception):
    """A file is not what its digest says."""


def checked_picture(file: Path, digest: str, preprocess: Preprocess) -> Pixels:
    """Read a file once: check its digest, then prepare uint8 [S, S, 3]. `gathered` tells of files that changed."""
    try:
        content = file.read_bytes()
    except OSError:
        raise ChangedFileError from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise ChangedFileError
    try:
        return prepare_guarded(content, preprocess)
    except PictureError as error:
        raise DataError(error.code, f"{file} cannot be embedded: {error.message}", "Remove it and run again.") from None


def said_of_changed(
    computed: Callable[[Sequence[int]], Iterator[Found]],
    wanted: Sequence[int],
    files: Sequence[Path],
    digests: Sequence[str],
) -> Iterator[Found]:
    """Pass on what is computed of `checked_picture`s; at the first that changed, look at all before saying so.

    Raises DataError (`changed_file`).
    """
    vectors = computed(wanted)
    try:
        yield from vectors
    except ChangedFileError:
        changed = [str(files[index]) for index in wanted if not _is_unchanged(files[index], digests[index])]
        shown = ", ".join(changed[:10])
        raise DataError(
            "changed_file",
            f"{len(changed):,} {'file' if len(changed) == 1 else 'files'} changed or went after the scan: {shown}"
            f"{f' and {len(changed) - 10:,} more' if len(changed) > 10 else ''}.",
            "Wait until whatever writes them is done, and run again.",
        ) from None
    finally:
        close = getattr(vectors, "close", None)
        if close is not None:
            close()


def _is_unchanged(file: Path, digest: str) -> bool:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == digest
    except OSError:
        return False


class _Kept:
    """Vectors on disk, written together every second; without a cache folder, nothing is kept."""

    def __init__(self, cache: Path | None, key: str) -> None:
        self._space = None if cache is None else Space(cache, "embeddings", key)
        self._waiting: list[tuple[str, bytes]] = []
        self._saved = time.monotonic()

    def get(self, digests: Sequence[str]) -> Iterator[tuple[int, FloatArray]]:
        if self._space is not None:
            for index, value in self._space.get(digests):
                yield index, np.frombuffer(value, dtype=np.float32)

    def put(self, digest: str, vector: FloatArray) -> None:
        if self._space is None:
            return
        self._waiting.append((digest, vector.tobytes()))
        if time.monotonic() - self._saved > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        assert self._space is not None
        self._space.put(self._waiting)
        self._waiting.clear()
        self._saved = time.monotonic()

    def close(self) -> None:
        if self._space is not None:
            try:
                if self._waiting:
                    self._save()
            finally:
                self._space.close()


def _space_key(graph: bytes, preprocess: Preprocess, flip: bool) -> str:
    # Another onnxruntime or another kind of processor may round differently.
    made_by = ["onnxruntime", version("onnxruntime"), platform.machine()]
    shape = dataclasses.asdict(preprocess)
    return digest_of([hashlib.sha256(graph).hexdigest(), shape, flip, made_by, _VERSION])
