"""A table of labelled pictures: CSV, TSV, JSON Lines or Parquet, with the columns path, label, split, group."""

from __future__ import annotations

import dataclasses
import difflib
import os
import posixpath
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from tellapart.cache import digest_of
from tellapart.data.listing import (
    SPLIT_SPELLINGS,
    Entry,
    Listing,
    class_key,
    quoted,
    shown,
    some,
    split_of,
)
from tellapart.data.manifest import Excluded, Split
from tellapart.data.table_columns import MOST_COLUMNS, told_apart
from tellapart.data.table_rows import Table, read_table
from tellapart.data.walk import excluded_link
from tellapart.errors import DataError, did_you_mean
from tellapart.events import Progress, Steps
from tellapart.recipe import DataOptions

__all__ = ["USUAL_NAMES", "fits", "list_table"]

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "image", "filepath", "file_name", "file_path", "image_path"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "set", "subset"),
    "group": ("group",),
}
_MOST_SHOWN, _NAME_SHOWN = 12, 30
_DRIVE_OR_URL = re.compile(r"[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*:/|\\\\")


@dataclasses.dataclass(slots=True)
class _Line:
    number: int
    path: str
    label: str | None
    split: Split | None
    group: str | None
    columns: tuple[str, ...]


def fits(path: Path, options: DataOptions) -> bool:
    """Return whether a file is a table with a column of paths and one of labels."""
    try:
        table = read_table(path, lambda names: _columns(path, names, options).values())
        _columns(path, table.columns, options)
    except DataError:
        return False
    return True


def list_table(path: Path, options: DataOptions, name: str | None = None) -> Steps[Listing]:
    """Return what a table lists; its paths are relative to its folder, which is called `name` in messages.

    Raises DataError when a column is missing, a label blank (where `options.unlabelled` does not skip these), a split
    unknown, a file missing, or a picture has two labels; every fault of one kind is counted, and the first are named.
    """
    yield Progress("scan", 0, None, "rows")
    table = read_table(path, lambda names: _columns(path, names, options).values(), MOST_COLUMNS)
    columns = _columns(path, table.columns, options)
    notes = [*table.notes]
    others = told_apart({name: table.values[name] for name in table.values if name not in columns.values()})
    lines = _lines(path, table, columns, others, notes, options)
    root = Path(os.path.abspath(path)).parent
    kept, excluded = _inside(root, lines)
    kept = _without_repeats(path, kept, notes)
    name = str(root) if name is None else name
    entries, missing = yield from _present(root, kept, excluded)
    if missing and not options.skip_missing:
        raise DataError(
            "missing_files",
            f"{shown(path.name)} names {len(missing)} file(s) missing from {shown(name)}: {some(missing)}.",
            "Correct the paths (they are relative to the table's folder), or leave these out by --skip-missing.",
        )
    excluded += [Excluded(item, "missing_file", "The table names it, but it is not there.") for item in missing]
    if missing:
        notes.append(("warning", f"{len(missing)} file(s) that the table names are not there, and were left out."))
    entries.sort(key=lambda entry: entry.path)
    excluded.sort(key=lambda item: item.path)
    given = any(entry.split for entry in entries)
    return Listing(
        root,
        name,
        entries,
        excluded,
        splits=given,
        notes=notes,
        columns=others,
        tabled=True,
        besides=_besides(others, kept),
    )


def _besides(others: tuple[str, ...], lines: Sequence[_Line]) -> str:
    """Return the sha256 of groups and further columns, whatever the order of the rows."""
    said = sorted((line.path, line.group or "", line.columns) for line in lines)
    return digest_of([others, said])


def _columns(path: Path, names: Sequence[str], options: DataOptions) -> dict[str, str]:
    """Return which column holds `path`, `label`, and, where there are such, `split` and `group`."""
    asked = {
        "path": options.path_column,
        "label": options.label_column,
        "split": options.split_column,
        "group": options.group_column,
    }
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.strip().casefold(), name)
    found: dict[str, str] = {}
    lacking: list[str] = []
    listed = f"Its columns are: {_listed(names)}."
    for role, column in asked.items():
        if column is not None:
            if column not in names and column.strip().casefold() not in folded:
                raise DataError(
                    "unknown_column",
                    f"{shown(path.name)} has no column {quoted(column)}.{did_you_mean(column, names)}",
                    f"{listed} Name one with --{role}-column.",
                )
            found[role] = column if column in names else folded[column.strip().casefold()]
        else:
            taken = [folded[usual] for usual in USUAL_NAMES[role] if usual in folded]
            taken = [name for name in taken if name not in asked.values()]
            if taken:
                found[role] = taken[0]
            elif role in ("path", "label"):
                lacking.append(role)
    if lacking:
        usual = ", ".join(USUAL_NAMES[lacking[0]])
        left = [name for name in names if name not in found.values()]
        raise DataError(
            "unknown_column",
            f"{shown(path.name)} has no column for the {' and the '.join(lacking)} of a picture (a first line with "
            f"names such as {usual} is needed).{_misspelt(lacking, left)}",
            f"{listed} Name one with {' and '.join(f'--{role}-column' for role in lacking)}.",
        )
    return found


def _listed(names: Sequence[str]) -> str:
    """Return the first names of columns, as many and as much of each as a person would read."""
    brief = [name if len(name) <= _NAME_SHOWN else f"{name[:_NAME_SHOWN]}..." for name in map(shown, names)]
    return some(brief, _MOST_SHOWN) or "none"


def _misspelt(roles: Sequence[str], names: Sequence[str]) -> str:
    """Return which usual names were perhaps meant by the names of columns, as a question, or an empty string."""
    pairs = [
        f"{close[0]!r} by {quoted(name)}"
        for role in roles
        for name in names
        for close in [difflib.get_close_matches(name.strip().casefold(), USUAL_NAMES[role], n=1, cutoff=0.7)]
        if close
    ]
    return f" Did you mean {', and '.join(pairs[:4])}?" if pairs else ""


def _lines(
    path: Path,
    table: Table,
    columns: dict[str, str],
    others: tuple[str, ...],
    notes: list[tuple[str, str]],
    options: DataOptions,
) -> list[_Line]:
    values = {role: table.values[name] for role, name in columns.items()}
    count = len(table.numbers)
    for role, column in columns.items():
        if nested := table.nested.get(column):
            raise DataError(
                "not_text",
                f"{shown(path.name)} has {len(nested)} row(s) whose {role} is no single value: line {some(nested)}.",
                f"A {role} must be text or a number: write one, or name another column with --{role}-column.",
            )
    blank = [str(table.numbers[row]) for row in range(count) if not values["label"][row].strip()]
    if blank and options.unlabelled != "skip":
        raise DataError(
            "blank_label",
            f"{shown(path.name)} has {len(blank)} row(s) without a label: line {some(blank)}.",
            "Fill them in, remove the rows, or leave them out by --unlabelled skip.",
        )
    nameless = [str(table.numbers[row]) for row in range(count) if not values["path"][row].strip()]
    if nameless:
        raise DataError(
            "blank_path",
            f"{shown(path.name)} has {len(nameless)} row(s) without a path: line {some(nameless)}.",
            "Fill them in, or remove the rows.",
        )
    odd = [str(table.numbers[row]) for row in range(count) if _surrogate(values["label"][row])]
    if odd:
        raise DataError(
            "class_name",
            f"{shown(path.name)} has label(s) that are not valid Unicode: line {some(odd)}.",
            "Write them anew.",
        )
    spaced = sum(label != label.strip() for label in values["label"])
    if spaced:
        notes.append(("warning", f"Spaces around {spaced} label(s) were removed."))
    splits = _splits(path, table, values.get("split"), notes)
    groups = [text.strip() or None for text in values["group"]] if "group" in values else [None] * count
    labels = [class_key(text.strip()) or None for text in values["label"]]
    told = list(zip(*(map(str.strip, table.values[name]) for name in others), strict=True)) or [()] * count
    rows = zip(table.numbers, values["path"], labels, splits, groups, told, strict=True)
    return [_Line(*row) for row in rows]


def _surrogate(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _splits(path: Path, table: Table, values: Sequence[str] | None, notes: list[tuple[str, str]]) -> list[Split | None]:
    if values is None:
        return [None] * len(table.numbers)
    meaning = {text: split_of(text) for text in set(values)}
    strange = sorted(text for text, split in meaning.items() if split is None and text.strip())
    if strange:
        line = table.numbers[values.index(strange[0])]
        raise DataError(
            "unknown_split",
            f"{shown(path.name)}, line {line}: {quoted(strange[0])} is not a split; allowed are train, val and test."
            f"{did_you_mean(strange[0].strip().casefold(), SPLIT_SPELLINGS)}",
            "Change it, or name another column with --split-column.",
        )
    blank = sum(not text.strip() for text in values)
    if 0 < blank < len(values):
        notes.append(("warning", f"{blank} row(s) name no split; they count as train."))
    return [meaning[text] for text in values]


def _inside(root: Path, lines: Sequence[_Line]) -> tuple[list[_Line], list[Excluded]]:
    """Return the lines whose path stays inside the root, made relative and plain, and what was left out."""
    kept: list[_Line] = []
    excluded: dict[str, Excluded] = {}
    for line in lines:
        plain = _relative(root, line.path)
        if plain is None:
            excluded[line.path] = Excluded(
                line.path, "outside_root", f"Line {line.number} names a place outside of the table's folder."
            )
        else:
            line.path = plain
            kept.append(line)
    return kept, list(excluded.values())


def _relative(root: Path, written: str) -> str | None:
    if _DRIVE_OR_URL.match(written):
        return None
    path = written
    if "\\" in path and not os.path.lexists(os.path.join(root, path.replace("\0", "?"))):
        path = path.replace("\\", "/")
    if path.startswith("/"):
        path = os.path.relpath(path, root)
    if "/" in path or path in (".", ".."):  # the common plain name needs no work
        path = posixpath.normpath(path)
    return None if path in (".", "..") or path.startswith("../") else path


def _without_repeats(path: Path, lines: Sequence[_Line], notes: list[tuple[str, str]]) -> list[_Line]:
    first: dict[str, _Line] = {}
    repeated = 0
    clashes: list[str] = []
    for line in lines:
        known = first.setdefault(line.path, line)
        if known is line:
            continue
        repeated += 1
        if (known.label, known.split, known.group) != (line.label, line.split, line.group):
            clashes.append(f"{line.path} (lines {known.number} and {line.number})")
    if clashes:
        raise DataError(
            "conflicting_rows",
            f"{shown(path.name)} lists {len(clashes)} picture(s) twice with another label, split or group: "
            f"{some(clashes)}.",
            "Keep one row of each.",
        )
    if repeated:
        notes.append(("warning", f"{repeated} row(s) repeat an earlier one and were dropped."))
    return list(first.values())


def _present(root: Path, lines: Sequence[_Line], excluded: list[Excluded]) -> Steps[tuple[list[Entry], list[str]]]:
    """Return entries for files that are there, and the paths of those that are not."""
    real_root = os.path.realpath(root)
    parents: dict[str, bool] = {}
    missing: list[str] = []
    entries: list[Entry] = []
    for count, line in enumerate(lines):
        if count % 2000 == 0:
            yield Progress("scan", count, len(lines), "rows")
        full = os.path.join(root, line.path)
        parent = posixpath.dirname(line.path)
        try:
            mode = os.lstat(full).st_mode
        except (OSError, ValueError):
            missing.append(line.path)
            continue
        if parent not in parents:
            real = os.path.realpath(os.path.join(root, parent))
            parents[parent] = real == real_root or real.startswith(real_root.rstrip(os.sep) + os.sep)
        item = None
        if stat.S_ISLNK(mode) or not parents[parent]:
            item = excluded_link(root, line.path, real_root)
        elif not stat.S_ISREG(mode):
            item = Excluded(line.path, "not_a_file", "It is no regular file, so it is never opened.")
        if item is not None:
            excluded.append(item)
        else:
            entries.append(Entry(line.path, line.label, line.split, line.group, line.columns))
    return entries, missing
