"""Rows of text from a table's file, whatever its encoding and separator; `01`, `None`, `NaN` stay as written."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tellapart.cells import is_guarded, unguarded
from tellapart.data.listing import quoted, shown, some
from tellapart.errors import DataError, MissingExtraError
from tellapart.files import KeyTwiceError, each_once

__all__ = ["SUFFIXES", "Table", "read_table"]

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
_LOOKED_AT, _CONTROLS = 4000, 0.05  # of so many first characters, a larger share is what no text has
_PICTURE_NAME = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", flags=re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """Columns of text. `numbers` are the lines (Parquet: rows) that the values stand in, from 1.

    `nested` says of each column in which lines it holds a list or an object, whose text is blank.
    """

    columns: tuple[str, ...]
    numbers: Sequence[int]
    values: dict[str, Sequence[str]]
    notes: tuple[tuple[str, str], ...] = ()
    nested: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def read_table(path: Path, wanted: Callable[[Sequence[str]], Iterable[str]], others: int = 0) -> Table:
    """Read a table; `wanted` is asked for the columns that are needed, from all there are, and may refuse.

    So many `others` are read as well, the first that have a name and hold single values.

    Raises DataError when the file is none of the kinds that `SUFFIXES` names, or is damaged.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return _parquet(path, wanted, others)
        text, notes = _text(path.read_bytes())
    except OSError as error:
        raise DataError(
            "unreadable_table", f"{shown(str(path))} cannot be read ({error.strerror}).", "Check it."
        ) from None
    if not text.strip():
        raise DataError("empty_table", f"{shown(path.name)} is empty.", "Add a row for each picture.")
    try:
        table = _json_lines(path, text) if suffix in (".jsonl", ".ndjson") else _separated(path, text, wanted, others)
    except DataError:
        _refuse_no_text(path, text)
        raise
    if not table.numbers:
        raise DataError("empty_table", f"{shown(path.name)} lists no pictures.", "Add a row for each picture.")
    return dataclasses.replace(table, notes=(*notes, *table.notes))


def _refuse_no_text(path: Path, text: str) -> None:
    """Refuse what no table was found in, and what is no text at all."""
    head = text[:_LOOKED_AT]
    controls = sum(letter < " " and letter not in "\t\n\v\f\r" for letter in head)
    if controls > _CONTROLS * len(head):
        raise DataError(
            "damaged_table",
            f"{shown(path.name)} is not text: {controls:,} of its first {len(head):,} characters "
            "are control characters.",
            "Save it as CSV, TSV or JSON Lines anew.",
        ) from None


def _text(raw: bytes) -> tuple[str, list[tuple[str, str]]]:
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if raw.startswith(mark):
            try:
                return raw.decode(encoding), []
            except UnicodeDecodeError:
                break
    # Text without a mark in which every other byte is zero is UTF-16 of a Latin script.
    head = raw[:2000]
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) >= 4 and head[offset::2].count(0) > 0.8 * len(head[offset::2]):
            try:
                return raw.decode(encoding), [("info", f"The table is read as {encoding.upper()}.")]
            except UnicodeDecodeError:
                break
    try:
        return raw.decode("utf-8"), []
    except UnicodeDecodeError:
        return raw.decode("latin-1"), [("warning", "The table is not valid UTF-8; it is read as Latin-1.")]


def _separated(path: Path, text: str, wanted: Callable[[Sequence[str]], Iterable[str]], others: int) -> Table:
    heads = {separator: _head(text, separator) for separator in _SEPARATORS}
    fitting = [separator for separator, head in heads.items() if _fits(head, wanted)]
    separator = (
        fitting[0]
        if fitting
        else max(heads, key=lambda mark: (len(heads[mark]), mark == ("\t" if path.suffix.lower() == ".tsv" else ",")))
    )
    head = heads[separator]
    if not fitting and any(_PICTURE_NAME.search(cell) for cell in head):
        raise DataError(
            "no_header",
            f"The first line of {shown(path.name)} names a picture, not columns.",
            "Add a first line such as path,label.",
        )
    if len(fitting) > 1:
        said = " and by ".join(_SEPARATORS[mark] for mark in fitting)
        raise DataError(
            "ambiguous_table",
            f"{shown(path.name)} has the columns that are needed whether it is separated by {said}.",
            "Save it with one separator, and names in the first line alone.",
        )
    twice = sorted({name for name in head if name and head.count(name) > 1})
    if twice:
        raise DataError("column_twice", f"{shown(path.name)} has two columns called {quoted(twice[0])}.", "Rename one.")
    names = _with_others(wanted(head), head, others)
    picks = [(name, head.index(name)) for name in names]
    width, ours = len(head), is_guarded(head)
    numbers: list[int] = []
    values: dict[str, list[str]] = {name: [] for name in names}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    ragged: list[str] = []
    line = 0
    try:
        for number, cells in enumerate(reader):
            line, first = reader.line_num, line + 1
            if number == 0 or not any(cells):
                continue
            if len(cells) > width and any(cells[width:]):
                ragged.append(str(first))
            numbers.append(first)
            for name, column in picks:
                cell = cells[column] if column < len(cells) else ""
                values[name].append(unguarded(cell) if ours else cell)
    except csv.Error as error:
        raise DataError(
            "damaged_table",
            f"{shown(path.name)} cannot be read near line {reader.line_num} ({error}).",
            "Look for a quote that is not closed.",
        ) from None
    if ragged:
        raise DataError(
            "damaged_table",
            f"{shown(path.name)} has {len(ragged)} row(s) with more cells than columns: line {some(ragged)}.",
            "Put values that hold the separator into quotes.",
        )
    notes = () if separator == "," else (("info", f"The table's separator is a {_SEPARATORS[separator]}."),)
    return Table(tuple(head), numbers, dict(values), notes)


def _head(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
    except csv.Error:
        return []


def _fits(head: Sequence[str], wanted: Callable[[Sequence[str]], Iterable[str]]) -> bool:
    try:
        wanted(head)
    except DataError:
        return False
    return True


def _json_lines(path: Path, text: str) -> Table:
    numbers: list[int] = []
    rows: list[dict[str, str]] = []
    columns: dict[str, None] = {}
    nested: dict[str, list[str]] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            # Numbers stay as they are written: a label 01 or 1.0 is text.
            value = json.loads(line, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=each_once)
        except KeyTwiceError as error:
            raise DataError(
                "key_twice", f"{shown(path.name)}, line {number}, has {error}.", "Keep one of the two."
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                "damaged_table", f"{shown(path.name)}, line {number}, is not JSON ({error}).", "Correct the line."
            ) from None
        if not isinstance(value, dict):
            raise DataError(
                "damaged_table", f"{shown(path.name)}, line {number}, is not a JSON object.", "Correct the line."
            )
        numbers.append(number)
        rows.append({name: _plain(item) for name, item in value.items()})
        columns.update(dict.fromkeys(value))
        for name, item in value.items():
            if isinstance(item, list | dict):
                nested.setdefault(name, []).append(_nested(number, item))
    values: dict[str, Sequence[str]] = {name: [row.get(name, "") for row in rows] for name in columns}
    return Table(tuple(columns), numbers, values, nested=nested)


def _nested(number: int, value: object) -> str:
    return f"{number} (a list)" if isinstance(value, list) else f"{number} (an object)"


def _plain(value: object) -> str:
    """Return a value as text; null, and what is no single value, is blank."""
    if value is None or isinstance(value, list | dict | tuple):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.decode("utf-8", errors="surrogateescape") if isinstance(value, bytes) else str(value)


def _with_others(names: Iterable[str], columns: Sequence[str], others: int) -> tuple[str, ...]:
    needed = tuple(dict.fromkeys(names))
    return (*needed, *[name for name in columns if name.strip() and name not in needed][:others])


def _parquet(path: Path, wanted: Callable[[Sequence[str]], Iterable[str]], others: int) -> Table:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("train", "A Parquet table") from None
    try:
        with pq.ParquetFile(path) as file:
            columns = tuple(file.schema_arrow.names)
            single = [
                field.name
                for field in file.schema_arrow
                if not (pa.types.is_nested(field.type) or pa.types.is_binary(field.type))
            ]
            names = _with_others(wanted(columns), single, others)
            read = file.read(columns=list(names))
    except pa.ArrowException as error:
        raise DataError(
            "damaged_table", f"{shown(path.name)} is not a Parquet file ({error}).", "Write it anew."
        ) from None
    if not read.num_rows:
        raise DataError("empty_table", f"{shown(path.name)} lists no pictures.", "Add a row for each picture.")
    values: dict[str, Sequence[str]] = {}
    nested: dict[str, Sequence[str]] = {}
    for name in names:
        items = read.column(name).to_pylist()
        values[name] = [_plain(item) for item in items]
        odd = [_nested(number, item) for number, item in enumerate(items, start=1) if isinstance(item, list | dict)]
        nested |= {name: odd} if odd else {}
    return Table(columns, range(1, read.num_rows + 1), values, nested=nested)
