"""Faces: the command line. It holds no logic."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

__all__ = ["main", "script"]


def script() -> NoReturn:
    """Be the program `tellapart`: run the command line, and end the process with its exit code.

    torch takes seconds to take itself apart, which no budget counts; where it was loaded, what was registered for the
    end is done, and the system does the rest.
    """
    code = main()
    if "torch" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        atexit._run_exitfuncs()
        os._exit(code)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (`sys.argv[1:]` by default) and return the exit code.

    A budget counts from the creation of the process or, with `arguments`, from this call.

    0 done; 1 our fault; 2 the user's input; 3 a gate said no; 130 and 143 interrupted.
    """
    from tellapart.cli.start import called
    from tellapart.interrupts import at_once

    called(inside=arguments is not None)
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Before the other imports, which take a while.
    with _standard_error() as words, at_once(lambda: _tell_interrupted(given, words), last=arguments is None):
        try:
            from tellapart.cli import output, verbs

            output.accept_any_name()
            code = verbs.run(given or ["--help"])
            sys.stdout.flush()
        except BrokenPipeError:
            from tellapart.cli.output import reader_left

            return reader_left()
        except BaseException as error:
            from tellapart.cli.failures import failed

            return failed(error, given)
        return code


@contextlib.contextmanager
def _standard_error() -> Iterator[int]:
    """Give a descriptor that stays standard error while what is imported turns the usual one elsewhere."""
    try:
        descriptor = os.dup(2)
    except OSError:  # it is closed
        yield 2
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _tell_interrupted(given: Sequence[str], words: int) -> None:
    """Tell of an interrupt while the command starts: the words of `cli.failures`, without an import."""
    said, step = "It was interrupted, and ended at once.", "Run it again."
    if "--json" in given[: given.index("--")] if "--" in given else "--json" in given:
        os.write(1, f'{{"error": {{"code": "interrupted", "message": "{said}", "next": "{step}"}}}}\n'.encode())
    else:
        os.write(words, f"tellapart: {said} {step} [interrupted]\n".encode())
