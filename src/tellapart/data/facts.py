"""What is to be known of each picture: its sha256, its size, whether it decodes, what tells its pixels from others'.

Everything is kept in the cache by content, so that a picture is decoded once and never again while its bytes stay.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tellapart.cache import Space, digest_of
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, map_ordered
from tellapart.images.examine import PictureFacts, Refusal, examine, pack, unpack
from tellapart.images.sniff import HEAD_BYTES, sniff

__all__ = ["VERSION", "PictureFacts", "Refusal", "gather", "read_file"]

VERSION = 1

_MAX_FILE_BYTES = 1 << 30
_BATCH = 16
_HELD_BYTES = 8 << 20
_KEPT_AT_ONCE = 512
_TRANSIENT = frozenset({"decode_oom", "unreadable", "permission"})


def gather(
    root: Path, paths: Sequence[str], policy: DecodePolicy, cache: Path, threads: int
) -> Steps[list[PictureFacts | Refusal]]:
    """Return the facts of each file, in order. A file is read once; its bytes are dropped before the next are read."""
    key = digest_of({"version": VERSION, "decode": dataclasses.asdict(policy)})
    found: list[PictureFacts | Refusal] = []
    fresh: list[tuple[str, bytes]] = []
    with Space(cache, "facts", key) as space:
        reader = _Reader(root, policy, space)
        batches = [paths[start : start + _BATCH] for start in range(0, len(paths), _BATCH)]
        kept = time.monotonic()
        results = map_ordered(reader.facts_of, batches, threads)
        try:
            for facts, entries in results:
                found += facts
                fresh += entries
                if len(fresh) >= _KEPT_AT_ONCE or (fresh and time.monotonic() - kept > 1.0):
                    reader.keep(fresh)
                    fresh, kept = [], time.monotonic()
                yield Progress("scan", len(found), len(paths))
        finally:
            # Closing waits for the threads, which use the space; what is known by then stays known.
            with contextlib.suppress(AttributeError):
                results.close()  # type: ignore[attr-defined]
            reader.keep(fresh)
    return found


def read_file(path: str) -> bytes | Refusal:
    """Return a file's bytes; only the first ones when they begin no picture or the file is too large to be one."""
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read(HEAD_BYTES)
            if len(content) < HEAD_BYTES or sniff(content) is None:
                return content
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_FILE_BYTES:
                return Refusal("too_many_bytes", f"It has {size:,} bytes; the most is {_MAX_FILE_BYTES:,}.")
            return content + file.readall()
    except PermissionError:
        return Refusal("permission", "It may not be read.")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return Refusal("path_too_long", "Its path is too long for this system.")
        return Refusal("unreadable", f"It cannot be read ({error.strerror}).")


class _Reader:
    """Reads, looks up and decodes; shared by threads."""

    def __init__(self, root: Path, policy: DecodePolicy, space: Space) -> None:
        self._root = str(root)
        self._policy = policy
        self._space = space
        self._lock = threading.Lock()

    def facts_of(self, paths: Sequence[str]) -> tuple[list[PictureFacts | Refusal], list[tuple[str, bytes]]]:
        """Return facts for each path, in order, and the records that the cache does not hold yet."""
        facts: list[PictureFacts | Refusal] = []
        fresh: list[tuple[str, bytes]] = []
        held: list[tuple[int, str, bytes]] = []
        size = 0
        for path in paths:
            content = read_file(os.path.join(self._root, path))
            if isinstance(content, Refusal):
                facts.append(content)
                continue
            held.append((len(facts), hashlib.sha256(content).hexdigest(), content))
            facts.append(_PENDING)
            size += len(content)
            if size > _HELD_BYTES:
                self._settle(held, facts, fresh)
                held, size = [], 0
        self._settle(held, facts, fresh)
        return facts, fresh

    def _settle(
        self,
        held: Sequence[tuple[int, str, bytes]],
        facts: list[PictureFacts | Refusal],
        fresh: list[tuple[str, bytes]],
    ) -> None:
        with self._lock:
            known = dict(self._space.get([sha256 for _, sha256, _ in held]))
        for number, (position, sha256, content) in enumerate(held):
            fact = unpack(sha256, known[number]) if number in known else None
            if fact is None:
                fact = examine(content, sha256, self._policy)
                if not (isinstance(fact, Refusal) and fact.code in _TRANSIENT):
                    fresh.append((sha256, pack(fact)))
            facts[position] = fact

    def keep(self, entries: Sequence[tuple[str, bytes]]) -> None:
        """Store records."""
        if entries:
            with self._lock:
                self._space.put(entries)


_PENDING = Refusal("unreadable", "It was not read.")
