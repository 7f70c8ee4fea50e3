"""The option surface is frozen: a new option needs a reason, and a line in `options.txt`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tellapart.cli.options import read_recipe, with_recipe_options
from tellapart.cli.verbs import VERBS, command
from tellapart.errors import RecipeError
from tellapart.recipe import Recipe

GOLDEN = Path(__file__).with_name("options.txt")


def surface() -> list[str]:
    lines = []
    for verb in VERBS:
        for parameter in command(verb).params:
            names = "/".join([*parameter.opts, *parameter.secondary_opts])
            lines.append(f"{verb} {names} {parameter.metavar or ''}".strip())
    return lines


def test_the_options_are_those_written_down() -> None:
    assert surface() == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_every_option_of_the_recipe_is_an_option_of_train() -> None:
    offered = {name for parameter in command("train").params for name in parameter.opts}
    assert {f"--{option.name.replace('_', '-')}" for option in Recipe.options()} <= offered


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_help(verb: str) -> None:
    assert [parameter.name for parameter in command(verb).params if not (parameter.help or "").strip()] == []


def given_by(arguments: list[str]) -> dict[str, Any]:
    """Return what a verb with the recipe's options is called with."""
    import typer

    seen: dict[str, Any] = {}

    def verb(**options: Any) -> int:
        seen.update(options)
        return 0

    app = typer.Typer(add_completion=False)
    app.command()(with_recipe_options(verb))
    build: Callable[..., Any] = typer.main.get_command(app).main
    build(arguments, standalone_mode=False)
    return seen


def test_only_what_was_given_reaches_the_recipe() -> None:
    assert given_by([]) == {}
    given = given_by(["--budget", "5m", "--no-reference", "--background", "1,2,3", "--image-size=96", "--seed", "7"])
    recipe = Recipe.of(**given)
    assert recipe.fit.budget == 300.0
    assert recipe.fit.reference is False
    assert recipe.data.background == (1, 2, 3)
    assert recipe.model.image_size == 96
    assert recipe.seed == 7


def test_a_saved_recipe_is_read_back(tmp_path: Path) -> None:
    recipe = Recipe.of(method="probe", budget="90s", background=(1, 2, 3))
    path = tmp_path / "recipe.json"
    path.write_text(recipe.model_dump_json())
    assert read_recipe(path) == recipe


@pytest.mark.parametrize("content", ["", "[]", "{", '{"fit": {"bugdet": 3}}', '{"fit": 3}'])
def test_a_broken_recipe_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(content)
    with pytest.raises(RecipeError):
        read_recipe(path)


def test_a_recipe_that_says_one_thing_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.json"
    path.write_text('{"fit": {"epochs": 3, "budget": 60, "epochs": 5}}')
    with pytest.raises(RecipeError, match="has the key 'epochs' twice"):
        read_recipe(path)
