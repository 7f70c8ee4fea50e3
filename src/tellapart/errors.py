"""Every error that tellapart raises on purpose, in one tree.

A message is one sentence that says what is wrong, what was got, what is allowed, and what to do next. `assert` is kept
for our own bugs.

    TellapartError            exit code 1
    ├── InputError            exit code 2: the user's input; nothing was lost or half written
    │   ├── PictureError      one picture refused, with a stable code
    │   ├── DataError         a folder, table or label that cannot be used
    │   ├── RecipeError       an option with a wrong name or value
    │   ├── BundleError       a bundle that is damaged, hostile or too new
    │   └── MissingExtraError an optional dependency is not installed
    ├── GateError             exit code 3: a gate said no
    └── InterruptedRunError   exit code 130 or 143: the user or the system asked to stop
        └── OutOfTimeError    the budget is used up: one part of a run is cut short, the run goes on
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BundleError",
    "DataError",
    "GateError",
    "InputError",
    "InterruptedRunError",
    "MissingExtraError",
    "OutOfTimeError",
    "PictureError",
    "RecipeError",
    "TellapartError",
    "did_you_mean",
]


class TellapartError(Exception):
    """The root of the tree: `message` is one sentence, `next` says what to do, `code` is a stable name."""

    exit_code = 1

    def __init__(self, code: str, message: str, next: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next = next

    def __str__(self) -> str:
        return f"{self.message} {self.next}".strip()

    def as_json(self) -> dict[str, str]:
        """Return the object that `--json` prints under `"error"`."""
        return {"code": self.code, "message": self.message, "next": self.next}


class InputError(TellapartError):
    """The user's input cannot be used; nothing was lost or half written."""

    exit_code = 2


class PictureError(InputError):
    """One picture is refused; `code` is the stable reason, such as `truncated` or `not_an_image`."""


class DataError(InputError):
    """A data set cannot be used: its folders, its table, its labels."""


class RecipeError(InputError):
    """An option is misspelt, of the wrong type or out of range."""


class BundleError(InputError):
    """A bundle is damaged, hostile, or made by a newer version."""


class MissingExtraError(InputError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(
            "missing_extra",
            f"{what} needs the extra [{extra}], which is not installed.",
            f'Install it with: pip install "tellapart[{extra}]"',
        )


class GateError(TellapartError):
    """A gate said no: what was made is not good enough to hand out."""

    exit_code = 3


class InterruptedRunError(TellapartError):
    """The run was asked to stop before it had anything to keep."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted", "The run was interrupted before there was a model to keep.", "Run it again.")
        self.exit_code = 128 + signal_number if signal_number else 0


class OutOfTimeError(InterruptedRunError):
    """The budget is used up: whoever gets this returns what it has, or lets it pass."""

    def __init__(self) -> None:
        super().__init__(0)
        self.code = "out_of_time"
        self.message = "The budget was used up before there was a model to keep."
        self.next = "Give a longer --budget."


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the closest of `allowed`, or an empty string when none is close."""
    close = difflib.get_close_matches(got, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
