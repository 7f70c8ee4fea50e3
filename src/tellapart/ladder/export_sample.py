"""The pictures by which an export is made and judged: those that the model was trained and validated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.manifest import Manifest, Row
from tellapart.data.scan import scan
from tellapart.errors import DataError, PictureError
from tellapart.events import Note, Progress, Steps
from tellapart.images import default_threads, map_ordered, prepare_guarded
from tellapart.ladder.evaluate import as_trained, cache_or_temporary
from tellapart.learn.rungs import IntArray
from tellapart.recipe import Recipe
from tellapart.runtime.bundle import Bundle

__all__ = ["Sample", "of_the_run", "sample"]

_CALIBRATE = 64
_JUDGE = 600
_MOST_BYTES = 1 << 28
_FEWEST = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Prepared pictures: `calibrate` uint8 [C, S, S, 3], from training; `judge` uint8 [N, S, S, 3], all others.

    `targets` int64 [N] and `groups` are those of `judge`; `validation` bool [N] says which the model did not learn
    from. `files` are where the pictures of `judge` are.
    """

    calibrate: NDArray[np.uint8]
    judge: NDArray[np.uint8]
    targets: IntArray
    groups: tuple[str, ...]
    validation: NDArray[np.bool_]
    files: tuple[Path, ...]


def sample(bundle: Bundle, data: Path | None, recipe: Recipe) -> Steps[Sample]:
    """Take the pictures of the run that the bundle lies in, or those of `data`; never a given test split of the run.

    Raises DataError: `no_pictures_to_judge` where there is no run, or its pictures are gone, and `data` is None;
    `unknown_class` as `evaluate` does.
    """
    if data is None:
        manifest = of_the_run(bundle, "--data")
        train, val = manifest.where(split="train"), manifest.where(split="val")
        return (yield from _prepared(bundle, manifest, train, val, recipe))
    with cache_or_temporary() as cache:
        manifest = yield from scan(data, as_trained(recipe, bundle), cache, purpose="evaluate")
        rows = manifest.rows
        for label in sorted({row.label for row in rows} - set(bundle.classes)):
            raise DataError(
                "unknown_class", f"{data} has the class {label!r}, which the bundle does not know.", "Leave it out."
            )
        used = tuple(row for row in rows if row.split != "test")
        if not used:
            yield Note("info", f"{data} has no training split: all of its pictures calibrate and judge the export.")
        used = used or rows
        spaced = set(np.linspace(0, len(used) - 1, min(_CALIBRATE, len(used) // 2)).astype(int).tolist())
        train = tuple(row for number, row in enumerate(used) if number in spaced)
        val = tuple(row for number, row in enumerate(used) if number not in spaced)
        return (yield from _prepared(bundle, manifest, train, val, recipe))


def of_the_run(bundle: Bundle, option: str) -> Manifest:
    """Return the manifest of the run that a bundle lies in, for its very pictures.

    Raises DataError (`no_pictures_to_judge`), which names the `option` that gives others, where there is none such or
    the pictures are gone.
    """
    place = bundle.path.resolve().parent / "manifest.jsonl"
    why = f"there is no {place.name} of its run beside {bundle.path}"
    if place.is_file():
        manifest = Manifest.read(place)
        if manifest.fingerprint == bundle.card.fingerprint:
            if all(manifest.file(row).is_file() for row in manifest.rows[:3]):
                return manifest
            why = f"the pictures of its run are not in {manifest.root} any more"
        else:
            why = f"{place} is of another run than the bundle"
    raise DataError(
        "no_pictures_to_judge",
        f"Real pictures are needed, and {why}.",
        f"Name some with {option}, best those it was trained on.",
    )


def _prepared(
    bundle: Bundle, manifest: Manifest, train: Sequence[Row], val: Sequence[Row], recipe: Recipe
) -> Steps[Sample]:
    side = bundle.preprocess.image_size
    most = max(_FEWEST, min(_JUDGE, _MOST_BYTES // (3 * side * side)))
    first = _spaced(train, _CALIBRATE)
    chosen = {row.path for row in first}
    judging = _spaced(val, most)
    rest = _spaced([row for row in train if row.path not in chosen], most - len(judging))
    rows = [*first, *judging, *rest]
    threads = recipe.fit.threads or default_threads()

    def prepared(row: Row) -> NDArray[np.uint8] | None:
        try:
            return prepare_guarded(manifest.file(row), bundle.preprocess)
        except PictureError:
            return None

    pixels: list[NDArray[np.uint8] | None] = []
    for done, picture in enumerate(map_ordered(prepared, rows, threads), 1):
        pixels.append(picture)
        if done % 20 == 0 or done == len(rows):
            yield Progress("prepare", done, len(rows))
    calibrate = [picture for picture in pixels[: len(first)] if picture is not None]
    kept = [number for number in range(len(first), len(rows)) if pixels[number] is not None]
    if not calibrate or len(kept) < _FEWEST:
        raise DataError(
            "no_pictures_to_judge",
            f"{len(kept)} pictures can be read to judge an export by; {_FEWEST} is the least.",
            "Name more labelled pictures with --data.",
        )
    index = {label: number for number, label in enumerate(bundle.classes)}
    return Sample(
        np.stack(calibrate),
        np.stack([picture for number in kept if (picture := pixels[number]) is not None]),
        np.array([index[rows[number].label] for number in kept], np.int64),
        tuple(rows[number].group for number in kept),
        np.array([number < len(first) + len(judging) for number in kept]),
        tuple(manifest.file(rows[number]) for number in kept),
    )


def _spaced(rows: Sequence[Row], most: int) -> list[Row]:
    if most <= 0 or not rows:
        return []
    places = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))
    return [rows[place] for place in places.tolist()]
