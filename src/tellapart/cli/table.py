"""Predictions as CSV that a spreadsheet can open without harm."""

from __future__ import annotations

from collections.abc import Iterable

from tellapart.cli.output import printable

__all__ = ["HEADER", "csv_line"]

HEADER = ("path", "label", "prob", "answer", "novelty", "error")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_line(cells: Iterable[object]) -> str:
    r"""Return one record (RFC 4180, but ended by a newline alone).

    Text that a spreadsheet would run as a formula gets a leading `'` (OWASP, "CSV Injection"); what cannot be printed
    is escaped, so that a record is always one line.

    >>> csv_line(["=cmd()", "a,b", 0.5])
    '\'=cmd(),"a,b",0.5\n'
    """
    return ",".join(map(_cell, cells)) + "\n"


def _cell(value: object) -> str:
    if not isinstance(value, str):
        return "" if value is None else repr(value)
    guarded = f"'{value}" if value.startswith(FORMULA_STARTS) else value
    text = printable(guarded)
    return '"' + text.replace('"', '""') + '"' if "," in text or '"' in text else text
