"""`tellapart demo`."""

from __future__ import annotations

from typing import Any

from tellapart.cli.options import DebugFlag, JsonFlag, with_recipe_options
from tellapart.cli.train import OutOption, show_run

__all__ = ["demo"]


@with_recipe_options
def demo(*, out: OutOption = None, as_json: JsonFlag = False, debug: DebugFlag = False, **options: Any) -> int:
    """Show the whole path on a small built-in set of handwritten digits, offline."""
    from tellapart import api

    return show_run(lambda watch: api.demo(out, watch=watch, **options), as_json)
