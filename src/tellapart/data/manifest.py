"""The list of labelled pictures: what was found, what is used, what was left out and why."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tellapart import files
from tellapart.cache import cache_root
from tellapart.data.left_out import Excluded, LeftOut
from tellapart.errors import DataError
from tellapart.lazy import Lazy
from tellapart.recipe import Recipe

__all__ = ["SPLITS", "UNLABELLED", "Excluded", "Manifest", "Row", "Split"]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
VERSION = 1
UNLABELLED = "unlabelled"
"""The code of what lies in a folder for pictures without a label: no class, and yet of use."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One labelled picture. `path` is relative to the manifest's root, with `/`; sizes are after EXIF orientation.

    `group` is equal for pictures that must share a split: the smallest sha256 of the group. `size` (bytes) and
    `mtime_ns` are those of the file before it was read; they tell whether it may have changed, and do not count when
    rows are compared. `notes` say what is odd about the picture: names of `images.header.ODDITIES`, with words after a
    colon where there is more to say. `columns` are the values that a table has for the manifest's `columns`.
    """

    path: str
    label: str
    split: Split
    group: str
    sha256: str
    width: int
    height: int
    size: int = dataclasses.field(default=-1, compare=False)
    mtime_ns: int = dataclasses.field(default=0, compare=False)
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Labelled pictures under one root. `found == len(rows) + len(excluded)`, always.

    `classes` is sorted; a picture's class index is the index of its label there. `given` are the splits that came
    with the data and were kept; `notes` are sentences for the user; `facts` are values that later parts need:
    `all_grey` (bool), `aspects` (longer over shorter side: median and 95th percentile), `shorter_side` (least and
    median, in pixels), `sixteen_bit_scale`, described at `data.policy.set_facts`; and `near_duplicates`, described at
    `data.near_groups.NearGroups.facts`, where they were looked for. `source` is what `root` is called to a person: of
    an archive, paths are those of members below `source`, and `root` is where it lies unpacked. `kept` are the paths of
    pictures that the user has looked at and wants as they are. `near` are pairs of paths that are nearly the same
    picture: all of them after a scan, none where the manifest was read. `columns` name what a table says of each
    picture besides path, label, split and group; `besides` is a sha256 of all that it says besides path, label and
    split, empty where no table was read.
    """

    root: Path
    rows: tuple[Row, ...]
    classes: tuple[str, ...]
    excluded: Sequence[Excluded] = ()
    given: tuple[Split, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, object] = dataclasses.field(default_factory=dict)
    source: str = ""
    kept: tuple[str, ...] = ()
    near: tuple[tuple[str, str], ...] = dataclasses.field(default=(), compare=False)
    columns: tuple[str, ...] = ()
    besides: str = dataclasses.field(default="", compare=False)

    @classmethod
    def scan(cls, path: str | Path, recipe: Recipe | None = None, cache: Path | None = None) -> Manifest:
        """List, read, group and split the pictures at `path`, and return when that is done. Raises DataError."""
        from tellapart.data.scan import scan

        steps = scan(Path(path), recipe or Recipe(), cache or cache_root())
        while True:
            try:
                next(steps)
            except StopIteration as end:
                manifest: Manifest = end.value
                return manifest

    @property
    def found(self) -> int:
        """How many files were found."""
        return len(self.rows) + len(self.excluded)

    @property
    def counts(self) -> dict[str, int]:
        """The `counts` object of the JSON contract."""
        by_split = {str(split): sum(row.split == split for row in self.rows) for split in SPLITS}
        return {"found": self.found, "used": len(self.rows), "excluded": len(self.excluded), **by_split}

    @property
    def fingerprint(self) -> str:
        """64 hex digits over content, labels and splits; names and places of files do not count."""
        parts = sorted(f"{row.sha256} {row.split} {row.label}" for row in self.rows)
        return hashlib.sha256("\n".join(parts).encode("utf-8", errors="surrogatepass")).hexdigest()

    def where(self, *, split: Split) -> tuple[Row, ...]:
        """Return the rows of one split, in the manifest's order."""
        return tuple(row for row in self.rows if row.split == split)

    def told_left_out(self) -> Lazy[tuple[str, str, str]]:
        """Return (path, code, note) of each file that was left out, made anew whenever asked for."""
        items = self.excluded
        return Lazy(lambda: ((item.path, item.code, item.note) for item in items), len(items))

    def file(self, row: Row) -> Path:
        """Return where a row's picture is."""
        return self.root / row.path

    def write(self, path: Path) -> None:
        """Write `manifest.jsonl`: a head, a line for each row, a line for each file that was left out."""
        files.write_parts(path, (_json(line) for line in self._lines()))

    def _lines(self) -> Iterator[dict[str, object]]:
        yield {
            "version": VERSION,
            "root": str(self.root),
            "source": self.source,
            "classes": list(self.classes),
            "given": list(self.given),
            "notes": list(self.notes),
            "facts": dict(self.facts),
            **({"kept": list(self.kept)} if self.kept else {}),
            **({"columns": list(self.columns)} if self.columns else {}),
            **({"besides": self.besides} if self.besides else {}),
        }
        yield from map(_row_line, self.rows)
        yield from map(_excluded_line, self.excluded)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a `manifest.jsonl`. Raises DataError when it is not one."""
        try:
            rows: list[Row] = []
            excluded = LeftOut()
            with path.open(encoding="utf-8") as file:
                lines = (json.loads(line) for line in file if line.strip())
                head: dict[str, Any] = next(lines, {})
                if head["version"] > VERSION:
                    raise DataError(
                        "newer_manifest",
                        f"{path} was written by a newer tellapart.",
                        "Upgrade: pip install -U tellapart",
                    )
                for line in lines:
                    if "excluded" in line:
                        excluded.append(_excluded(line))
                    else:
                        rows.append(_row(line))
            return cls(
                root=Path(head["root"]),
                rows=tuple(rows),
                classes=tuple(head["classes"]),
                excluded=excluded,
                given=tuple(head["given"]),
                notes=tuple(head["notes"]),
                facts=head["facts"],
                kept=tuple(head.get("kept", ())),
                columns=tuple(head.get("columns", ())),
                besides=str(head.get("besides", "")),
                source=head.get("source", ""),
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            said = error if isinstance(error, OSError | ValueError) else "a line of it is not whole"
            raise DataError(
                "not_a_manifest",
                f"{path} cannot be read as a manifest ({said}).",
                "Give a run folder or its manifest.jsonl.",
            ) from None


def _json(line: dict[str, object]) -> bytes:
    return (json.dumps(files.finite(line), ensure_ascii=True) + "\n").encode("ascii")


def _excluded_line(item: Excluded) -> dict[str, object]:
    line: dict[str, object] = {"excluded": item.code, "path": item.path, "note": item.note}
    if item.label is not None:
        line["label"] = item.label
    if item.size >= 0:
        line["size"] = item.size
    return {**line, "sha256": item.sha256, "mtime_ns": item.mtime_ns} if item.sha256 else line


def _excluded(line: dict[str, Any]) -> Excluded:
    code, about = line["excluded"], (line.get("label"), line.get("sha256", ""))
    return Excluded(line["path"], code, line["note"], *about, line.get("size", -1), line.get("mtime_ns", 0))


def _row(line: dict[str, Any]) -> Row:
    if line["split"] not in SPLITS:
        raise ValueError(f"{line['split']!r} is no split; allowed are {', '.join(SPLITS)}")
    return Row(**{**line, "notes": tuple(line.get("notes", ())), "columns": tuple(line.get("columns", ()))})


def _row_line(row: Row) -> dict[str, object]:
    line = dataclasses.asdict(row)
    return line if row.columns else {name: value for name, value in line.items() if name != "columns"}
