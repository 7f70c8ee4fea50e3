"""How often a test split has been looked at: each opening is a fsynced decision in a run's events.

Only the runs that lie beside each other are counted: a person who trains ten times on one folder and picks the best
test score fools himself, and those ten runs lie side by side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tellapart.data.manifest import Row

__all__ = ["OPENED", "count_openings", "fingerprint_of_test"]

OPENED = "test_opened"


def fingerprint_of_test(rows: Sequence[Row]) -> str:
    """Return 16 hex digits over the content and labels of the test pictures, whatever their order and names."""
    parts = sorted(f"{row.sha256} {row.label}" for row in rows)
    return hashlib.sha256("\n".join(parts).encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def count_openings(run: Path, fingerprint: str) -> int:
    """Return how many times the runs beside `run`, and `run` itself, have opened the test split of that fingerprint."""
    count = 0
    for events in sorted(run.parent.glob("*/events.jsonl")):
        try:
            lines = events.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        count += sum(_opens(line, fingerprint) for line in lines if OPENED in line)
    return count


def _opens(line: str, fingerprint: str) -> bool:
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return (
        isinstance(event, dict)
        and (event.get("name"), event.get("value")) == (OPENED, fingerprint)
        and not event.get("again")  # an attempt that goes on looks at what the one before had opened
    )
