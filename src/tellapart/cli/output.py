"""What goes to standard output, and how odd names are kept from harming a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from tellapart.errors import InputError, TellapartError
from tellapart.files import finite

__all__ = [
    "accept_any_name",
    "json_line",
    "none_answered",
    "picture_refused",
    "printable",
    "reader_left",
    "results_only",
    "said",
]


def accept_any_name() -> None:
    """Let standard output and error print any name: what their encoding lacks is escaped, never an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    r"""Return `text` on one line with control, invisible and undecodable characters escaped.

    >>> printable("a\x1b[2Jb\n")
    'a\\x1b[2Jb\\n'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def json_line(value: Any) -> str:
    """Return `value` as one line of ASCII JSON, ended by a newline; numbers that are not finite become null."""
    return json.dumps(finite(value), ensure_ascii=True, allow_nan=False) + "\n"


def said(error: TellapartError) -> str:
    """Return an error as a person is told it: what is wrong, what to do next, and its section of docs/errors.md."""
    return f"{printable(str(error))} [{error.code}]\n"


def picture_refused(path: str, error: TellapartError) -> str:
    """Return the line that takes the place of a picture's answer."""
    return f"{printable(path)}: {said(error)}"


def none_answered(count: int) -> int:
    """Say that none of `count` pictures could be answered, after a line for each; return the exit code."""
    which = "The one picture" if count == 1 else f"None of the {count:,} pictures"
    error = InputError(
        "none_answered",
        f"{which} could{' not' if count == 1 else ''} be answered.",
        "Why is told above: put that right, or give other pictures.",
    )
    sys.stderr.write(f"tellapart: {said(error)}")
    return error.exit_code


@contextlib.contextmanager
def results_only() -> Iterator[TextIO]:
    """Give standard output for results alone; what a library prints meanwhile goes to standard error."""
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield out
    out.flush()


def reader_left() -> int:
    """Standard output was closed by its reader (`| head`): end quietly, with exit code 0.

    Python flushes standard output once more when it exits; that must not fail a second time.
    """
    sink = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(sink, sys.stdout.fileno())
    return 0
