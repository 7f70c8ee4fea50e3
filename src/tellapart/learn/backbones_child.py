"""The program that exports a backbone or fetches its weights, so that torch stays out of the process that asks.

    python -m tellapart.learn.backbones_child export FOLDER IMAGE_SIZE GRAPH.onnx
    python -m tellapart.learn.backbones_child fetch NAME

Lines of stdout are JSON objects; the last says what was done, or is `{"error": {"code", "message", "next"}, "kind"}`.
The program ends when its stdin closes, and so never outlives the one that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tellapart.errors import InputError, RecipeError, TellapartError

__all__ = ["main"]

Tell = Callable[[dict[str, object]], None]


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit status is 0 when it was done."""
    _end_with_the_parent()
    with _stdout_for_answers() as tell:
        try:
            tell(_done(arguments, tell))
        except TellapartError as error:
            tell({"error": error.as_json(), "kind": "input" if isinstance(error, InputError) else "ours"})
            return 1
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).strip()[:200]}"
            tell({"error": {"code": "export_failed", "message": text, "next": ""}, "kind": "unforeseen"})
            return 1
    return 0


def _done(arguments: list[str], tell: Tell) -> dict[str, object]:
    verb, subject = arguments[:2]
    if verb == "fetch":
        from tellapart.learn.torch_export import fetch

        return fetch(subject, tell)
    if not Path(subject).is_dir():
        raise RecipeError("no_such_weights", f"The backbone's folder {subject} is gone.", "Choose another --backbone.")
    image_size, target = int(arguments[2]), Path(arguments[3])
    from tellapart.learn.torch_export import export_folder

    return export_folder(Path(subject), image_size, target)


def _end_with_the_parent() -> None:
    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):
            while os.read(0, 1024):
                pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _stdout_for_answers() -> Iterator[Tell]:
    """Keep stdout for answers: whatever else is printed meanwhile goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        yield lambda answer: print(json.dumps(answer), file=answers, flush=True)
    finally:
        answers.close()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(status)  # whoever waits for the end need not wait until torch has taken itself apart
