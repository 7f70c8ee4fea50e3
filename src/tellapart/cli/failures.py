"""Whatever went wrong, as one sentence (or one JSON object) and an exit code."""

from __future__ import annotations

import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import typer

from tellapart.cli.output import json_line, reader_left, said
from tellapart.cli.start import follows
from tellapart.cli.verbs import VERBS
from tellapart.errors import InputError, InterruptedRunError, TellapartError, did_you_mean
from tellapart.files import is_full
from tellapart.interrupts import signalled_by
from tellapart.memory import out_of_memory

__all__ = ["failed"]

# A verb that knows its run folder leaves it with the exception (PEP 678), so that the trace can be kept there.
RUN_NOTE = "run folder: "


def failed(error: BaseException, arguments: Sequence[str]) -> int:
    """Say what went wrong and return the exit code.

    Text goes to standard error; with `--json` among the arguments, `{"error": ...}` goes to standard output instead.
    A trace is shown with `--debug` only, and kept in a file where the fault is ours.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    options = _options(arguments)
    told = _told(error, arguments)
    if "--debug" in options:
        traceback.print_exception(error)
    if follows():
        return told.exit_code  # the process of rank 0 says it
    if "--json" not in options or not _written(json_line({"error": told.as_json()})):
        sys.stderr.write(f"tellapart: {said(told)}")
    return told.exit_code


def _written(text: str) -> bool:
    """Write to standard output; return False where it takes nothing, and let it be asked no more."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        reader_left()
        return False
    return True


def _told(error: BaseException, arguments: Sequence[str]) -> TellapartError:
    if isinstance(error, TellapartError):
        return error
    if isinstance(error, typer.TyperException):
        return _usage(error, arguments)
    signalled = signalled_by(error)
    if signalled is not None or isinstance(error, KeyboardInterrupt | typer.Abort):
        return _interrupted(signal.SIGINT if signalled is None else signalled.number)
    if isinstance(error, OSError) and is_full(error):
        where = f" for {error.filename}" if error.filename else ""
        return InputError("no_space", f"There is no room left to write{where}.", "Make room, and run it again.")
    verb = next((argument for argument in arguments if argument in VERBS), None)
    if (told := out_of_memory(error, verb or "It")) is not None:
        return told
    trace = _keep_trace(error)
    return TellapartError(
        "internal_error",
        f"tellapart failed ({type(error).__name__}: {error}); this is a fault of ours, not of your input.",
        f"The trace is in {trace}; please report it." if trace else "Run it again with --debug to see the trace.",
    )


def _interrupted(number: int) -> InterruptedRunError:
    told = InterruptedRunError(number)
    told.message = "It was interrupted, and ended at once."  # whatever it was, and whether or not a model was kept
    return told


def _usage(error: typer.TyperException, arguments: Sequence[str]) -> InputError:
    """Return a command line that typer refused as an error of ours."""
    verb = next((argument for argument in arguments if argument in VERBS), None)
    next_step = f"See: tellapart {verb} --help" if verb else "See: tellapart --help"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        known = _known_options(verb)
        if verb is not None and _stands_before(option, verb, arguments):
            return InputError(
                "option_before_verb",
                f"{option} stands before the verb {verb}; options come after it."
                f"{'' if option in known else did_you_mean(option, known)}",
                f"Write: tellapart {verb} ... {option if option in known else '--option'}",
            )
        place = f" of {verb}" if verb else ""
        return InputError(
            "unknown_option", f"{option} is not an option{place}.{did_you_mean(option, known)}", next_step
        )
    message = " ".join(error.format_message().split())
    return InputError("usage", message if message.endswith((".", "?")) else f"{message}.", next_step)


def _stands_before(option: str, verb: str, arguments: Sequence[str]) -> bool:
    before = arguments[: list(arguments).index(verb)]
    return any(argument.split("=", 1)[0] == option for argument in before)


def _known_options(verb: str | None) -> list[str]:
    if verb is None:
        return ["--help", "--version"]
    from tellapart.cli.verbs import command

    return [name for parameter in command(verb).params for name in (*parameter.opts, *parameter.secondary_opts)]


def _options(arguments: Sequence[str]) -> list[str]:
    """Return the arguments before a lone `--`."""
    return list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)


def _keep_trace(error: BaseException) -> Path | None:
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    notes = [note.removeprefix(RUN_NOTE) for note in getattr(error, "__notes__", ()) if note.startswith(RUN_NOTE)]
    for folder in (*(Path(note) for note in notes), None):
        try:
            if folder is not None:
                path = folder / "trace.txt"
                path.write_bytes(text)
            else:
                with tempfile.NamedTemporaryFile(prefix="tellapart-", suffix=".txt", delete=False) as file:
                    file.write(text)
                path = Path(file.name)
        except OSError:
            continue
        return path
    return None
