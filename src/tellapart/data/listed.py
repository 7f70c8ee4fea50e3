"""What the user named, listed: a folder, a table, or an archive of either. No picture is decoded."""

from __future__ import annotations

from pathlib import Path

from tellapart.data.archive import Unpacked
from tellapart.data.layout import list_folder
from tellapart.data.listing import Listing, is_picture, shown, some
from tellapart.data.table import fits, list_table
from tellapart.data.table_rows import SUFFIXES
from tellapart.data.walk import walk
from tellapart.errors import DataError, RecipeError
from tellapart.events import Steps
from tellapart.recipe import Recipe

__all__ = ["listed"]

_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")


def listed(data: Path, recipe: Recipe, place: Unpacked | None = None) -> Steps[Listing]:
    """List the pictures at `data`; of an archive, those at the `place` that it lies unpacked at.

    Raises DataError when it is nothing that can be listed, or can be read in two ways, RecipeError where options name
    columns and there is no table.
    """
    return (yield from (_plain(data, recipe) if place is None else _unpacked(place, recipe)))


def _plain(data: Path, recipe: Recipe) -> Steps[Listing]:
    named = shown(str(data))
    if data.is_dir():
        _refuse_columns(named, recipe)
        return (yield from list_folder((yield from walk(data)), recipe.data))
    if not data.exists():
        raise DataError("no_data", f"{named} does not exist.", "Give a folder of pictures, or a table that lists them.")
    suffix = data.suffix.lower()
    if suffix in SUFFIXES and data.is_file():
        return (yield from list_table(data, recipe.data))
    if is_picture(data):
        raise DataError("data_is_picture", f"{named} is a single picture.", "Give a folder with a folder per class.")
    if suffix in _ARCHIVES:
        raise DataError(
            "data_is_archive", f"{named} is an archive of a kind that is not read; zip and tar are.", "Unpack it."
        )
    raise DataError(
        "unknown_data",
        f"{named} is neither a folder nor a table nor an archive; tables end in {', '.join(SUFFIXES)}.",
        "Give a folder with a folder per class, a table, or a .zip or .tar of either.",
    )


def _unpacked(place: Unpacked, recipe: Recipe) -> Steps[Listing]:
    """List what came out of an archive: by the table in it, where there is one with paths and labels."""
    tables = [path for path in sorted(place.folder.iterdir()) if path.suffix.lower() in SUFFIXES and path.is_file()]
    fitting = [path for path in tables if fits(path, recipe.data)]
    if len(fitting) > 1:
        raise DataError(
            "ambiguous_layout",
            f"{shown(place.name)} holds several tables of pictures: {some([path.name for path in fitting])}.",
            "Unpack it, and give one of them.",
        )
    if fitting:
        return (yield from list_table(fitting[0], recipe.data, place.name))
    if tables and _columns_asked(recipe):
        return (yield from list_table(tables[0], recipe.data, place.name))  # it says which column is not there
    _refuse_columns(shown(place.name), recipe)
    try:
        return (yield from list_folder((yield from walk(place.folder, place.name)), recipe.data))
    except DataError as error:
        if error.code == "no_classes" and tables:
            return (yield from list_table(tables[0], recipe.data, place.name))  # it says what is amiss with it
        raise


def _columns_asked(recipe: Recipe) -> list[str]:
    """Return the options that name a column."""
    data = recipe.data
    asked = {"path": data.path_column, "label": data.label_column, "split": data.split_column}
    return [f"--{role}-column" for role, name in {**asked, "group": data.group_column}.items() if name is not None]


def _refuse_columns(name: str, recipe: Recipe) -> None:
    """Refuse the name of a column where no table is read, rather than pass over the wish."""
    if asked := _columns_asked(recipe):
        raise RecipeError(
            "no_table",
            f"{' and '.join(asked)} cannot be followed: {name} is read by its folders, and only a table has columns.",
            "Leave it out, or give the table itself as DATA.",
        )
