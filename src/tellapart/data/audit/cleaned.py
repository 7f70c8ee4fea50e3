"""A manifest without what the audit is sure of, as a table that `train` reads; the pictures are not touched."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tellapart import files
from tellapart.cells import CLEANED, guarded
from tellapart.data.archive import is_archive
from tellapart.data.audit.finding import CheckName, Finding
from tellapart.data.listing import shown
from tellapart.data.manifest import Manifest
from tellapart.errors import InputError

__all__ = ["Cleaned", "clean", "refuse_place", "write_cleaned"]

# A copy or a version scores above this; the one that may stay does not.
_DROPPED_ABOVE = 0.5
_DROPPED: dict[CheckName, str] = {
    "duplicate": "copies",
    "near_duplicate": "other versions",
    "split_leak": "pictures that an earlier split has",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cleaned:
    """The places in the manifest of the rows that stay, and a sentence on what was left out."""

    rows: tuple[int, ...]
    summary: str


def clean(manifest: Manifest, findings: Sequence[Finding]) -> Cleaned:
    """Leave out copies, versions and leaks, and what could not be used at all; labels are never changed by themselves.

    What is only suspect (labels, outliers, quality) stays: a person decides that, by corrections.
    """
    reasons: dict[str, str] = {}
    for check, words in _DROPPED.items():
        for finding in findings:
            if finding.check == check:
                for row in finding.rows:
                    if row.score > _DROPPED_ABOVE:
                        reasons.setdefault(row.path, words)
    stays = tuple(number for number, row in enumerate(manifest.rows) if row.path not in reasons)
    counts = Counter(reasons.values())
    told = [f"{count:,} {words}" for words, count in counts.most_common()]
    told += [f"{count:,} {code}" for code, count in Counter(item.code for item in manifest.excluded).most_common()]
    return Cleaned(stays, f"{len(stays):,} of {manifest.found:,} files stay; left out: {', '.join(told) or 'none'}.")


def refuse_place(out: Path, data: Path) -> None:
    """Raise InputError when the table may not be written to `out`: a folder, a foreign file, or inside the data."""
    target = Path(os.path.realpath(out))
    step = f"Name a new file beside the data, such as {shown(data.stem)}-clean.csv."
    said = ""
    if is_archive(data):
        said = f"cannot be written for an archive: the pictures of {shown(str(data))} lie in the cache alone"
        step = "Unpack it, and give the folder."
    elif target.suffix.lower() != ".csv":
        said = "does not end in .csv"
    elif data.is_dir() and target.is_relative_to(os.path.realpath(data)):
        said = f"lies inside the pictures' folder {shown(str(data))}, where nothing is ever written"
    elif target.is_dir():
        said = "is a folder"
    elif not target.parent.is_dir():
        said = "is in a folder that does not exist"
    elif target.exists() and not _is_ours(target):
        said = "exists and is no table that check wrote"
    if said:
        raise InputError("fix_refused", f"--fix {shown(str(out))} {said}.", step)


def write_cleaned(manifest: Manifest, cleaned: Cleaned, out: Path) -> bool:
    """Write path, label, split, group; splits only where the data came with them. Return whether `train` can read it.

    Paths are relative to the folder of `out` where the pictures lie below it, else absolute, and then the table has to
    be moved above them.
    """
    folder = Path(os.path.realpath(out)).parent
    root = Path(os.path.realpath(manifest.root))
    below = root.is_relative_to(folder)
    sizes = Counter(row.group for row in manifest.rows)
    lines = [",".join(CLEANED)]
    for number in cleaned.rows:
        row = manifest.rows[number]
        full = root / row.path
        path = full.relative_to(folder).as_posix() if below else str(full)
        split = "" if not manifest.given else row.split if row.split in manifest.given else "train"
        group = row.group[:16] if sizes[row.group] > 1 else ""
        lines.append(",".join(_cell(cell) for cell in (guarded(path), guarded(row.label), split, group)))
    files.write_text(out, "\n".join(lines) + "\n")
    return below


def _is_ours(target: Path) -> bool:
    first = ",".join(CLEANED).encode()
    try:
        with target.open("rb") as file:
            return target.is_file() and file.read(len(first)) in (first, b"")
    except OSError:
        return False


def _cell(text: str) -> str:
    odd = any(mark in text for mark in ',"\n\r') or text != text.strip()
    return '"' + text.replace('"', '""') + '"' if odd else text
