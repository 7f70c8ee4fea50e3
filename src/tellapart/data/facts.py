"""What is to be known of each picture: its sha256, its size, whether it decodes, what tells its pixels from others'.

Everything is kept in the cache by content, so that a picture is decoded once and never again while its bytes stay.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tellapart.cache import Space, digest_of
from tellapart.data.disk import PASSING, Stamp, patiently, stamp_of
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, map_ordered
from tellapart.images.examine import PictureFacts, Refusal, pack, parted, unpack
from tellapart.images.guard import Answer, Guard, memory_for
from tellapart.images.guarded import MAX_FILE_BYTES
from tellapart.images.sniff import HEAD_BYTES, sniff

__all__ = ["VERSION", "PictureFacts", "Refusal", "gather", "read_file", "space_key"]

VERSION = 4

_BATCH = 16
_HELD_BYTES = 8 << 20
_KEPT_AT_ONCE = 512
_TRANSIENT = frozenset({"decode_oom", "decode_timeout", "decoder_crash", "unreadable", "permission"})
_Fresh = tuple[str, bytes, bytes]  # sha256, record, thumbnail


def gather(
    root: Path,
    paths: Iterable[str],
    policy: DecodePolicy,
    cache: Path,
    threads: int,
    take: Callable[[PictureFacts | Refusal, Stamp], None],
    total: int | None = None,
) -> Steps[None]:
    """Hand the facts of each of `total` files on to `take`, in order, with its stamp (see `disk.stamp_of`) before it
    was read.

    A file is read once; its bytes are dropped before the next are read, and nothing of it is kept here. Thumbnails are
    worked out on the way, and go to a space of their own (`thumbnails` reads it).
    """
    key = space_key(policy)
    done = 0
    fresh: list[_Fresh] = []
    with Space(cache, "facts", key) as space, Space(cache, "thumbnails", key) as thumbnails:
        reader = _Reader(root, policy, space, thumbnails)
        batches = _batches(paths)
        kept = time.monotonic()
        waits = int(threads > 1)  # one thread more: while one reads files, its child has nothing to do
        results = map_ordered(reader.facts_of, batches, threads + waits)
        try:
            for facts, stamps, entries in results:
                for fact, stamp in zip(facts, stamps, strict=True):
                    take(fact, stamp)
                done += len(facts)
                fresh += entries
                if len(fresh) >= _KEPT_AT_ONCE or (fresh and time.monotonic() - kept > 1.0):
                    reader.keep(fresh)
                    fresh, kept = [], time.monotonic()
                yield Progress("scan", done, total)
        except BaseException:
            reader.guard.stop()
            raise
        finally:
            # Closing waits for the threads, which use the space; what is known by then stays known.
            results.close()
            reader.keep(fresh)


def _batches(paths: Iterable[str]) -> Iterator[list[str]]:
    each = iter(paths)
    while batch := list(itertools.islice(each, _BATCH)):
        yield batch


def space_key(policy: DecodePolicy) -> str:
    """Return the key of the spaces that hold what this decode policy gives."""
    return digest_of({"version": VERSION, "decode": dataclasses.asdict(policy)})


def read_file(path: str) -> bytes | Refusal:
    """Return a file's bytes; only the first ones when they begin no picture or the file is too large to be one."""
    try:
        return patiently(_read, path)
    except PermissionError:
        return Refusal("permission", "It may not be read.")
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return Refusal("path_too_long", "Its path is too long for this system.")
        if error.errno in PASSING:
            return Refusal("disk_error", f"The disk, or the network that it is on, fails ({error.strerror}).")
        return Refusal("unreadable", f"It cannot be read ({error.strerror}).")


def _read(path: str) -> bytes | Refusal:
    with open(path, "rb", buffering=0) as file:
        content = file.read(HEAD_BYTES)
        if len(content) < HEAD_BYTES or sniff(content) is None:
            return content
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            return Refusal("too_many_bytes", f"It has {size:,} bytes; the most is {MAX_FILE_BYTES:,}.")
        return content + file.readall()


class _Reader:
    """Reads, looks up and decodes; shared by threads."""

    def __init__(self, root: Path, policy: DecodePolicy, space: Space, thumbnails: Space) -> None:
        self._root = str(root)
        self._policy = policy
        self._space = space
        self._thumbnails = thumbnails
        self._lock = threading.Lock()
        self.guard = Guard()

    def facts_of(self, paths: Sequence[str]) -> tuple[list[PictureFacts | Refusal], list[Stamp], list[_Fresh]]:
        """Return facts for each path, in order, its stamp before that, and the records that the cache does not hold."""
        facts: list[PictureFacts | Refusal] = []
        stamps: list[Stamp] = []
        fresh: list[_Fresh] = []
        held: list[tuple[int, str, bytes]] = []
        size = 0
        for path in paths:
            place = os.path.join(self._root, path)
            stamps.append(stamp_of(place))
            content = read_file(place)
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
        return facts, stamps, fresh

    def _settle(
        self,
        held: Sequence[tuple[int, str, bytes]],
        facts: list[PictureFacts | Refusal],
        fresh: list[_Fresh],
    ) -> None:
        with self._lock:
            known = dict(self._space.get([sha256 for _, sha256, _ in held]))
        unknown = []
        for number, (position, sha256, content) in enumerate(held):
            fact = unpack(sha256, known[number]) if number in known else None
            if fact is None:
                unknown.append((position, sha256, content))
            else:
                facts[position] = fact
        if not unknown:
            return
        answers = self.guard.run(
            "tellapart.images.examine:examined",
            [content for _, _, content in unknown],
            {"policy": dataclasses.asdict(self._policy)},
            memory_for(self._policy.max_pixels),
        )
        for (position, sha256, _), answer in zip(unknown, answers, strict=True):
            fact, thumbnail = _fact(sha256, answer)
            facts[position] = fact
            if not (isinstance(fact, Refusal) and fact.code in _TRANSIENT):
                fresh.append((sha256, pack(fact), thumbnail))

    def keep(self, entries: Sequence[_Fresh]) -> None:
        """Store records and thumbnails."""
        if entries:
            self._thumbnails.put((sha256, thumbnail) for sha256, _, thumbnail in entries if thumbnail)
            with self._lock:
                self._space.put((sha256, record) for sha256, record, _ in entries)


_PENDING = Refusal("unreadable", "It was not read.")


def _fact(sha256: str, answer: Answer) -> tuple[PictureFacts | Refusal, bytes]:
    """Return what a guard's answer says of a picture, and the thumbnail."""
    if answer.error is None:
        record, thumbnail = parted(answer.value)
        fact = unpack(sha256, record)
        assert fact is not None
    else:
        fact, thumbnail = Refusal(answer.error.code, str(answer.error)), b""
    if answer.noise and isinstance(fact, Refusal):
        fact = dataclasses.replace(fact, note=f"{fact.note} The decoder said: {answer.noise}")
    elif answer.noise and isinstance(fact, PictureFacts):
        fact = dataclasses.replace(fact, notes=(*fact.notes, f"decoder_noise: {answer.noise}"))
    return fact, thumbnail
