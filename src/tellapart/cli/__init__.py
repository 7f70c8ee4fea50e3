"""Faces: the command line. It holds no logic."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on `arguments` (`sys.argv[1:]` by default) and return the exit code.

    0 done; 1 our fault; 2 the user's input; 3 a gate said no; 130 and 143 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:  # the imports too: Ctrl-C may come while they are under way
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
