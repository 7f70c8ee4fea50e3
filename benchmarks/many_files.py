"""Peak memory of a scan as files that are no pictures grow in number: python -m benchmarks.many_files

Empty files lie in one folder beside 40 small pictures; the manifest is written as a run writes it, and read again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import measure

_SCANNED = """
import sys
from pathlib import Path
from tellapart.data import Manifest
from tellapart.recipe import Recipe
Manifest.scan(Path(sys.argv[1]), Recipe(), Path(sys.argv[2])).write(Path(sys.argv[3]))
"""
_READ = """
import sys
from pathlib import Path
from tellapart.data import Manifest
Manifest.read(Path(sys.argv[1]))
"""


def made(root: Path, size: int) -> Path:
    """Write the pictures and `size` empty files, once."""
    if root.is_dir():
        return root
    for number in range(40):
        path = root / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    for number in range(size):
        os.close(os.open(root / "cat" / f"{number:08d}.jpg", os.O_CREAT))
    return root


def main() -> None:
    parser = measure.options(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 100_000, 500_000])
    wish = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for size in wish.sizes:
        data = made(wish.work / f"files_{size}", size)
        manifest = measure.fresh(wish.work / "many") / "manifest.jsonl"
        scanned = measure.ran([sys.executable, "-c", _SCANNED, data, wish.work / "many_cache", manifest])
        read = measure.ran([sys.executable, "-c", _READ, manifest])
        row = {"files": size, "scan_MB": scanned.peak_bytes / 1e6, "scan_s": scanned.seconds}
        row |= {"read_MB": read.peak_bytes / 1e6, "read_s": read.seconds}
        for name in ("scan", "read") if rows and size else ():
            row[f"{name}_bytes_a_file"] = 1e6 * (row[f"{name}_MB"] - rows[0][f"{name}_MB"]) / (size - rows[0]["files"])
        rows.append(row)
    measure.told("many_files", rows)


if __name__ == "__main__":
    main()
