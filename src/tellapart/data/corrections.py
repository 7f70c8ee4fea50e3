"""What a person decided about single pictures: keep, relabel or drop, as `corrections.csv` holds it."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Literal

from tellapart.cells import unguarded
from tellapart.data.listing import Entry, class_key, quoted, shown, some
from tellapart.errors import DataError, did_you_mean

__all__ = ["COLUMNS", "Action", "Corrected", "Correction", "Corrections", "read_corrections"]

Action = Literal["keep", "relabel", "drop"]
_ACTIONS: tuple[Action, ...] = ("keep", "relabel", "drop")
COLUMNS = ("path", "sha256", "action", "label")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST_BYTES = 64 << 20
_NEXT = f"Its first line names the columns {', '.join(COLUMNS)} (path or sha256 may be left out)."


@dataclasses.dataclass(frozen=True, slots=True)
class Correction:
    """One decision. `label` is what a relabelled picture is called now, else empty; `line` is where it stands.

    With a `sha256` beside a path it holds as long as the file is the one that was looked at.
    """

    action: Action
    label: str
    line: int
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Corrections:
    """Decisions by path relative to the data set, and, for lines without a path, by content (sha256, 64 hex digits)."""

    by_content: Mapping[str, Correction]
    by_path: Mapping[str, Correction]

    def of(self, path: str, sha256: str) -> Correction | None:
        """Return what was decided about a picture, or None."""
        found = self.by_path.get(path)
        return found if found is not None and found.sha256 in ("", sha256) else self.by_content.get(sha256)

    def __len__(self) -> int:
        return len(self.by_content) + len(self.by_path)

    def check_labels(self, classes: Collection[str], place: Path) -> None:
        """Raise DataError (`unknown_label`) when a picture would get a label that no picture has."""
        for entry in (*self.by_content.values(), *self.by_path.values()):
            if entry.label and entry.label not in classes:
                raise DataError(
                    "unknown_label",
                    f"--corrections {shown(str(place))}, line {entry.line}: {quoted(entry.label)} is no class of "
                    f"the data.{did_you_mean(entry.label, classes)}",
                    f"Classes are: {some(sorted(classes))}.",
                )


def read_corrections(place: Path) -> Corrections:
    """Read a `corrections.csv`. Raises DataError (`bad_corrections`) for the first thing in it that is not clear."""

    def refused(said: str, step: str = _NEXT) -> DataError:
        return DataError("bad_corrections", f"--corrections {shown(str(place))}{said}", step)

    try:
        with place.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise refused(f" cannot be read ({error}).", "Give the corrections.csv that the page of check saved.") from None
    if len(content) > _MOST_BYTES:
        raise refused(" has more than 64 MB.", "Give the corrections.csv that the page of check saved.")
    by_content: dict[str, Correction] = {}
    by_path: dict[str, Correction] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip().casefold() for name in next(reader, [])]
        strange = [name for name in names if name not in COLUMNS]
        if strange or len(set(names)) < len(names) or "action" not in names or not {"path", "sha256"} & set(names):
            what = f"the column {quoted(strange[0])}" if strange else f"the columns {some(names) or 'of an empty file'}"
            raise refused(f", line 1, has {what}.")
        for cells in reader:
            if not any(cells):
                continue
            line = reader.line_num
            if len(cells) != len(names):
                raise refused(f", line {line}, has {len(cells)} cells where {len(names)} are expected.")
            _take(dict(zip(names, cells, strict=True)), line, by_content, by_path, refused)
    except csv.Error as error:
        raise refused(f", line {reader.line_num}, is no CSV ({error}).") from None
    return Corrections(by_content, by_path)


def _take(
    cells: Mapping[str, str],
    line: int,
    by_content: dict[str, Correction],
    by_path: dict[str, Correction],
    refused: Callable[[str], DataError],
) -> None:
    action = cells["action"].strip().casefold()
    label = class_key(unguarded(cells.get("label", "").strip()))
    path, sha256 = unguarded(cells.get("path", "")), cells.get("sha256", "").strip().casefold()
    chosen = next((known for known in _ACTIONS if known == action), None)
    if chosen is None:
        raise refused(
            f", line {line}: {quoted(cells['action'])} is no action; allowed are {', '.join(_ACTIONS)}."
            f"{did_you_mean(action, _ACTIONS)}"
        )
    if chosen == "relabel" and not label:
        raise refused(f", line {line}: a picture to relabel has no label.")
    if not path and not sha256:
        raise refused(f", line {line}, names neither a path nor a sha256.")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise refused(f", line {line}: {quoted(sha256)} is no sha256, which has 64 hexadecimal digits.")
    entry = Correction(chosen, label if chosen == "relabel" else "", line, sha256)
    before = by_path.setdefault(path, entry) if path else by_content.setdefault(sha256, entry)
    if (before.action, before.label) != (entry.action, entry.label):
        raise refused(f", lines {before.line} and {line}, say two things of one picture.")


class Corrected:
    """The pictures as a person corrected them, and how many lines of the corrections met a picture."""

    def __init__(self, named: str | None, labels: Collection[str]) -> None:
        self.kept: list[str] = []
        self._counts: Counter[str] = Counter()
        self._corrections: Corrections | None = None
        if named is not None:
            self._corrections = read_corrections(Path(named))
            self._corrections.check_labels(labels, Path(named))

    def seen(self, entry: Entry, sha256: str) -> tuple[Entry, Action | None]:
        """Return an entry with the label it has now, and what was decided about it."""
        found = self._corrections.of(entry.path, sha256) if self._corrections is not None else None
        if found is None:
            return entry, None
        self._counts[found.action] += 1
        if found.action == "keep":
            self.kept.append(entry.path)
        elif found.action == "relabel":
            entry = dataclasses.replace(entry, label=found.label)
        return entry, found.action

    def notes(self) -> list[str]:
        """Return a sentence on what was corrected, where anything was to be."""
        if self._corrections is None:
            return []
        counts = self._counts
        idle = len(self._corrections) - sum(counts.values())
        missed = f" {idle:,} line(s) met no picture as it is now." if idle > 0 else ""
        return [
            f"Corrections: {counts['relabel']:,} picture(s) relabelled, {counts['drop']:,} dropped, "
            f"{counts['keep']:,} kept as they are.{missed}"
        ]
