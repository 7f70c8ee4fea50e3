"""The recipe's options as options of a verb. Values are passed on as text: the recipe alone judges them."""

from __future__ import annotations

import functools
import inspect
import json
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from tellapart.errors import RecipeError
from tellapart.files import KeyTwiceError, each_once
from tellapart.recipe import Option, Recipe, parse_duration

__all__ = ["DebugFlag", "JsonFlag", "read_recipe", "with_recipe_options"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else there.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show the trace when something fails.")]


def with_recipe_options(function: Callable[..., int], names: Collection[str] | None = None) -> Callable[..., int]:
    """Return `function` for typer, with its `**options` spelled out: every option of the recipe, or those in `names`.

    `function` is called with those alone that the user gave.
    """
    options = [option for option in Recipe.options() if names is None or option.name in names]
    signature = inspect.signature(function, eval_str=True)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]

    @functools.wraps(function)
    def command(**values: Any) -> int:
        given = {option.name: values.pop(option.name) for option in options}
        return function(**values, **{name: value for name, value in given.items() if value is not None})

    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *(_parameter(option) for option in options)]
    )
    return command


def read_recipe(path: Path) -> Recipe:
    """Read a `recipe.json`, or the same as TOML (`*.toml`).

    Raises RecipeError when it cannot be read or holds a wrong name or value.
    """
    kind = "TOML" if path.suffix.lower() == ".toml" else "JSON"
    try:
        text = path.read_text(encoding="utf-8")
        nested = tomllib.loads(text) if kind == "TOML" else json.loads(text, object_pairs_hook=each_once)
    except KeyTwiceError as error:
        raise RecipeError("recipe_unreadable", f"--recipe {path} has {error}.", "Keep one of the two.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(
            "recipe_unreadable",
            f"--recipe {path} cannot be read as {kind} ({type(error).__name__}: {error}).",
            "Give the recipe.json of a run folder, or the same as TOML in a file that ends in .toml.",
        ) from None
    if not isinstance(nested, dict):
        raise RecipeError(
            "recipe_unreadable", f"--recipe {path} holds no JSON object.", "Give the recipe.json of a run folder."
        )
    try:
        return Recipe.parse(nested)
    except RecipeError as error:
        raise RecipeError(error.code, f"In {path}: {error.message}", error.next) from None


def _parameter(option: Option) -> inspect.Parameter:
    flag = f"--{option.name.replace('_', '-')}"
    is_flag = option.type is bool
    info = typer.Option(
        f"{flag}/--no-{flag[2:]}" if is_flag else flag,
        help=f"{option.help} {_default(option)}".strip(),
        metavar=None if is_flag else _metavar(option),
        show_default=False,
        rich_help_panel=f"{option.section or 'run'} options".capitalize(),
    )
    kind = bool if is_flag else str
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _metavar(option: Option) -> str:
    if option.choices:
        return "|".join(option.choices)
    text = str(option.type)
    if parse_duration.__name__ in text:
        return "TIME"
    if get_origin(option.type) is tuple:
        return ",".join("N" for _ in get_args(option.type))
    words = [word for arm in get_args(option.type) for word in get_args(arm) if isinstance(word, str)]
    return "|".join([*words, "N"]) if "int" in text else "X" if "float" in text else "TEXT"


def _default(option: Option) -> str:
    if option.default is None or option.type is bool:
        return ""
    value = ",".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
    return f"Default: {value}."
