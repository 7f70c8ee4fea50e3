"""A zip or tar archive of pictures, unpacked once into the cache: nothing in it is trusted, nothing half done stays."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tellapart import files
from tellapart.data.archive_members import Limits, members
from tellapart.data.listing import shown, split_of
from tellapart.data.table_rows import SUFFIXES
from tellapart.data.walk import is_ignored
from tellapart.errors import DataError, InputError
from tellapart.events import Progress, Steps
from tellapart.locks import Lock, claim

__all__ = ["Unpacked", "is_archive", "unpacked", "unpacked_among"]

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tbz")
_CHUNK = 1 << 20
_TIMES = 2  # what an archive of pictures, which hardly shrink, unpacks to, at a guess
_WAIT_SECONDS = 0.2


@dataclasses.dataclass(frozen=True, slots=True)
class Unpacked:
    """Where an archive lies (`top`), and its pictures, which is deeper where all is in one folder.

    `name` is what that `folder` is called to a person: `pets.zip`, or `pets.zip/pets`.
    """

    top: Path
    folder: Path
    name: str


def is_archive(path: Path) -> bool:
    """Return whether a file has the name of an archive that `unpacked` takes."""
    return path.name.lower().endswith(_SUFFIXES) and path.is_file()


def unpacked(archive: Path, cache: Path, limits: Limits | None = None) -> Steps[Unpacked]:
    """Unpack an archive into `cache`, unless its content is there already, and return where its pictures are.

    It appears there whole or not at all. Raises DataError for an archive that is damaged, encrypted or beyond `limits`,
    that holds anything but plain files and folders, or names that lead out of it or are one name on some disk: it is
    then refused as a whole. Full disks are told as such.
    """
    try:
        key = yield from _digest(archive)
        place = cache / "archives" / key[:40]
        place.parent.mkdir(parents=True, exist_ok=True)
        if not _is_whole(place):
            yield from _unpack(archive, place, limits or Limits())
    except OSError as error:
        if files.is_full(error):
            raise files.no_room(cache / "archives", _TIMES * archive.stat().st_size) from None
        raise DataError(
            "unreadable_archive",
            f"{shown(str(archive))} cannot be unpacked into {shown(str(cache))} ({error.strerror or error}).",
            "Check both; $TELLAPART_CACHE names another folder for the cache.",
        ) from None
    top = folder = place / "files"
    name = str(archive)
    while (inner := _only_folder(folder)) is not None:
        folder, name = folder / inner, f"{name}/{inner}"
    return Unpacked(top, folder, name)


def unpacked_among(names: Iterable[str], cache: Path) -> Steps[tuple[dict[str, str], dict[str, InputError]]]:
    """Unpack the archives among names of files; return where each lies now, and why others were refused."""
    places: dict[str, str] = {}
    refused: dict[str, InputError] = {}
    for name in names:
        if is_archive(Path(name)):
            try:
                places[name] = str((yield from unpacked(Path(name), cache)).top)
            except InputError as error:
                refused[name] = error
    return places, refused


def _digest(archive: Path) -> Steps[str]:
    digest, done, size = hashlib.sha256(), 0, archive.stat().st_size
    with archive.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            done += len(chunk)
            yield Progress("read archive", done >> 20, size >> 20, "MB")
    return digest.hexdigest()


def _unpack(archive: Path, place: Path, limits: Limits) -> Steps[None]:
    lock = yield from _held(place.with_name(f"{place.name}.lock"))
    try:
        if _is_whole(place):  # unpacked by another process meanwhile
            return
        for left in place.parent.glob(f".{place.name}.*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            count, size = yield from _extract(archive, temporary / "files", limits)
            files.write_json(temporary / "members.json", {"archive": archive.name, "files": count, "bytes": size})
            shutil.rmtree(place, ignore_errors=True)
            os.rename(temporary, place)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    finally:
        lock.release()


def _held(path: Path) -> Steps[Lock]:
    """Return the lock, once nobody else holds it."""
    while not isinstance(lock := claim(path), Lock):
        yield Progress("wait for another process to unpack", 0, None, "files")
        time.sleep(_WAIT_SECONDS)
    return lock


def _extract(archive: Path, folder: Path, limits: Limits) -> Steps[tuple[int, int]]:
    """Write every member below `folder`; return how many files, and how many bytes in all."""
    folder.mkdir()
    count = size = 0
    for member in members(archive, limits):
        target = folder.joinpath(*member.parts)
        if member.chunks is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file:
            for chunk in member.chunks:
                file.write(chunk)
                size += len(chunk)
                yield Progress("unpack", count, None, "files")
        count += 1
    if not count:
        raise DataError(
            "empty_archive",
            f"The archive {shown(str(archive))} holds no files.",
            "Put pictures into it, or leave it out.",
        )
    yield Progress("unpack", count, count, "files")
    return count, size


def _is_whole(place: Path) -> bool:
    """Return whether all is still there: caches are tidied by programs that know nothing of each other."""
    try:
        about = json.loads((place / "members.json").read_text(encoding="utf-8"))
        count = size = 0
        for folder, _, names in os.walk(place / "files"):
            count += len(names)
            size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
        return bool(about["files"] == count and about["bytes"] == size)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _only_folder(folder: Path) -> str | None:
    """Return the one folder in a folder that holds nothing else, where it is a wrapping and not a class or a split."""
    with os.scandir(folder) as found:
        entries = [entry for entry in found if not is_ignored(entry.name)]
    if len(entries) != 1 or not entries[0].is_dir() or split_of(entries[0].name) is not None:
        return None
    with os.scandir(entries[0].path) as found:
        shown_ones = [entry for entry in found if not is_ignored(entry.name)]
    wraps = any(entry.is_dir() or entry.name.lower().endswith(SUFFIXES) for entry in shown_ones)
    return entries[0].name if wraps else None
