"""Pictures without class folders: files, folders, globs and archives that a person names, all under one label."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tellapart.data.archive import is_archive, unpacked
from tellapart.data.listing import Entry, Listing
from tellapart.data.manifest import Excluded, Manifest
from tellapart.data.scan import scan_listing
from tellapart.errors import DataError
from tellapart.events import Steps
from tellapart.recipe import Recipe
from tellapart.runtime.predictor import Failure
from tellapart.runtime.sources import expand

__all__ = ["pool"]


def pool(named: Sequence[str | Path], label: str, recipe: Recipe, cache: Path) -> Steps[Manifest]:
    """Read and group the pictures that `named` stand for, as `predict` takes them; every row has `label`, and is train.

    Paths are relative to the folder that was named, or to the one that holds all that was. Nothing is written but the
    cache. Raises InputError where nothing is found, DataError (`no_pictures`) where nothing of it can be used.
    """
    places = []
    for item in map(Path, named):
        places.append((yield from unpacked(item, cache)).folder if is_archive(item) else item)
    files: dict[str, None] = {}
    excluded: list[Excluded] = []
    for found in expand(places):
        if isinstance(found, Failure):
            excluded.append(Excluded(str(found.path), found.error.code, found.error.message))
        else:
            files.setdefault(os.path.abspath(found))
    if len(places) == 1 and places[0].is_dir():
        root = os.path.abspath(places[0])
    else:
        root = os.path.commonpath([os.path.dirname(file) for file in files]) if files else os.getcwd()
    entries = [Entry(Path(os.path.relpath(file, root)).as_posix(), label) for file in sorted(files)]
    name = ", ".join(str(item) for item in named[:3]) + (" and more" if len(named) > 3 else "")
    listing = Listing(Path(root), name, entries, excluded, splits=False)
    try:
        return (yield from scan_listing(listing, Recipe.of(recipe, val=0.0, test=0.0), cache, "check"))
    except DataError as error:
        if error.code != "no_pictures":
            raise
        raise DataError(error.code, error.message, "Name JPEG, PNG, WebP, GIF, BMP or TIFF pictures.") from None
