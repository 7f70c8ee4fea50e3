"""The members of a zip or tar archive, one after the other, each held against what an honest archive would do."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import errno
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tellapart.data.listing import quoted, shown
from tellapart.errors import DataError

__all__ = ["Limits", "Member", "members"]

_CHUNK = 1 << 20
_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_NAME, _LONGEST_PATH = 255, 3000  # bytes; the cache's own path comes on top
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_LARGEST_EXTENDED = 1 << 20
_DIRECTORY_BYTES_A_MEMBER = 512
_DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, ValueError, OverflowError, OSError),
)
_UTF8_NAME = 0x800
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_NEXT = "Unpack it yourself if you trust it, and give the folder."


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold. `ratio` bounds unpacked bytes by the archive's own, from `free_bytes` on."""

    members: int = 1_000_000
    bytes: int = 1 << 40
    ratio: int = 100
    free_bytes: int = 10 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A file (`chunks` are its bytes, to be taken before the next member) or a folder (`chunks` is None)."""

    parts: tuple[str, ...]
    chunks: Iterator[bytes] | None


def members(archive: Path, limits: Limits) -> Iterator[Member]:
    """Yield the members of an archive, in its order. What they hold is counted as it comes; headers are not believed.

    Raises DataError: `damaged_archive`, `encrypted_archive`, `archive_too_large`, `archive_name` (leads out of the
    archive, or cannot be a name), `archive_link` (a link, a device, a pipe), `archive_duplicate` (two members with one
    name, or names that are one on some disk), `archive_overlap`.
    """
    check = _Check(archive, limits)
    with check.damage_told(), archive.open("rb") as file:
        head = file.read(512)
        file.seek(0)
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            yield from _zip(file, check)
        else:
            yield from _tar(file, head, check)


class _Check:
    """Counts what an archive holds, and refuses it once that is too much or a name is unfit."""

    def __init__(self, archive: Path, limits: Limits) -> None:
        self._name = shown(str(archive))
        self._limits = limits
        self._members = 0
        self._bytes = 0
        packed = archive.stat().st_size
        self.most_directory_bytes = _DIRECTORY_BYTES_A_MEMBER * limits.members
        self.most_bytes = min(limits.bytes, max(limits.free_bytes, limits.ratio * packed))
        self._files: set[str] = set()
        self._folders: dict[str, str] = {}

    @contextlib.contextmanager
    def damage_told(self) -> Iterator[None]:
        """Tell what zipfile, tarfile and the decompressors raise as one DataError; the disk's own errors pass."""
        try:
            yield
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # a seek to where nothing is
                raise
            said = shown(str(error)).strip() or type(error).__name__
            what = f"is damaged, or no zip or tar archive ({said[:200]})"
            raise self.refused("damaged_archive", what, "Fetch or make it anew.") from None

    def refused(self, code: str, what: str, next: str = _NEXT) -> DataError:
        """Return the error that refuses the archive."""
        return DataError(code, f"The archive {self._name} {what}.", next)

    def member(self, name: str, *, folder: bool) -> tuple[str, ...]:
        """Count a member, and return the parts of its path; none for the archive's own root."""
        self._members += 1
        if self._members > self._limits.members:
            raise self.refused("archive_too_large", f"has more than {self._limits.members:,} members")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        fault = (
            "leads out of it"
            if name.startswith("/") or ".." in parts or _DRIVE.match(name)
            else "holds a backslash"
            if "\\" in name
            else "holds a zero byte"
            if "\0" in name
            else "is too long"
            if len(os.fsencode(name)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts)
            else "is empty"
            if not parts and not folder
            else None
        )
        if fault is not None:
            raise self.refused("archive_name", f"holds the name {quoted(name[:200])}, which {fault}")
        self._distinct(parts, folder=folder)
        return parts

    def _distinct(self, parts: tuple[str, ...], *, folder: bool) -> None:
        """Refuse a name that is another's on a disk that ignores case, or the spelling of Unicode."""
        for depth in range(1, len(parts) + folder):
            path = "/".join(parts[:depth])
            key = _folded(path)
            if self._folders.setdefault(key, path) != path or key in self._files:
                raise self._twice(path, self._folders[key])
        if not folder:
            path = "/".join(parts)
            key = _folded(path)
            if key in self._files or key in self._folders:
                raise self._twice(path, self._folders.get(key, path))
            self._files.add(key)

    def _twice(self, path: str, other: str) -> DataError:
        beside = "" if other == path else f", beside {quoted(other[:200])}"
        return self.refused(
            "archive_duplicate",
            f"holds {quoted(path[:200])} twice, or once more in another spelling of case or Unicode{beside}",
            "Unpack it yourself, see to the two, and give the folder.",
        )

    def unpacked(self, count: int) -> None:
        """Count bytes that came out of the archive."""
        self._bytes += count
        if self._bytes > self.most_bytes:
            limit = f"{self.most_bytes:,} bytes, the most for its size"
            raise self.refused("archive_too_large", f"unpacks to more than {limit}")


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _zip(file: IO[bytes], check: _Check) -> Iterator[Member]:
    _bound_directory(file, check)
    with zipfile.ZipFile(file) as packed:
        infos = packed.infolist()
        if any(info.flag_bits & _ENCRYPTED for info in infos):
            raise check.refused(
                "encrypted_archive", "is encrypted", "Unpack it with its password, and give the folder."
            )
        _refuse_overlap(infos, packed.start_dir, check)
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            name = _zip_name(info)
            folder = name.endswith("/") or kind == stat.S_IFDIR
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise check.refused("archive_link", f"holds {quoted(name[:200])}, a link or a device")
            parts = check.member(name, folder=folder)
            if not folder:
                with packed.open(info) as opened:
                    yield Member(parts, _read(opened, check, counted=True))
            elif parts:
                yield Member(parts, None)


def _zip_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name as it is written; many programs write UTF-8 without saying so."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8_NAME:
        try:
            return name.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return name


def _bound_directory(file: IO[bytes], check: _Check) -> None:
    """Refuse a directory of members that would fill the memory; zipfile reads all of it at once."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16) - 128))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    stated = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if stated == 0xFFFFFFFF:
        at = tail.rfind(b"PK\x06\x06")
        stated = int.from_bytes(tail[at + 40 : at + 48], "little") if at >= 0 else 0
    file.seek(0)
    if stated > check.most_directory_bytes:
        raise check.refused("archive_too_large", f"has a directory of {stated:,} bytes")


def _refuse_overlap(infos: list[zipfile.ZipInfo], end: int, check: _Check) -> None:
    """Refuse members that share bytes: D. Fifield, "A better zip bomb", WOOT 2019."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in ordered[1:]), end]
    for info, limit in zip(ordered, starts, strict=False):  # an archive without members has an end all the same
        if info.header_offset + 30 + len(info.orig_filename) + info.compress_size > limit:
            raise check.refused("archive_overlap", f"has members that overlap, such as {quoted(info.filename[:200])}")


class _TarInfo(tarfile.TarInfo):
    """A header whose extensions, which tarfile takes into memory whole, are of a sane size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _TarInfo:
        info = super().frombuf(buf, encoding, errors)
        if info.type in _EXTENDED and info.size > _LARGEST_EXTENDED:
            raise tarfile.ReadError(f"an extended header of {info.size:,} bytes")
        return info


def _tar(file: IO[bytes], head: bytes, check: _Check) -> Iterator[Member]:
    stream = _Stream(_decompressed(file, head), check)
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_TarInfo, errors="surrogateescape") as packed:
        while (info := packed.next()) is not None:
            packed.members = []  # type: ignore[attr-defined]  # or it would keep them all
            if not (info.isdir() or info.isreg()) or info.issparse():
                raise check.refused("archive_link", f"holds {quoted(info.name[:200])}, a link, a device or a pipe")
            parts = check.member(info.name, folder=info.isdir())
            if info.isdir():
                if parts:
                    yield Member(parts, None)
                continue
            opened = packed.extractfile(info)
            assert opened is not None, "a regular file"
            yield Member(parts, _read(opened, check))
        ended = packed.offset
    stream.drain()
    # tarfile takes a broken header for the end; and nothing at all for one, too.
    if stream.last_byte > ended or stream.position < ended + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends early, or a header is broken")


def _decompressed(file: IO[bytes], head: bytes) -> IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(file)
    return file


class _Stream(io.RawIOBase):
    """What tarfile reads: counted as it is decompressed, with the place of the last byte that is not zero."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile, check: _Check) -> None:
        self._file = file
        self._check = check
        self.position = 0
        self.last_byte = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        if content := len(chunk.rstrip(b"\0")):
            self.last_byte = self.position + content
        self.position += len(chunk)
        self._check.unpacked(len(chunk))
        return chunk

    def drain(self) -> None:
        """Read to the end, where the checksum of a compressed archive is."""
        while self.read(_CHUNK):
            pass


def _read(opened: IO[bytes], check: _Check, *, counted: bool = False) -> Iterator[bytes]:
    with check.damage_told():
        while chunk := opened.read(_CHUNK):
            if counted:
                check.unpacked(len(chunk))
            yield chunk
