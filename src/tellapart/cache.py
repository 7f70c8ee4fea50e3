"""A store on disk for what is dear to compute, keyed by content: deleting it changes only the time.

Values live in SQLite files, one for each *space* (everything besides the picture that shapes the value: backbone
bytes, preprocessing, version). A key is a picture's sha256, a value some bytes. Several processes may share a cache.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Space", "cache_root", "digest_of"]

_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_LEAST_FREE_BYTES = 1 << 20
_PUT_AT_ONCE, _PUT_BYTES = 64, 1 << 19
_PUT_MANY = "INSERT OR IGNORE INTO entries VALUES " + ",".join(["(?,?)"] * _PUT_AT_ONCE)
_MOST_IDLE = 16  # connections kept open


def digest_of(value: Any) -> str:
    """Return the sha256 (64 hex digits) of a JSON-able value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def cache_root(fallback: Path | None = None) -> Path:
    """Return the folder of caches: `$TELLAPART_CACHE`, `$XDG_CACHE_HOME/tellapart`, `~/.cache/tellapart`.

    The first that can be written is made and returned; else `fallback` (the run folder). Raises OSError when none can.
    """
    named = os.environ.get("TELLAPART_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    choices = []
    problem: OSError | None = None
    if named or base:
        choices.append(Path(named) if named else Path(base or "") / "tellapart")
    else:
        try:
            choices.append(Path.home() / ".cache" / "tellapart")
        except RuntimeError:  # a user without a home
            problem = FileNotFoundError("there is no home folder")
    if fallback is not None:
        choices.append(fallback / "cache")
    for choice in choices:
        try:
            choice.mkdir(parents=True, exist_ok=True)
            if os.access(choice, os.W_OK):
                return choice
        except OSError as error:
            problem = error
    raise problem or PermissionError(f"no cache folder can be written: {', '.join(map(str, choices))}")


class _Idle:
    """Connections that nobody uses now, kept for whoever opens the same file next: a run opens one a dozen times.

    A file that another took the place of, or that was written to meanwhile, is opened anew; so is all in a fork.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Path, tuple[sqlite3.Connection, tuple[int, ...]]] = {}
        self._process = os.getpid()

    def take(self, path: Path) -> sqlite3.Connection | None:
        """Return the connection to a file that is still the one it was."""
        with self._lock:
            if self._process != os.getpid():
                return None
            db, state = self._kept.pop(path, (None, ()))
        if db is not None and state != _state(path):
            db.close()
            return None
        return db

    def keep(self, path: Path, db: sqlite3.Connection) -> None:
        """Keep a connection that is not used any more."""
        with self._lock:
            surplus: sqlite3.Connection | None = db
            if self._process == os.getpid() and (state := _state(path)):
                surplus, _ = self._kept.pop(path, (None, ()))
                self._kept[path] = (db, state)
                if len(self._kept) > _MOST_IDLE:
                    surplus, _ = self._kept.pop(next(iter(self._kept)))
        if surplus is not None:
            surplus.close()

    def close(self) -> None:
        """Close all, side by side: each waits for the disk."""
        with self._lock:
            kept = [db for db, _ in self._kept.values()] if self._process == os.getpid() else []
            self._kept.clear()
        closing = [threading.Thread(target=db.close) for db in kept]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()


def _state(path: Path) -> tuple[int, ...]:
    """Return what tells a file from another in its place, or from itself before it was written to; () without one."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


_IDLE = _Idle()
atexit.register(_IDLE.close)


class Space:
    """One family of cached values; a damaged file is set aside and begun anew."""

    def __init__(self, root: Path, kind: str, key: str) -> None:
        folder = root / kind
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{key[:40]}.sqlite"
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise _as_os_error(error, self._path) from error
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        if (idle := _IDLE.take(self._path)) is not None:
            return idle
        db = sqlite3.connect(self._path, timeout=30, check_same_thread=False, isolation_level=None)
        try:
            # What a new file begins with need not wait for the disk: torn, it is damage, and begun anew.
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(_SCHEMA)
            db.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            db.close()
            raise
        return db

    def get(self, keys: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        """Yield (index into `keys`, value) for every key that is present, in no promised order."""
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            index: dict[str, list[int]] = {}
            for offset, key in enumerate(part):
                index.setdefault(key, []).append(start + offset)
            marks = ",".join("?" * len(index))
            rows = self._db.execute(f"SELECT key, value FROM entries WHERE key IN ({marks})", list(index))
            for key, value in rows:
                for position in index[key]:
                    yield position, value

    def put(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """Store entries in one transaction; a key that is present keeps its value.

        Many at a time: for each statement this thread gives way to others, and has to wait for its turn again. As many
        each time, for a connection keeps what it compiled, and the values with it.
        """
        each = iter(entries)
        try:
            self._db.execute("BEGIN IMMEDIATE")
            while part := list(itertools.islice(each, _PUT_AT_ONCE)):
                if len(part) < _PUT_AT_ONCE or sum(len(value) for _, value in part) > _PUT_BYTES:
                    self._db.executemany("INSERT OR IGNORE INTO entries VALUES (?, ?)", part)
                else:
                    self._db.execute(_PUT_MANY, list(itertools.chain(*part)))
            self._db.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise _as_os_error(error, self._path) from error
            raise

    def close(self) -> None:
        """Give the file back; it is closed when this process ends, or when many others were used since."""
        _IDLE.keep(self._path, self._db)

    def __enter__(self) -> Space:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _as_os_error(error: sqlite3.Error, path: Path) -> OSError:
    """Return what the disk said: SQLite tells of a full one, and of a limit for files, in words of its own."""
    kinds = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_READONLY: errno.EROFS}
    number = kinds.get(_code(error), errno.EIO)
    if number == errno.EIO and (shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES or _files_are_limited()):
        number = errno.ENOSPC
    return OSError(number, f"the cache cannot be written ({error})", str(path))


def _files_are_limited() -> bool:
    """Return whether the system bounds the size of this process's files, which SQLite meets as a failing disk."""
    try:
        import resource
    except ImportError:
        return False
    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
