"""The folder of a search: made, or that of a search of the same pictures around the same recipe, to go on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tellapart import files
from tellapart.cache import cache_root
from tellapart.data.changes import changes_since
from tellapart.data.listing import shown
from tellapart.data.manifest import Manifest
from tellapart.errors import DataError, RecipeError
from tellapart.events import Steps
from tellapart.ladder.folder import beside
from tellapart.locks import Lock, claim
from tellapart.recipe import Recipe

__all__ = ["MANIFEST", "prepare"]

MANIFEST = "manifest.jsonl"
"""The pictures that a search began with, in its folder."""

_ABOUT, _LOCK = "search.json", "lock"


def prepare(data: Path, out: Path | None, recipe: Recipe) -> Steps[tuple[Path, Lock]]:
    """Return the folder of a search and its lock.

    Raises DataError where it cannot be used, or where pictures have changed since its search began (`other_data`),
    RecipeError (`other_recipe`) where it holds a search around another recipe.
    """
    if not data.exists():
        raise DataError("no_data", f"{data} does not exist.", "Give a folder of pictures, or a table that lists them.")
    folder = beside(data, "tune") if out is None else out
    if data.is_dir() and folder.resolve().is_relative_to(data.resolve()):
        raise DataError(
            "out_inside_data",
            f"--out {folder} lies inside the pictures' folder {data}, where nothing is ever written.",
            "Choose a folder outside of it.",
        )
    if folder.exists() and not folder.is_dir():
        raise DataError("out_not_a_folder", f"--out {folder} is a file.", "Choose a folder that is new or empty.")
    known = folder / _ABOUT
    if folder.is_dir() and not known.exists() and any(path.name != _LOCK for path in folder.iterdir()):
        raise DataError(
            "out_not_empty",
            f"--out {folder} is not empty and holds no search of tellapart.",
            "Choose a folder that is new or empty.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = claim(folder / _LOCK)
        if not isinstance(held, Lock):
            raise DataError(
                "run_in_use",
                f"The folder {folder} is in use by {held.words}.",
                "Wait until it ends (a file named STOP in the folder ends it), or choose another with --out.",
            )
        try:
            _remember(known, data, recipe)
            yield from _refuse_changed(data, folder, recipe)
            (folder / "STOP").unlink(missing_ok=True)  # it was meant for the search before
        except BaseException:
            held.release()
            raise
    except OSError as error:
        raise DataError(
            "cannot_write",
            f"The folder {folder} cannot be written ({error.strerror or error}).",
            "Give another with --out.",
        ) from None
    return folder, held


def _remember(known: Path, data: Path, recipe: Recipe) -> None:
    """Keep what the search is of; refuse to go on with another one. How long it may take is free to change."""
    plain: dict[str, Any] = recipe.model_dump(mode="json")
    for name in ("budget", "threads", "checkpoint_every"):
        plain["fit"].pop(name, None)
    about = {"data": str(data.resolve()), "recipe": plain}
    if not known.exists():
        files.write_json(known, about)
        return
    try:
        before = json.loads(known.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("damaged_search", f"{known} cannot be read ({error}).", "Start in a new folder.") from None
    if before != about:
        what = "other options" if isinstance(before, dict) and before.get("data") == about["data"] else "other pictures"
        raise RecipeError(
            "other_recipe",
            f"The search in {known.parent} is one with {what}.",
            "Give the same ones, or choose another folder with --out.",
        )


def _refuse_changed(data: Path, folder: Path, recipe: Recipe) -> Steps[None]:
    """Refuse to go on with other pictures: losses of trials are compared, and would no longer be of the same ones."""
    if not (folder / MANIFEST).exists():
        return
    before = Manifest.read(folder / MANIFEST)
    if changes := (yield from changes_since(before, data, recipe, cache_root(folder))):
        raise DataError(
            "other_data",
            f"The pictures in {shown(str(data))} are not those that the search in {folder} began with: {changes}. "
            "Nothing was written.",
            "Put them back as they were, or start a new search with another --out.",
        )
