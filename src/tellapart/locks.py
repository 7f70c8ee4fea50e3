"""One process at a time: a file that says who holds a folder, and a lock of the system that ends with its holder."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["Holder", "Lock", "claim"]

_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL})


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: process, machine, when the process was made (as the system counts), and since when (UTC)."""

    pid: int
    host: str
    started: str
    since: str

    @property
    def words(self) -> str:
        """The holder, for a sentence."""
        return f"process {self.pid} on {self.host}, since {self.since} UTC"

    def is_gone(self) -> bool:
        """Return whether this machine knows that the holder has ended; of another machine it knows nothing."""
        return self.host == socket.gethostname() and not _is_running(self.pid, self.started)


@dataclasses.dataclass(slots=True)
class Lock:
    """A lock that is held, until `release` or the end of the process."""

    path: Path
    _descriptor: int | None

    def release(self) -> None:
        """Give the lock back; its file goes. A second call does nothing."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            if _is_at(self._descriptor, self.path):
                os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = None


def claim(path: Path) -> Lock | Holder:
    """Take the lock whose file is `path`, or return who holds it. One that a dead process left behind is taken over.

    Where the file system has locks of its own, those decide: they end with the process that holds them, also on other
    machines. Elsewhere the file decides: its process is looked for on this machine, and on another believed to live.
    Raises OSError when the file cannot be written.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            taken = _flocked(descriptor)
            if not _is_at(descriptor, path):  # released, and so removed, between the two lines above
                os.close(descriptor)
                continue
            holder = _holder(descriptor)
            if taken is False or (taken is None and holder is not None and not holder.is_gone()):
                os.close(descriptor)
                return holder or Holder(0, "an unknown machine", "", "a moment ago")
            since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
            ours = Holder(os.getpid(), socket.gethostname(), _started_at(os.getpid()), since)
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(dataclasses.asdict(ours)).encode())
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
        return Lock(path, descriptor)


def _flocked(descriptor: int) -> bool | None:
    """Return whether the system's lock was got; None where there is no such thing."""
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.read(descriptor, 4096)))
    except (ValueError, TypeError):
        return None


def _started_at(pid: int) -> str:
    """Return when a process was made, in clock ticks since this boot; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return f"{fields[19]}@{boot}"
    except (OSError, IndexError):
        return ""


def _is_running(pid: int, started: str) -> bool:
    """Return whether the process that was `started` then still runs; true where nobody can tell."""
    if os.name != "posix" or not isinstance(pid, int) or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    return started in ("", _started_at(pid))
