"""What the benchmarks share: real pictures unpacked, commands timed, a table and one JSON object printed."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Ran:
    """One command: wall seconds, the largest resident memory of it and its children in bytes, what it printed."""

    seconds: float
    peak_bytes: int
    out: str

    @property
    def json(self) -> Any:
        """The object on the last line of what was printed."""
        return json.loads(self.out.splitlines()[-1])


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder of the archives of pictures")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights", help="folder of pretrained backbones")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tellapart-benchmarks")
    parser.add_argument("--repeat", type=int, default=3, help="how often everything is run")
    return parser


def unpacked(name: str, data: Path, work: Path) -> Path:
    """Return the folder of a set of pictures, unpacked into `work` if it is not there yet."""
    folder = work / "data" / name
    if not folder.is_dir():
        archives = sorted(data.glob(f"{name}*.tar*"))
        if not archives:
            raise SystemExit(f"{data} holds no archive {name}*.tar*; name its folder with --data")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary, tarfile.open(archives[0]) as file:
            file.extractall(temporary, filter="data")
            [top] = Path(temporary).iterdir()
            top.rename(folder)
    return folder


def subset(source: Path, folder: Path, each: Mapping[str, int]) -> Path:
    """Return `folder` with links to the first `each[split]` pictures of every class in the splits of `source`."""
    if not folder.is_dir():
        for split, number in each.items():
            for label in sorted(path for path in (source / split).iterdir() if path.is_dir()):
                target = folder / split / label.name
                target.mkdir(parents=True)
                for picture in sorted(label.iterdir())[:number]:
                    os.link(picture, target / picture.name)
    return folder


def drawn(source: Path, folder: Path, each: int, seed: int) -> Path:
    """Return `folder` with links to `each` training pictures of every class, drawn by `seed`, and all test pictures."""
    if not folder.is_dir():
        for split in ("train", "test"):
            for label in sorted(path for path in (source / split).iterdir() if path.is_dir()):
                target = folder / split / label.name
                target.mkdir(parents=True)
                names = sorted(path.name for path in label.iterdir())
                for name in random.Random(seed).sample(names, each) if split == "train" else names:
                    os.link(label / name, target / name)
    return folder


def ran(command: Sequence[str | Path], env: Mapping[str, str | Path] | None = None, cwd: Path | None = None) -> Ran:
    """Run a command to its end as from a shell. Raises SystemExit with its last words when it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=err,
            cwd=cwd,
            env=_environment(env or {}),
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise SystemExit(f"{command[0]} failed ({process.returncode}): {out.read()[-500:]} {err.read()[-2000:]}")
        unit = 1 if sys.platform == "darwin" else 1024
        return Ran(seconds, usage.ru_maxrss * unit, out.read())


def _environment(changes: Mapping[str, str | Path]) -> dict[str, str]:
    """Return this environment with `changes`; compiled modules are kept, as Python does by default."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **{name: str(value) for name, value in changes.items()}}


def tellapart() -> Path:
    """Return the command as it is installed beside this Python."""
    return Path(sys.executable).with_name("tellapart")


def fresh(folder: Path) -> Path:
    """Return an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def machine() -> dict[str, Any]:
    """Return what the numbers were measured on."""
    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": [round(load, 1) for load in os.getloadavg()],
    }


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def told(name: str, rows: Sequence[Mapping[str, Any]], **facts: Any) -> None:
    """Print a table of `rows` (all with the same keys) and, as the last line, one JSON object."""
    columns = list(rows[0])
    cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(json.dumps({"benchmark": name, "machine": machine(), **facts, "rows": [dict(row) for row in rows]}))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return "-" if value is None else str(value)
