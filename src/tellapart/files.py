"""Files that are never half there: written to a temporary name, fsynced, renamed, the folder fsynced."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tellapart.errors import InputError
from tellapart.lazy import Lazy

__all__ = [
    "KeyTwiceError",
    "each_once",
    "finite",
    "free_bytes",
    "is_full",
    "named",
    "new_folder",
    "no_room",
    "room_told",
    "sync_folder",
    "write_bytes",
    "write_json",
    "write_parts",
    "write_text",
]


def named(path: str | Path) -> Path:
    """Return what a person named as a Path. Raises InputError for an empty text, which a Path would take for `.`."""
    if path == "":
        raise InputError(
            "empty_argument", "The name of the data is empty text.", "Write what was meant, or . for here."
        )
    return Path(path)


class KeyTwiceError(ValueError):
    """A JSON object says one thing twice; the text names the key."""


def each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, as `object_pairs_hook`; raises KeyTwiceError rather than let the last of a key win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise KeyTwiceError(f"the key {twice!r} twice")
    return found


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part."""
    write_parts(path, (content,))


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write `parts`, one after the other, as `write_bytes` does; they are never in memory all at once."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def write_text(path: Path, content: str) -> None:
    """Write `content` as UTF-8 (lone surrogates from odd file names survive), like `write_bytes`."""
    write_bytes(path, content.encode("utf-8", errors="surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; a number that is not finite becomes null.

    The text is written as it is made, and a `Lazy` in `value`, of what JSON can hold, one item after the other: neither
    is in memory as a whole.
    """
    encoder = json.JSONEncoder(indent=1, ensure_ascii=True, allow_nan=False, default=_Anew.of)
    parts = encoder.iterencode(finite(value))
    write_parts(path, itertools.chain(_ascii(parts), (b"\n",)))


class _Anew(list[Any]):
    """A list to the encoder, which goes through it once; its items are made meanwhile."""

    @classmethod
    def of(cls, items: Any) -> _Anew:
        if not isinstance(items, Lazy):
            raise TypeError(f"{type(items).__name__} is nothing that JSON can hold")
        found = cls()
        found._items = items
        return found

    _items: Lazy[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def _ascii(parts: Iterable[str]) -> Iterator[bytes]:
    """Yield a text in pieces of some size, since an encoder gives it in words."""
    each = iter(parts)
    while piece := "".join(itertools.islice(each, 4096)):
        yield piece.encode("ascii")


def finite(value: Any) -> Any:
    """Return `value` with every non-finite float in it, at any depth, replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder beside `path` that becomes `path` when the block ends well, and goes when it does not.

    An older folder at `path` is replaced.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        for file in sorted(temporary.iterdir()):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        sync_folder(temporary)
        os.chmod(temporary, 0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            os.rename(path, old / path.name)
            os.rename(temporary, path)
            shutil.rmtree(old)
        else:
            os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


@contextlib.contextmanager
def room_told(folder: Path, needed_bytes: int) -> Iterator[None]:
    """Tell what a full disk raises as one InputError (`no_space`) that says how much room is needed in `folder`."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise no_room(folder, needed_bytes) from None


def free_bytes(folder: Path) -> int | None:
    """Return what is free on the disk of a folder, which need not exist yet; None where that is not known."""
    place = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return None


def no_room(folder: Path, needed_bytes: int) -> InputError:
    """Return the error for a disk that is too full: where, what is free, what is needed."""
    room = free_bytes(folder)
    free = "room unknown" if room is None else f"{room:,} bytes free"
    return InputError(
        "no_space",
        f"There is not enough room for {folder}: {free}, about {needed_bytes:,} needed.",
        "Free some, or name another place with --out, and with $TELLAPART_CACHE for what is kept between runs.",
    )


def is_full(error: OSError) -> bool:
    """Return whether there was no room: on the disk, in the user's share of it, or under a limit for files."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync_folder(path: Path) -> None:
    """Ask the disk to keep the names in a folder; does nothing where the system has no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
