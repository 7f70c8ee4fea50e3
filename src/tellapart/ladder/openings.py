"""How often a test split has been looked at: each opening is a fsynced decision in a run's events.

Only the runs that lie beside each other are counted: a person who trains ten times on one folder and picks the best
test score fools himself, and those ten runs lie side by side. A test split of which a person relabelled or dropped some
pictures since is the one that it was: the manifests of both runs tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tellapart.data.manifest import Row

__all__ = ["OPENED", "count_openings", "fingerprint_of_test"]

OPENED = "test_opened"
_SAME = 0.5  # of the pictures in either of two splits: where both have as many, they are one split


def fingerprint_of_test(rows: Sequence[Row]) -> str:
    """Return 16 hex digits over the content and labels of the test pictures, whatever their order and names."""
    parts = sorted(f"{row.sha256} {row.label}" for row in rows)
    return hashlib.sha256("\n".join(parts).encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def count_openings(run: Path, rows: Sequence[Row]) -> int:
    """Return how many times the runs beside `run`, and `run` itself, have opened the test split of these `rows`."""
    fingerprint, pictures = fingerprint_of_test(rows), {row.sha256 for row in rows}
    count = 0
    for events in sorted(run.parent.glob("*/events.jsonl")):
        opened = [value for line in _lines(events, OPENED) if (value := _opened(line)) is not None]
        if any(value != fingerprint for value in opened):
            others = _test_pictures(events.parent / "manifest.jsonl")
            if len(pictures & others) >= _SAME * len(pictures | others):
                count += len(opened)
                continue
        count += opened.count(fingerprint)
    return count


def _lines(file: Path, part: str) -> Iterator[str]:
    """Yield the lines that hold `part`; none where the file cannot be read."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from (line for line in lines if part in line)
    except OSError:
        return


def _opened(line: str) -> object | None:
    """Return the fingerprint of the test split that was opened, None where this is another event or a torn line."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("name") != OPENED:
        return None
    # An attempt that goes on looks at what the one before had opened.
    return None if event.get("again") else event.get("value")


def _test_pictures(manifest: Path) -> set[str]:
    """Return the digests of the test pictures of a run; none where its manifest is gone or torn."""
    found = set()
    for line in _lines(manifest, '"test"'):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and row.get("split") == "test":
            found.add(str(row.get("sha256")))
    return found
