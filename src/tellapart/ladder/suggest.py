"""Unlabelled pictures: which to label first, with a label proposed where a bundle knows one."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__, files, judge
from tellapart.cells import SUGGESTED, guarded
from tellapart.data.manifest import Manifest
from tellapart.data.policy import decode_policy, resize_policy
from tellapart.data.pool import pool
from tellapart.errors import BundleError, InputError, RecipeError, did_you_mean
from tellapart.events import Decision, Steps
from tellapart.images import at_least_for, default_threads
from tellapart.ladder.clock import Clock
from tellapart.ladder.evaluate import as_trained, cache_or_temporary
from tellapart.ladder.known import trunk_for
from tellapart.ladder.run import stage
from tellapart.ladder.suspects import thumbnails
from tellapart.lazy import Lazy
from tellapart.learn.backbones import Weights, names_at_hand
from tellapart.learn.backbones_export import fetch_weights, start_export
from tellapart.learn.embed import embed
from tellapart.learn.labelling import find_groups, margins, most_typical, teach_most, unit
from tellapart.learn.rungs import IntArray
from tellapart.recipe import Recipe
from tellapart.report import SuggestedGroup, SuggestedPicture, SuggestPage, render_suggestions
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.card import CARD

__all__ = ["COLUMNS", "Suggested", "beside", "suggest"]

COLUMNS = SUGGESTED
_USUAL = 100
_SHOWN = 24  # pictures of a group on the page
_SURE = 0.5  # of the margin between the two likeliest classes: below, a person should look
_SECONDS = 60.0  # what thumbnails may take


@dataclasses.dataclass(frozen=True, eq=False)
class Suggested:
    """What `suggest` gives: the `table` and the `page` it wrote, and in which groups the pictures are.

    `ranked` are the pictures to label first, in that order; `groups` are name, pictures, and how many of them are among
    these; `excluded` (path, code) could not be used.
    """

    table: Path
    page: Path
    used: int
    excluded: Sequence[tuple[str, str]]
    classes: tuple[str, ...]
    ranked: tuple[str, ...]
    groups: tuple[tuple[str, int, int], ...]
    words: str

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        found = self.used + len(self.excluded)
        return {
            "version": 1,
            "table": str(self.table),
            "page": str(self.page),
            "counts": {"found": found, "used": self.used, "excluded": len(self.excluded)},
            "classes": list(self.classes),
            "ranked": list(self.ranked),
            "groups": [dict(zip(("name", "pictures", "ranked"), group, strict=True)) for group in self.groups],
        }


@dataclasses.dataclass(frozen=True, eq=False)
class _Told:
    """What is said of n pictures: their groups and, by a bundle, probabilities float64 [n, K] and novelty [n]."""

    order: IntArray
    groups: IntArray
    names: tuple[str, ...]
    words: str
    classes: tuple[str, ...] = ()
    probs: NDArray[np.float64] | None = None
    novelty: NDArray[np.float64] | None = None


def suggest(
    model: str, named: Sequence[str | Path], out: Path, num: int | None, clusters: int | None, recipe: Recipe
) -> Steps[Suggested]:
    """Write to `out` (.csv) which of the pictures `named` to label first, and a page that shows them beside it.

    `model` is a bundle's folder or the name of a backbone. `num` pictures (by default 100) are ranked; of nearly equal
    ones only one is. Raises InputError where `out` may not be written, RecipeError for an unknown backbone,
    BundleError, DataError where nothing can be used.
    """
    _check_place(out, named)
    with cache_or_temporary() as cache:
        threads = recipe.fit.threads or default_threads()
        bundle = Bundle(Path(model)) if (Path(model) / CARD).is_file() else None
        if bundle is not None:
            _check_bundle(bundle, clusters)
            recipe = as_trained(recipe, bundle)
        weights = None if bundle is not None else (yield from _weights(model))
        manifest = yield from stage("scan", pool(named, "unlabelled", recipe, cache))
        count = min(num or _USUAL, len({row.group for row in manifest.rows}))
        if bundle is not None:
            told = yield from _by_bundle(bundle, manifest, count, recipe, cache, threads)
        else:
            assert weights is not None
            told = yield from _by_weights(weights, manifest, count, clusters, recipe, cache, threads)
        yield Decision("order", count, told.words)
        page = out.with_suffix(".html")
        yield from stage("report", _write(out, page, manifest, told, recipe, cache, threads))
    ranked = told.groups[told.order]
    return Suggested(
        out,
        page,
        len(manifest.rows),
        Lazy(lambda: ((item.path, item.code) for item in manifest.excluded), len(manifest.excluded)),
        told.classes,
        tuple(manifest.rows[row].path for row in told.order.tolist()),
        tuple(
            (name, int((told.groups == number).sum()), int((ranked == number).sum()))
            for number, name in enumerate(told.names)
            if (told.groups == number).any()
        ),
        told.words,
    )


def beside(named: Sequence[str | Path]) -> Path:
    """Return where the table goes unless something else is said: here, named after the first folder of pictures.

    Not beside that folder, which may lie among the folders of a data set.
    """
    folders = [Path(os.path.abspath(item)).name for item in map(Path, named) if item.is_dir()]
    return Path(f"{folders[0] or 'pictures'}-to-label.csv" if folders else "to-label.csv")


def _check_place(out: Path, named: Sequence[str | Path]) -> None:
    if out.suffix.lower() != ".csv":
        raise InputError("not_a_csv", f"--out {out} does not end in .csv.", "Name a new file such as to-label.csv.")
    for item in map(Path, named):
        if item.is_dir() and out.resolve().is_relative_to(item.resolve()):
            raise InputError(
                "out_inside_data",
                f"--out {out} lies inside the pictures' folder {item}, where nothing is ever written.",
                "Name a file beside that folder.",
            )
    for file in (out, out.with_suffix(".html")):
        if file.exists():
            raise InputError(
                "table_exists",
                f"{file} exists already, and may hold what you have decided.",
                "Name a new file by --out.",
            )
    if not out.parent.is_dir():
        raise InputError(
            "cannot_write", f"--out {out} is in a folder that does not exist.", "Make it, or name another."
        )


def _check_bundle(bundle: Bundle, clusters: int | None) -> None:
    if bundle.card.method == "majority":
        raise BundleError(
            "no_embedding",
            f"{bundle.path} always answers with the most frequent class: it has no embeddings to go by.",
            "Name a backbone instead, or train with more pictures.",
        )
    if clusters is not None:
        raise RecipeError(
            "bad_option",
            "--clusters is for a backbone; a bundle's pictures are in groups by the class that it proposes.",
            "Leave it out.",
        )


def _by_bundle(
    bundle: Bundle, manifest: Manifest, count: int, recipe: Recipe, cache: Path, threads: int
) -> Steps[_Told]:
    steps = trunk_for(bundle, cache).embed(*_files(manifest), cache, threads)
    embeddings = yield from stage("embed", steps)
    logits = bundle.logits_from(embeddings)
    probs = judge.softmax(logits)
    scorer = bundle.reference.novelty()
    novelty = np.array([scorer.score(*pair) for pair in zip(embeddings, logits, strict=True)], dtype=np.float64)
    first = _one_of_each(manifest)
    order = first[teach_most(unit(embeddings)[first], probs[first], count, recipe.seed)]
    words = "those that the bundle is least sure of, unlike each other; the least sure first"
    return _Told(order, probs.argmax(axis=1).astype(np.int64), bundle.classes, words, bundle.classes, probs, novelty)


def _weights(model: str) -> Steps[Weights]:
    """Return the weights of a name; a folder is to be a bundle, and says what it lacks."""
    if Path(model).exists():
        Bundle(Path(model))
    try:
        weights = yield from fetch_weights(model)
    except RecipeError as error:
        if error.code != "unknown_backbone":
            raise
        weights = None
    if weights is None:
        here = names_at_hand()
        raise RecipeError(
            "no_such_weights",
            f"There is no bundle {model}, and no weights of that name are at hand.{did_you_mean(model, here)}",
            f"Give RUN/bundle, a backbone ({', '.join(here) or 'see $TELLAPART_WEIGHTS'}), or local-dir:PATH.",
        )
    return weights


def _by_weights(
    weights: Weights, manifest: Manifest, count: int, clusters: int | None, recipe: Recipe, cache: Path, threads: int
) -> Steps[_Told]:
    with start_export(weights, recipe.model.image_size, cache) as export:
        graph = yield from export.wait()
    decode = dataclasses.replace(
        decode_policy(recipe), sixteen_bit_scale=int(str(manifest.facts.get("sixteen_bit_scale", 65535)))
    )
    preprocess = graph.preprocess(resize_policy(manifest)[0], decode, at_least_for(graph.image_size))
    steps = embed(graph.model, preprocess, *_files(manifest), cache, threads=threads)
    embeddings = yield from stage("embed", steps)
    vectors = unit(embeddings)
    first = _one_of_each(manifest)
    groups = yield from stage("group", find_groups(vectors, clusters, recipe.seed))
    yield Decision("groups", groups.number, groups.words)
    order = first[most_typical(vectors[first], count, recipe.seed)]
    names = tuple(f"group {number + 1}" for number in range(groups.number))
    return _Told(order, groups.labels, names, "the most typical of as many parts of the pictures, large parts first")


def _files(manifest: Manifest) -> tuple[list[Path], list[str]]:
    return [manifest.file(row) for row in manifest.rows], [row.sha256 for row in manifest.rows]


def _one_of_each(manifest: Manifest) -> IntArray:
    """Return the first row of each group: nearly equal pictures need one label."""
    first: dict[str, int] = {}
    for number, row in enumerate(manifest.rows):
        first.setdefault(row.group, number)
    return np.array(list(first.values()), dtype=np.int64)


def _write(
    out: Path, page: Path, manifest: Manifest, told: _Told, recipe: Recipe, cache: Path, threads: int
) -> Steps[None]:
    shown = {
        number: [row for row in told.order.tolist() if told.groups[row] == number][:_SHOWN]
        for number in range(len(told.names))
    }
    wanted = {manifest.rows[row].path: manifest.rows[row].sha256 for rows in shown.values() for row in rows}
    policy, clock = decode_policy(recipe), Clock(_SECONDS)
    made = yield from thumbnails(wanted, manifest.root, policy, threads, cache, clock)
    groups = []
    for number, name in enumerate(told.names):
        size = int((told.groups == number).sum())
        if size:
            pictures = [_picture(manifest, told, row, made) for row in shown[number]]
            groups.append(SuggestedGroup(name, size, _sentence(told, number, size), tuple(pictures)))
    content = SuggestPage(
        title=out.stem,
        table=out.name,
        num_pictures=len(manifest.rows),
        num_ranked=len(told.order),
        words=told.words,
        groups=tuple(sorted(groups, key=lambda group: -len(group.pictures))),
        notes=manifest.notes,
        created=datetime.now(UTC),
        tellapart=__version__,
    )
    files.write_text(page, render_suggestions(content))
    files.write_text(out, _table(out, manifest, told))


def _picture(manifest: Manifest, told: _Told, row: int, made: dict[str, bytes]) -> SuggestedPicture:
    suggested, prob = _proposed(told, row)
    rank = int(np.flatnonzero(told.order == row)[0]) + 1
    return SuggestedPicture(manifest.rows[row].path, rank, suggested, prob, made.get(manifest.rows[row].sha256, b""))


def _proposed(told: _Told, row: int) -> tuple[str | None, float | None]:
    if told.probs is None:
        return None, None
    best = int(told.probs[row].argmax())
    return told.classes[best], float(told.probs[row, best])


def _sentence(told: _Told, number: int, size: int) -> str:
    own = told.groups == number
    pictures = f"{size:,} pictures" if size != 1 else "1 picture"
    ranked = int((told.groups[told.order] == number).sum())
    if told.probs is None:
        return f"{pictures} that look alike; {ranked:,} of them stand for the rest."
    unsure = int((margins(told.probs[own]) < _SURE).sum())
    return f"{pictures} taken for it, {unsure:,} with doubt; {ranked:,} to be labelled first."


def _table(out: Path, manifest: Manifest, told: _Told) -> str:
    """Return the table: what is ranked first, then the rest; a label is filled in where a bundle proposes one."""
    folder, root = Path(os.path.realpath(out)).parent, Path(os.path.realpath(manifest.root))
    below = root.is_relative_to(folder)
    ranks = {row: rank for rank, row in enumerate(told.order.tolist(), start=1)}
    rest = [row for row in range(len(manifest.rows)) if row not in ranks]
    if told.probs is not None:
        doubt = margins(told.probs)
        rest.sort(key=lambda row: float(doubt[row]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in [*ranks, *rest]:
        full = root / manifest.rows[row].path
        suggested, prob = _proposed(told, row)
        writer.writerow(
            (
                guarded(full.relative_to(folder).as_posix() if below else str(full)),
                guarded(suggested) if row in ranks and suggested is not None else "",
                "" if suggested is None else guarded(suggested),
                "" if prob is None else f"{prob:.4f}",
                ranks.get(row, ""),
                told.names[told.groups[row]],
                "" if told.novelty is None else f"{told.novelty[row]:.4f}",
            )
        )
    return text.getvalue()
