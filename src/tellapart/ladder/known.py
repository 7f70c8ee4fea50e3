"""What is at hand of the pictures that a bundle was trained on: a data set, its run's manifest, or its references."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tellapart.data.manifest import Manifest, Row
from tellapart.data.scan import scan
from tellapart.errors import BundleError, DataError, RecipeError, did_you_mean
from tellapart.events import Note, Steps
from tellapart.images import Preprocess
from tellapart.learn.backbones import find_weights
from tellapart.learn.backbones_export import cached_graph
from tellapart.learn.embed import embed
from tellapart.learn.merged import merged, scales_of
from tellapart.learn.rungs import FloatArray, Head, IntArray, Pictures
from tellapart.recipe import Recipe
from tellapart.runtime.bundle import Bundle
from tellapart.ship.graph import compose, trunk_of

__all__ = ["ENSEMBLE", "Known", "Part", "Trunk", "is_frozen", "known", "members_of", "trunk_for"]

ENSEMBLE = "ensemble"
FROZEN = ("probe", "classical", "distill")
"""Methods whose network never learned from the pictures that it was trained with."""

_SEEN_BY_HEAD = "train"


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """Old pictures, of train and of val: embeddings float32 [n, D].

    `taken` are the sha256 of all that are known, or the first 16 digits of these. `new_to_head` bool [n] are those that
    the bundle's head did not learn from, `new_to_trunk` those that its network did not. `pictures` have no files where
    `source` is `references`; `words` say in one sentence what was used. `exact` is False where embeddings are known by
    their directions alone; `off` float32 [n] is by how much a number of one may be off for having been rounded
    (None: not at all).
    """

    source: Literal["data", "run", "references"]
    words: str
    embeddings: FloatArray
    pictures: Pictures
    new_to_head: NDArray[np.bool_]
    new_to_trunk: NDArray[np.bool_]
    taken: frozenset[str]
    exact: bool = True
    off: FloatArray | None = None

    @property
    def targets(self) -> IntArray:
        """The classes, int64 [n], by their place in the bundle."""
        return self.pictures.targets


def known(bundle: Bundle, trunk: Trunk, data: Path | None, recipe: Recipe, cache: Path, threads: int) -> Steps[Known]:
    """Return the best that is at hand of a bundle's own pictures.

    Those of `data` where it is named, with the split that its run gave them; else those that the manifest of the run
    beside the bundle lists, as far as they are still there; else the bundle's references. Raises DataError
    (`other_classes`) for data of other classes, BundleError (`no_references`) where nothing is at hand.
    """
    run = _manifest_beside(bundle)
    if data is not None:
        previous = None if run is None else str(bundle.path.parent / "manifest.jsonl")
        seed = bundle.card.recipe.get("seed", 0)
        manifest = yield from scan(data, Recipe.of(recipe, previous=previous, seed=seed), cache)
        _check_classes(bundle, manifest, data)
        rows = tuple(row for row in manifest.rows if row.split != "test")
        words = f"{len(rows):,} old pictures in {data}, without its test split"
        return (yield from _embedded(bundle, trunk, manifest, rows, "data", words, cache, threads))
    if run is not None:
        listed = tuple(row for row in run.rows if row.split != "test")
        rows = tuple(row for row in listed if _is_there(run, row))
        if len(rows) == len(listed) or (
            len(rows) > len(bundle.reference.reference_labels) and {row.label for row in rows} >= set(bundle.classes)
        ):
            gone = f" ({len(listed) - len(rows):,} more are gone or changed)" if len(rows) < len(listed) else ""
            words = f"{len(rows):,} old pictures that the bundle's run lists{gone}"
            return (yield from _embedded(bundle, trunk, run, rows, "run", words, cache, threads))
        yield Note("info", f"{len(listed) - len(rows):,} of the run's {len(listed):,} pictures are gone or changed.")
    return _references(bundle, run)


def _is_there(manifest: Manifest, row: Row) -> bool:
    try:
        facts = manifest.file(row).stat()
    except OSError:
        return False
    return facts.st_size == row.size


def _manifest_beside(bundle: Bundle) -> Manifest | None:
    """Return the manifest of the run that made the bundle; None where there is none, or another's."""
    try:
        found = Manifest.read(bundle.path.resolve().parent / "manifest.jsonl")
    except DataError:
        return None
    return found if found.fingerprint == bundle.card.fingerprint else None


def _check_classes(bundle: Bundle, manifest: Manifest, data: Path) -> None:
    ours, theirs = set(bundle.classes), set(manifest.classes)
    if strange := sorted(theirs - ours):
        raise DataError(
            "other_classes",
            f"--data {data} has the class {strange[0]!r}, which the bundle does not know."
            f"{did_you_mean(strange[0], bundle.classes)}",
            "Give the pictures that the bundle was trained on.",
        )
    if absent := sorted(ours - theirs):
        raise DataError(
            "other_classes",
            f"--data {data} has no pictures of {absent[0]!r}, which the bundle knows.",
            "Give the pictures that the bundle was trained on, or leave --data out.",
        )


def _embedded(
    bundle: Bundle,
    trunk: Trunk,
    manifest: Manifest,
    rows: tuple[Row, ...],
    source: Literal["data", "run"],
    words: str,
    cache: Path,
    threads: int,
) -> Steps[Known]:
    index = {label: number for number, label in enumerate(bundle.classes)}
    pictures = Pictures(
        tuple(manifest.file(row) for row in rows),
        tuple(row.sha256 for row in rows),
        tuple(row.group for row in rows),
        np.array([index[row.label] for row in rows], dtype=np.int64),
    )
    embeddings = yield from trunk.embed(pictures.files, pictures.digests, cache, threads)
    apart = np.array([row.split != _SEEN_BY_HEAD for row in rows])
    frozen = is_frozen(bundle)
    taken = {row.sha256 for row in manifest.rows} | {item.sha256 for item in manifest.excluded if item.sha256}
    return Known(source, words, embeddings, pictures, apart, apart | frozen, frozenset(taken))


def _references(bundle: Bundle, run: Manifest | None) -> Known:
    """Return the references, and what else of training pictures a bundle keeps, as embeddings.

    Where it does not keep how far each reference is from their mean, as older bundles do not, each lies in its
    direction as far off as they are usually, and a head on them has to go by directions alone.
    """
    reference = bundle.reference
    if reference.thumbnails is None:
        raise BundleError(
            "no_references",
            f"{bundle.path} keeps no references of its pictures, and its run's manifest or pictures are not at hand.",
            "Name the old training pictures by --data.",
        )
    kept = reference.learned_beside()
    if kept is not None:
        embeddings, labels, off = kept.embeddings, kept.labels, kept.off
        names = tuple(f"{digest:016x}" for digest in kept.digests.tolist())
    else:
        spread = np.square(reference.embedding_std.astype(np.float64)).sum()
        shift = np.square(reference.embedding_mean.astype(np.float64) - reference.novelty_mean).sum()
        radius = np.float32(np.sqrt(spread + shift))
        embeddings = reference.novelty_mean + radius * reference.novelty_reference.astype(np.float32)
        labels, off = reference.reference_labels, None
        names = tuple(f"reference {number}" for number in range(len(embeddings)))
    count = len(embeddings)
    return Known(
        "references",
        f"{count:,} {'embeddings of old pictures' if kept is not None else 'references'} that the bundle keeps",
        np.ascontiguousarray(embeddings, dtype=np.float32),
        Pictures((Path(),) * count, names, names, labels),
        np.zeros(count, dtype=bool),
        np.full(count, is_frozen(bundle)),
        frozenset(names) | (frozenset() if run is None else frozenset(row.sha256 for row in run.rows)),
        exact=kept is not None,
        off=off,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """One of the networks that a bundle's trunk looks with: its embeddings count times `scale`."""

    graph: bytes
    preprocess: Preprocess
    scale: float


@dataclasses.dataclass(frozen=True, eq=False)
class Trunk:
    """A bundle's network without its head, as ONNX bytes, and the networks that it is known to be made of, if any."""

    whole: bytes
    parts: tuple[Part, ...]

    def embed(self, files: Sequence[Path], digests: Sequence[str], cache: Path, threads: int) -> Steps[FloatArray]:
        """Return embeddings float32 [n, D]; those of parts stand side by side, as the run that made it cached them."""
        found = []
        for part in self.parts:
            seen = yield from embed(part.graph, part.preprocess, files, digests, cache, threads=threads)
            found.append(seen * np.float32(part.scale))
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def trunk_for(bundle: Bundle, cache: Path) -> Trunk:
    """Return the bundle's network without its head: as the run had it, where that is still cached, with its embeddings.

    That it is the same is shown by putting the bundle's head on it, which has to give the bundle's own bytes.
    """
    weight, bias = bundle.reference.head_weight, bundle.reference.head_bias
    if weight is not None and bias is not None:
        parts = _parts(bundle, cache)
        if parts:
            graphs, scales = [part.graph for part in parts], [part.scale for part in parts]
            whole = graphs[0] if bundle.card.method != ENSEMBLE else merged(graphs, scales)
            if compose(whole, Head(weight, bias), bundle.preprocess.image_size) == bundle.model:
                return Trunk(whole, parts)
    trunk = trunk_of(bundle.model)
    return Trunk(trunk, (Part(trunk, bundle.preprocess, 1.0),))


def _parts(bundle: Bundle, cache: Path) -> tuple[Part, ...]:
    """Return the cached backbones that a bundle says it looks with; none where one of them is not at hand."""
    names, scales = [bundle.card.backbone], [1.0]
    if bundle.card.method == ENSEMBLE:
        names, scales = [member.get("backbone") for member in members_of(bundle)], scales_of(bundle.model)
    found = []
    for name, scale in zip(names, scales, strict=False):
        try:
            weights = find_weights(name) if isinstance(name, str) else None
        except RecipeError:
            weights = None
        graph = None if weights is None else cached_graph(weights, bundle.preprocess.image_size, cache)
        if graph is None:
            return ()
        how = dataclasses.replace(bundle.preprocess, mean=graph.mean, std=graph.std)
        found.append(Part(graph.model, how, scale))
    return tuple(found)


def members_of(bundle: Bundle) -> list[dict[str, Any]]:
    """Return what the card of an ensemble says of its members."""
    details = bundle.card.recipe.get("details")
    members = details.get("members") if isinstance(details, dict) else None
    return [one for one in members if isinstance(one, dict)] if isinstance(members, list) else []


def is_frozen(bundle: Bundle) -> bool:
    """Return whether no network of the bundle has learned from the pictures that it was trained with."""
    if bundle.card.method != ENSEMBLE:
        return bundle.card.method in FROZEN
    members = members_of(bundle)
    return bool(members) and all(one.get("method") in FROZEN for one in members)
