"""The program that says how much memory a graph takes, for `ship.speed`: a process of its own has a peak of its own.

python -m tellapart.ship.footprint MODEL IMAGE_SIZE
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tellapart.runtime.openvino_session import OpenVinoSession, openvino_module
from tellapart.runtime.session import Session, onnxruntime_module

__all__ = ["main"]


def main() -> int:
    """Print by how many bytes the peak grows when the graph is loaded and run on one picture."""
    file, side = Path(sys.argv[1]), int(sys.argv[2])
    picture, outputs = np.zeros((1, side, side, 3), np.uint8), ["logits", "embedding"]
    if file.suffix == ".xml":
        openvino_module()
        before = _peak()
        OpenVinoSession(file.read_bytes(), file.with_suffix(".bin").read_bytes()).run(picture, outputs)
    else:
        onnxruntime_module()
        before = _peak()
        Session(file.read_bytes()).run(picture, outputs)
    print(_peak() - before)
    return 0


def _peak() -> int:
    """Return the most memory this process ever held, in bytes; Linux alone tells it without what came before exec."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    sys.exit(main())
