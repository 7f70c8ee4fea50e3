"""Options are declared once, refused with a suggestion, and survive a round trip."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.errors import RecipeError
from tellapart.recipe import Recipe, parse_duration


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400), (" 2 M ", 120)])
def test_a_duration_is_read_in_the_units_people_type(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.floats(min_value=5, max_value=1e6, allow_nan=False))
def test_a_budget_in_seconds_is_kept_exactly(seconds: float) -> None:
    assert Recipe.of(budget=seconds).budget_seconds == seconds


def test_case_105_a_misspelt_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match=r"'bugdet' is not an option\. Did you mean 'budget'\?"):
        Recipe.of(bugdet="5m")


def test_a_misspelt_value_is_refused_with_the_nearest_choice() -> None:
    with pytest.raises(RecipeError, match=r"--method got 'prob'; allowed are .*Did you mean 'probe'\?"):
        Recipe.of(method="prob")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"budget": "4s"}, "--budget"),
        ({"budget": "soon"}, "--budget"),
        ({"val": 0.9}, "--val"),
        ({"image_size": 4}, "--image-size"),
        ({"seed": -1}, "--seed"),
        ({"background": (1, 2)}, "--background"),
    ],
)
def test_case_105_a_value_out_of_range_names_its_option(options: dict[str, object], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        Recipe.of(**options)


@pytest.mark.parametrize("colour", ["red", "1,2", "1,2,300", (-1, 0, 0), (1.5, 0, 0), 7, None, ["1", "2", "x"]])
def test_a_colour_that_is_none_is_refused_in_one_sentence(colour: object) -> None:
    with pytest.raises(RecipeError) as refused:
        Recipe.of(background=colour)
    assert refused.value.message == (
        f"--background got {colour!r}; expected three numbers from 0 to 255 such as 255,255,255."
    )


@pytest.mark.parametrize("colour", ["0, 128,255", (0, 128, 255), [0, 128, 255], ["0", "128", "255"]])
def test_a_colour_is_read_as_people_write_it(colour: object) -> None:
    assert Recipe.of(background=colour).data.background == (0, 128, 255)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(RecipeError, match=r"--val .*--effort"):
        Recipe.of(val=-1.0, effort="hard")


def test_a_fault_of_one_option_is_said_once() -> None:
    with pytest.raises(RecipeError) as refused:
        Recipe.parse({"fit": {"epoch": 3}, "model": {"epoch": 3}})
    assert refused.value.message.count("'epoch' is not an option") == 1


def test_case_105_an_unknown_key_of_a_recipe_file_is_refused() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'epochs'"):
        Recipe.parse({"fit": {"epoch": 3}})


def test_a_recipe_survives_its_file() -> None:
    recipe = Recipe.of(budget="5m", method="probe", background=(0, 0, 0), seed=7)
    assert Recipe.parse(json.loads(json.dumps(recipe.model_dump(mode="json")))) == recipe


def test_options_lie_over_a_given_recipe() -> None:
    base = Recipe.of(method="probe", seed=3)
    assert Recipe.of(base, seed=4).model.method == "probe"
    assert Recipe.of(base, seed=4).seed == 4


def test_the_budget_follows_the_effort_where_none_is_given() -> None:
    efforts = [Recipe.of(effort=effort).budget_seconds for effort in ("quick", "balanced", "best")]
    assert efforts == [120.0, 600.0, 3600.0]
    assert all(math.isfinite(seconds) for seconds in efforts)


def test_every_option_says_what_it_does_and_no_name_stands_twice() -> None:
    options = Recipe.options()
    assert all(option.help.endswith(".") for option in options)
    assert len({option.name for option in options}) == len(options)


@pytest.mark.parametrize(("given", "kept"), [("auto", "auto"), ("last", "last"), ("3", 3), (" 12 ", 12), (1, 1)])
def test_tune_is_a_word_or_how_many_blocks(given: object, kept: object) -> None:
    recipe = Recipe.of(tune=given)
    assert recipe.model.tune == kept
    assert Recipe.parse(recipe.model_dump()) == recipe


@pytest.mark.parametrize("given", ["0", 0, -1, "-3", "lats", "1.5", 2.0, True, None, ""])
def test_any_other_tune_is_one_sentence(given: object) -> None:
    with pytest.raises(RecipeError, match=r"--tune got .*; expected auto, head, last, all or how many"):
        Recipe.of(tune=given)
