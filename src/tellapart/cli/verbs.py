"""The verbs, and the group that imports a verb's module only when that verb is run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from tellapart.cli.output import reader_left
from tellapart.errors import InputError, did_you_mean

__all__ = ["VERBS", "command", "run"]

# verb -> the first line of its function's docstring. Kept here so that `--help` imports no verb; a test compares them.
VERBS = {
    "train": "Learn to tell apart the pictures in DATA: check, split, climb the ladder, report, bundle.",
    "check": "Look for what is wrong with the pictures in DATA: broken, twice, leaking, mislabelled, odd.",
    "predict": "Name the class of each of PICTURES: files, folders, globs or archives.",
    "evaluate": "Measure BUNDLE on labelled pictures in DATA.",
    "export": "Write BUNDLE anew for another machine: smaller, faster, and judged on real pictures.",
    "bench": "Measure BUNDLE on this machine, say where the time goes, and keep the fastest setting.",
    "explain": "Show where in PICTURES the evidence for an answer lies, and what speaks for the runner-up.",
    "suggest": "Say which of PICTURES to label first: what BUNDLE is unsure of, or what is typical to WEIGHTS.",
    "add-class": "Add the class NAME to BUNDLE from PICTURES of it, in seconds, and show what it costs the others.",
    "tune": "Search for a better recipe for DATA: trials within --budget altogether, the default one first.",
    "demo": "Show the whole path on a small built-in set of handwritten digits, offline.",
}


class _Verb(TyperCommand):
    """A verb whose help shows what a flag takes: nothing."""

    def get_params(self, ctx: Any) -> Any:
        return _flags_bare(super().get_params(ctx))


class _LazyGroup(TyperGroup):
    """Lists verbs from the table; loads the one that is run."""

    def get_params(self, ctx: Any) -> Any:
        return _flags_bare(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        return TyperCommand(cmd_name, help=VERBS[cmd_name]) if cmd_name in VERBS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        verb = args[0]
        if verb not in VERBS:
            raise InputError(
                "unknown_verb", f"{verb!r} is not a verb.{did_you_mean(verb, VERBS)}", f"Verbs: {', '.join(VERBS)}."
            )
        return verb, command(verb), args[1:]

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().make_context(*arguments, **options)
        except KeyboardInterrupt as error:  # as below
            raise typer.Abort from error

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # here, because typer would make exit code 1 of it
            return reader_left()
        except KeyboardInterrupt as error:  # here, because typer would make exit code 130 of it without a word
            raise typer.Abort from error


def _flags_bare(parameters: list[Any]) -> list[Any]:
    """Return the parameters, with no `<bool>` after the names of flags in the help."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


def command(verb: str) -> Any:
    """Import a verb's module and return its typer command."""
    name = verb.replace("-", "_")
    function: Callable[..., int] = getattr(importlib.import_module(f"tellapart.cli.{name}"), name)
    app = typer.Typer(add_completion=False)
    app.command(verb, cls=_Verb)(function)
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Parse `arguments`, run the verb and return its exit code. Raises InputError where one of them is empty."""
    for place, argument in enumerate(arguments):
        names_an_option = argument.startswith("--") and "--" not in arguments[:place]
        if not argument or (names_an_option and argument.endswith("=")):
            before = (
                f"after {arguments[place - 1]}" if place and not argument else f"{argument}" if argument else "first"
            )
            raise InputError(
                "empty_argument",
                f"An argument of the command is empty ({before}), which names nothing.",
                "Write what was meant, or . for this folder; a variable of the shell may be unset.",
            )
    app = typer.Typer(cls=_LazyGroup, help=_HELP, epilog=_EPILOG, add_completion=False)
    app.callback()(_top)
    outcome = typer.main.get_command(app).main(arguments, prog_name="tellapart", standalone_mode=False)
    return outcome if isinstance(outcome, int) else 0


_HELP = "Teach a computer to tell pictures apart: from a folder of photos to an honest, shippable classifier."
_EPILOG = "Begin with: tellapart train photos/ (a folder for each class), or: tellapart demo"


def _show_version(wanted: bool) -> None:
    if wanted:
        from tellapart import __version__

        typer.echo(f"tellapart {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
