"""Cells of tables for a person: a spreadsheet runs none of them, and they are read back as they were."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["CLEANED", "SUGGESTED", "guarded", "is_guarded", "unguarded"]

CLEANED = ("path", "label", "split", "group")
"""The columns that `check --fix` writes."""
SUGGESTED = ("path", "label", "suggested", "prob", "rank", "cluster", "novelty")
"""The columns that `suggest` writes."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def guarded(text: str) -> str:
    """Return a path or a label with a leading `'` where a spreadsheet would run it, or take one off, as a formula.

    Source: OWASP, "CSV Injection".

    >>> guarded("=cmd()"), guarded("'=cmd()"), guarded("a-b")
    ("'=cmd()", "''=cmd()", 'a-b')
    """
    return "'" + text if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """Return what was given to `guarded`.

    >>> unguarded("'=cmd()"), unguarded("'twas")
    ('=cmd()', "'twas")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def is_guarded(columns: Sequence[str]) -> bool:
    """Say whether a table with these columns is one of ours, to which a person may have added further ones."""
    return any(tuple(columns[: len(ours)]) == ours for ours in (CLEANED, SUGGESTED))
