"""The run folder: where it is, whether it may be used, what an earlier run left in it."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tellapart import files
from tellapart.cache import cache_root
from tellapart.data.changes import changes_since
from tellapart.data.listing import shown
from tellapart.data.manifest import Manifest
from tellapart.errors import DataError, RecipeError
from tellapart.events import Steps
from tellapart.locks import Lock, claim
from tellapart.recipe import Recipe

__all__ = ["CHECKPOINTS", "RunFolder", "beside", "prepare", "stored_result"]

CHECKPOINTS = "checkpoints"

_LOCK = "lock"
_OURS = ("recipe.json", "events.jsonl")

# What may differ between a run and its continuation without making it another run.
_MAY_CHANGE = {"fit": {"budget", "checkpoint_every", "epochs", "threads"}}


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """A run folder that may be written to, until `release`. `finished` is the stored result of a run that ended in it.

    `changed` says in words how the pictures of that run differ by now, where they do.

    `previous` is the manifest of an unfinished run, whose pictures keep their split. `goes_on` says that the run is one
    that was cut off, and is asked for with the very same options: it decides again as it did. `had_result`: before that
    attempt there was the result of a run with other options, which came to its end.
    """

    path: Path
    data: Path
    fresh: bool
    finished: dict[str, Any] | None = None
    previous: Path | None = None
    lock: Lock | None = None
    goes_on: bool = False
    had_result: bool = False
    changed: str = ""

    def release(self) -> None:
        """Let other processes use the folder."""
        if self.lock is not None:
            self.lock.release()

    def remember(self, *, finished: bool) -> None:
        """Keep in `run.json` which pictures the run is of, and whether it came to its end."""
        told = {"data": str(self.data.resolve()), "finished": finished, "had_result": self.had_result}
        files.write_json(self.path / "run.json", told)
        if finished:
            shutil.rmtree(self.path / CHECKPOINTS, ignore_errors=True)

    def forget(self) -> None:
        """Remove the folder of a run that ended before there was anything to keep, unless it is an older run's."""
        if self.fresh:
            shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()  # only where it has become empty


def prepare(data: Path, out: Path | None, recipe: Recipe, resume: bool) -> Steps[RunFolder]:
    """Return the folder for a run on `data`, made if need be, with `recipe.json` in it.

    Raises DataError when `data` is missing or the folder cannot be used, or is by another process, or when pictures
    have changed since the run to be resumed began; RecipeError when that was made with other options, or is not named.
    """
    if not data.exists():
        raise DataError("no_data", f"{data} does not exist.", "Give a folder of pictures, or a table that lists them.")
    if out is None and resume:
        raise RecipeError(
            "bad_option",
            "--resume goes on with the run in --out, and there is no --out.",
            f"Name the run's folder, such as --out {beside(data, 'runs') / '1'}, or leave --resume out.",
        )
    if out is None:
        fresh = _numbered(beside(data, "runs"), recipe)
        return RunFolder(fresh, data, fresh=True, lock=_locked(fresh))
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        raise DataError(
            "out_inside_data",
            f"--out {out} lies inside the pictures' folder {data}, where nothing is ever written.",
            "Choose a folder outside of it.",
        )
    if out.exists() and not out.is_dir():
        raise DataError("out_not_a_folder", f"--out {out} is a file.", "Choose a folder that is new or empty.")
    if out.is_dir() and not (out / _LOCK).exists() and any(out.iterdir()) and not (resume and _hardly_begun(out)):
        _refuse_strange(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from None
    lock = _locked(out)
    try:
        if resume and _hardly_begun(out):
            _tidy(out)
        elif any(path.name != _LOCK for path in out.iterdir()):
            return dataclasses.replace((yield from _occupied(data, out, recipe, resume)), lock=lock)
        _keep(out, recipe)
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return RunFolder(out, data, fresh=True, lock=lock)


def _locked(folder: Path) -> Lock | None:
    """Return the folder's lock; None where nothing can be written, as in a finished run on a read-only disk."""
    try:
        held = claim(folder / _LOCK)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return None
        raise _unwritable(folder, error) from None
    if isinstance(held, Lock):
        return held
    raise DataError(
        "run_in_use",
        f"The run folder {folder} is in use by {held.words}.",
        "Wait until it ends (a file named STOP in the folder ends it), or choose another with --out.",
    )


def beside(data: Path, what: str) -> Path:
    """Return the folder beside a data set for `what` is made of it: photos-runs, photos-check."""
    plain = data if data.name not in ("", "..") else data.resolve()
    name = plain.name if data.is_dir() else plain.name.partition(".")[0] or plain.name
    return plain.parent / f"{name}-{what}"


def _numbered(parent: Path, recipe: Recipe) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name) for path in parent.iterdir() if re.fullmatch(r"\d{1,9}", path.name)]
        number = max(taken, default=0) + 1
        while True:
            try:
                (parent / str(number)).mkdir()
                break
            except FileExistsError:
                number += 1
    except OSError as error:
        raise _unwritable(parent, error) from None
    _keep(parent / str(number), recipe)
    return parent / str(number)


def _keep(folder: Path, recipe: Recipe) -> None:
    try:
        files.write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> DataError:
    return DataError(
        "cannot_write",
        f"The run folder {folder} cannot be written ({error.strerror or error}).",
        "Give another with --out.",
    )


def _refuse_strange(out: Path) -> None:
    if not all((out / name).exists() for name in _OURS):
        raise DataError(
            "out_not_empty",
            f"--out {out} is not empty and holds no run of tellapart.",
            "Choose a folder that is new or empty.",
        )


def _occupied(data: Path, out: Path, recipe: Recipe, resume: bool) -> Steps[RunFolder]:
    _refuse_strange(out)
    if not resume:
        raise DataError(
            "out_has_run", f"--out {out} already holds a run.", "Go on with it by --resume, or choose another folder."
        )
    try:
        before = Recipe.parse(json.loads((out / "recipe.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise DataError(
            "damaged_run", f"{out}/recipe.json cannot be read ({error}).", "Start in a new folder."
        ) from None
    if changed := _differences(before, recipe):
        raise RecipeError(
            "other_recipe",
            f"The run in {out} was made with other options: {'; '.join(changed)}.",
            "Give the same options, or start in a new folder.",
        )
    about = _about(out)
    if about.get("data") not in (None, str(data.resolve())):
        raise DataError(
            "other_data",
            f"The run in {out} was made with {about['data']}, not with {data}.",
            "Give the same pictures, or start in a new folder.",
        )
    manifest = out / "manifest.jsonl"
    if about.get("finished") and not _wants_more(before, recipe):
        stored = stored_result(out)
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # it was killed when all but that was done
        differs = yield from _changed(data, manifest, recipe)
        return RunFolder(out, data, fresh=False, finished=stored, changed=differs)
    if changes := (yield from _changes(data, manifest, recipe)):
        raise DataError(
            "other_data",
            f"The pictures in {shown(str(data))} are not those that the run in {out} began with: {changes}. Nothing "
            "was written.",
            "Put them back as they were, or start a new run with another --out.",
        )
    (out / "STOP").unlink(missing_ok=True)  # it was meant for the run before
    _tidy(out)
    _keep(out, recipe)
    same = before == recipe and not about.get("finished")
    if not same:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)  # they belong to other schedules
    earlier = bool(about.get("finished") or about.get("had_result"))
    previous = manifest if manifest.exists() else None
    return RunFolder(out, data, fresh=False, previous=previous, goes_on=same, had_result=earlier)


def _changes(data: Path, manifest: Path, recipe: Recipe) -> Steps[str]:
    """Return how the pictures differ from those that a run began with, in words; nothing where it had none yet."""
    if not manifest.exists():
        return ""
    return (yield from changes_since(Manifest.read(manifest), data, recipe, cache_root(manifest.parent)))


def _changed(data: Path, manifest: Path, recipe: Recipe) -> Steps[str]:
    """Return the same of a run that is at its end, whose result stands whatever became of the pictures."""
    try:
        return (yield from _changes(data, manifest, recipe))
    except (DataError, OSError) as error:
        return f"they cannot be compared any more ({error.message if isinstance(error, DataError) else error})"


def stored_result(out: Path) -> dict[str, Any]:
    """Return the result that a run left in its folder. Raises DataError (`damaged_run`) where it cannot be read."""
    try:
        stored: Any = json.loads((out / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        stored = None
    if not isinstance(stored, dict) or "version" not in stored:
        raise DataError("damaged_run", f"{out}/result.json cannot be read.", "Start in a new folder.")
    return stored


def _hardly_begun(out: Path) -> bool:
    """Return whether a folder holds no more than what a run writes before its first event, where it was killed."""
    names = {path.name for path in out.iterdir()} - {_LOCK}
    temporary = {name for name in names if re.fullmatch(r"\.(recipe|run)\.json\.\w+\.tmp", name)}
    if not names or names - temporary - {"recipe.json", "run.json"}:
        return False
    try:
        if "recipe.json" in names:
            Recipe.parse(json.loads((out / "recipe.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, RecipeError):
        return False
    return "recipe.json" in names or not names - temporary


def _tidy(out: Path) -> None:
    """Remove what a process that was killed had begun to write; put back what it was about to replace."""
    for path in [path for place in (out, out / CHECKPOINTS) for path in place.glob(".*.old")]:
        for whole in path.iterdir():
            if not (out / whole.name).exists():
                whole.rename(out / whole.name)
        shutil.rmtree(path, ignore_errors=True)
    for path in [path for place in (out, out / CHECKPOINTS) for path in place.glob(".*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _about(out: Path) -> dict[str, Any]:
    try:
        about = json.loads((out / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _differences(before: Recipe, now: Recipe) -> list[str]:
    first, second = before.model_dump(mode="json"), now.model_dump(mode="json")
    found = []
    for option in Recipe.options():
        if option.name in _MAY_CHANGE.get(option.section, set()):
            continue
        old = first[option.section][option.name] if option.section else first[option.name]
        new = second[option.section][option.name] if option.section else second[option.name]
        if old != new:
            found.append(f"--{option.name.replace('_', '-')} was {old}, is {new}")
    return found


def _wants_more(before: Recipe, now: Recipe) -> bool:
    longer = now.budget_seconds > before.budget_seconds
    return longer or (now.fit.epochs or 0) > (before.fit.epochs or 0)
