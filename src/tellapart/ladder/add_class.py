"""A bundle learns one class more from its own embeddings: no network is trained, and what it costs is measured."""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tellapart.data.listing import class_key, quoted, some
from tellapart.data.manifest import Manifest
from tellapart.data.pool import pool
from tellapart.errors import BundleError, DataError, InputError
from tellapart.events import Decision, Note, Steps
from tellapart.images import default_threads
from tellapart.judge import Share
from tellapart.ladder.clock import Clock
from tellapart.ladder.evaluate import as_trained, cache_or_temporary
from tellapart.ladder.extend import Both, Measured, extend, measure, ship
from tellapart.ladder.known import Known, is_frozen, known, trunk_for
from tellapart.ladder.run import Run, stage
from tellapart.lazy import Lazy
from tellapart.learn.refit import directions
from tellapart.learn.rungs import FloatArray, Pictures
from tellapart.recipe import Balance, Recipe
from tellapart.runtime.bundle import Bundle

__all__ = ["Added", "add_class", "beside"]

_SECONDS = 60.0  # what a support vector machine, or thumbnails, may take
_UNTAUGHT = (
    "The old head had learned from a larger model as well, which does not know the new class: the new head goes by "
    "labels alone. To have one that is taught again, train with --distill on the pictures of all classes."
)
_SAME = {"data": 0.0, "run": 0.0, "references": 2.0**-10}  # rounding of a direction: references are half precision
_UNSAFE = re.compile(r"[^\w.-]+")  # in a file's name
_ROUNDED = 1.1  # times half a step of 8 bits: the length of what is rounded is off as well


@dataclasses.dataclass(frozen=True, eq=False)
class Added:
    """What `add-class` gives: the new bundle, what the class `label` costs the old ones, and how good it is.

    `used` new pictures were learned from, `excluded` (path, code) not. `source` says what stood for the old pictures:
    `data`, `run` or `references`. `taken_for` is what the old bundle calls the new pictures, the most frequent first.
    """

    bundle: Path
    parent: Path
    classes: tuple[str, ...]
    label: str
    used: int
    excluded: Sequence[tuple[str, str]]
    source: str
    source_words: str
    measured: Measured
    taken_for: tuple[tuple[str, int], ...]
    seconds: float
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        found, old = self.measured, None
        if found.cost is not None:
            cost = {name: getattr(found.cost, name) for name in ("n", "difference", "low", "high", "p")}
            old = {"before": found.before, "after": found.after, **cost, "now_new": dict(found.now_new)}
        return {
            "version": 1,
            "bundle": str(self.bundle),
            "parent": str(self.parent),
            "classes": list(self.classes),
            "added": self.label,
            "counts": {"found": self.used + len(self.excluded), "used": self.used, "excluded": len(self.excluded)},
            "source": self.source,
            "old": old,
            "new": {"recall": _share(found.recall), "precision": _share(found.precision)},
            "taken_for": dict(self.taken_for),
            "seconds": self.seconds,
        }


def _share(share: Share | None) -> dict[str, Any] | None:
    if share is None:
        return None
    low, high = share.exact()
    return {"n": share.n, "value": share.value, "low": low, "high": high}


def add_class(
    path: Path, label: str, named: Sequence[str | Path], out: Path, data: Path | None, recipe: Recipe
) -> Steps[Added]:
    """Write to `out` a bundle that knows the class `label` besides, from the pictures `named`; nothing else changes.

    Raises BundleError (`class_known`, `no_embedding`, `no_references`), DataError (`no_pictures`, `old_pictures`,
    `other_classes`), InputError where `out` may not be written to.
    """
    began = time.monotonic()
    bundle = Bundle(path)
    label = _checked(label, bundle)
    _check_out(out, named)
    threads = recipe.fit.threads or default_threads()
    with cache_or_temporary() as cache:
        recipe = as_trained(recipe, bundle)
        fresh = yield from stage("scan", pool(named, label, recipe, cache))
        trunk = trunk_for(bundle, cache)
        old = yield from stage("embed", known(bundle, trunk, data, recipe, cache, threads))
        new = _pictures(fresh, len(bundle.classes))
        embeddings = yield from stage("embed", trunk.embed(new.files, new.digests, cache, threads))
        _refuse_old(bundle, old, new, embeddings)
        yield Decision("old_pictures", old.source, old.words)
        both = Both(bundle, trunk.whole, old, new, embeddings, recipe.seed)
        run = Run(out, out.parent, cache, _as_kept(recipe, bundle), Clock(_SECONDS))
        extended = yield from stage("fit", extend(both, run))
        measured = yield from stage("evaluate", measure(both, extended, run))
        yield from stage("ship", ship(both, extended, label, run, out, threads))
    notes = list(fresh.notes)
    if not is_frozen(bundle) and not old.new_to_trunk.any():
        notes.append("The network has learned from the old pictures, so what is said of their classes is too good.")
        yield Note("warning", notes[-1])
    if bundle.card.method == "distill":
        notes.append(_UNTAUGHT)
        yield Note("info", notes[-1])
    said = Counter(bundle.classes[place] for place in bundle.logits_from(embeddings).argmax(axis=1).tolist())
    return Added(
        out,
        path,
        (*bundle.classes, label),
        label,
        len(new),
        Lazy(lambda: ((item.path, item.code) for item in fresh.excluded), len(fresh.excluded)),
        old.source,
        old.words,
        measured,
        tuple(said.most_common()),
        time.monotonic() - began,
        tuple(notes),
    )


def beside(path: Path, label: str) -> Path:
    """Return where the new bundle goes unless something else is said: beside the old one, named after the class too."""
    old = Path(os.path.abspath(path))
    return old.with_name(f"{old.name}-{_UNSAFE.sub('-', class_key(label.strip())).strip('-.') or 'class'}")


def _as_kept(recipe: Recipe, bundle: Bundle) -> Recipe:
    """Return the recipe with the wishes of the bundle's run: about keeping pictures, and balancing uneven classes."""
    asked = bundle.card.recipe.get("fit")
    fit = asked if isinstance(asked, dict) else {}
    balance = fit.get("balance")
    return Recipe.of(
        recipe,
        reference=fit.get("reference") is not False,
        balance=balance if balance in get_args(Balance) else "auto",
    )


def _checked(label: str, bundle: Bundle) -> str:
    label = class_key(label.strip())
    if not label or any("\ud800" <= letter <= "\udfff" for letter in label):
        raise DataError("class_name", f"{quoted(label)} cannot be the name of a class.", "Give it another name.")
    folded = {name.casefold(): name for name in bundle.classes}
    if label.casefold() in folded:
        raise BundleError(
            "class_known",
            f"The bundle has a class {quoted(folded[label.casefold()])} already.",
            "Give the new class another name, or train again with the pictures in the folder of that class.",
        )
    if bundle.card.method == "majority":
        raise BundleError(
            "no_embedding",
            f"{bundle.path} always answers with the most frequent class: it has no embeddings to learn from.",
            "Train with the pictures of all classes.",
        )
    return label


def _check_out(out: Path, named: Sequence[str | Path]) -> None:
    for item in map(Path, named):
        if item.is_dir() and out.resolve().is_relative_to(item.resolve()):
            raise InputError(
                "out_inside_data",
                f"--out {out} lies inside the pictures' folder {item}, where nothing is ever written.",
                "Choose a folder outside of it.",
            )
    if out.exists() and not out.is_dir():
        raise InputError("out_not_a_folder", f"--out {out} is a file.", "Choose a folder that is new or empty.")
    if out.is_dir() and any(out.iterdir()):
        raise InputError("out_not_empty", f"--out {out} is not empty.", "Choose a folder that is new or empty.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "cannot_write", f"--out {out} cannot be written ({error.strerror}).", "Name another folder."
        ) from None


def _pictures(fresh: Manifest, target: int) -> Pictures:
    """Return the new pictures, every content once."""
    rows = list({row.sha256: row for row in fresh.rows}.values())
    return Pictures(
        tuple(fresh.file(row) for row in rows),
        tuple(row.sha256 for row in rows),
        tuple(row.group for row in rows),
        np.full(len(rows), target, dtype=np.int64),
    )


def _refuse_old(bundle: Bundle, old: Known, new: Pictures, embeddings: FloatArray) -> None:
    """Refuse pictures that the bundle was trained or measured on: by content, or by the very same embedding."""
    mean = bundle.reference.novelty_mean
    ours, theirs = directions(embeddings, mean), directions(old.embeddings, mean)
    at = (ours @ theirs.T).argmax(axis=1)
    nearest = theirs[at]
    off = np.float32(1e-6) + _SAME[old.source] * np.abs(nearest)
    if old.off is not None:  # beyond that, some are rounded to 8 bits
        lengths = np.maximum(np.linalg.norm(old.embeddings - mean, axis=1), 1e-12)
        off += (_ROUNDED * old.off / lengths)[at][:, None]
    same = (np.abs(ours - nearest) <= off).all(axis=1)
    again = [row for row, digest in enumerate(new.digests) if {digest, digest[:16]} & old.taken or same[row]]
    if again:
        names = [new.files[row].name for row in again]
        raise DataError(
            "old_pictures",
            f"{len(again)} of the {len(new)} new pictures are among the bundle's old ones, of other classes: "
            f"{some(names, 5)}.",
            "Leave them out; a picture has one class.",
        )
