"""What the run ran on, for the record."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from tellapart.images import default_threads

__all__ = ["machine"]

_PACKAGES = ("numpy", "pillow", "onnxruntime", "torch", "timm")


def machine() -> dict[str, object]:
    """Return the processor, the cores that may be used, memory in bytes, the system, versions of what computes."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _processor(),
        "cores": default_threads(),
        "memory_bytes": _memory_bytes(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
