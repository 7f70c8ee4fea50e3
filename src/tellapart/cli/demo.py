"""`tellapart demo`."""

from __future__ import annotations

from typing import Any

from tellapart.cli.options import DebugFlag, JsonFlag, with_recipe_options
from tellapart.cli.train import OutOption, show_run
from tellapart.recipe import Recipe

__all__ = ["demo"]

# The pictures are built in, so nothing about reading a user's folder or table is offered.
OPTIONS = tuple(option.name for option in Recipe.options() if option.section != "data")


def _demo(*, out: OutOption = None, as_json: JsonFlag = False, debug: DebugFlag = False, **options: Any) -> int:
    """Show the whole path on a small built-in set of handwritten digits, offline."""
    from tellapart import api

    return show_run(lambda watch: api.demo(out, watch=watch, **options), as_json)


demo = with_recipe_options(_demo, OPTIONS)
