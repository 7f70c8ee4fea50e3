"""What an answer rests on: for each picture where the evidence lies, what speaks for the runner-up, what it is like."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart import __version__, files
from tellapart.errors import InputError, PictureError
from tellapart.events import Note, Progress, Steps
from tellapart.images import decode_guarded, map_ordered, prepare_guarded, thumbnail_jpeg
from tellapart.judge.maps import mass, place
from tellapart.judge.sanity import Sanity, sane
from tellapart.ladder.looking import MOST_TRIED, seen, try_maps
from tellapart.ladder.run import stage
from tellapart.ladder.show import evenly
from tellapart.report.explain_page import ExplainPage, FilterSheet, render_explain
from tellapart.report.explained import Evidence, ExplainedPicture, Neighbour
from tellapart.report.overlay import layer_png, panels_png, png, tiles, veiled
from tellapart.report.words import percent, plain
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.onnx_bytes import first_filters, with_output
from tellapart.runtime.predictor import Failure, Prediction, Predictor
from tellapart.runtime.saliency import Looked, Saliency
from tellapart.runtime.saliency_trial import cells_hidden
from tellapart.runtime.session import Session

__all__ = ["Explanation", "explain"]

PAGE = "explain.html"
FILTERS = "filters.png"
_OURS = re.compile(r"explain\.html|filters\.png|\d{3,}-[\w.-]*\.png")
_PHOTO_PX = 448
_NEIGHBOURS, _NEAREST = 4, 10
_CHANNELS, _RESPONSES, _MOST_FILTERS = 12, 12, 128
_TILE_PX = 56
_SUFFICE = 0.5  # of a map: what is hidden to see what the answer is without it

Named = Callable[[Prediction | Failure], Prediction | Failure]


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """What `explain` gives: `pictures` in the order asked, each explained or a Failure, and `notes` for the reader.

    `method` is how maps are made (`class_activation`, `occlusion`), `sanity` whether they may be shown and why. `page`
    is `explain.html`, None where no folder was asked for.
    """

    bundle: str
    method: str
    sanity: Sanity
    pictures: tuple[ExplainedPicture | Failure, ...]
    notes: tuple[str, ...]
    page: Path | None = None

    @property
    def explained(self) -> tuple[ExplainedPicture, ...]:
        """Those that could be answered."""
        return tuple(one for one in self.pictures if isinstance(one, ExplainedPicture))

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        plain: dict[str, Any] = files.finite(
            {
                "version": 1,
                "bundle": self.bundle,
                "method": self.method,
                "maps_shown": self.sanity.passed,
                "sanity": dataclasses.asdict(self.sanity),
                "pictures": [one.as_json() for one in self.pictures],
                "notes": list(self.notes),
                "page": None if self.page is None else str(self.page),
            }
        )
        return plain


@dataclasses.dataclass(frozen=True, eq=False)
class _First:
    """The first layer: filters float32 [O, C, h, w] and what runs the graph as far as their responses."""

    filters: NDArray[np.float32]
    session: Session
    output: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """What every picture's explanation needs."""

    predictor: Predictor
    saliency: Saliency
    shown: bool
    folder: Path | None
    first: _First | None
    filters: bool
    named: Named


def explain(
    path: Path,
    sources: Sequence[Path | Failure],
    out: Path | None = None,
    *,
    filters: bool = False,
    threads: int,
    named: Named = lambda found: found,
) -> Steps[Explanation]:
    """Explain what the bundle at `path` says of each picture; write a page and a PNG a picture into `out`, if given.

    Maps are shown where they pass the sanity checks (`judge.sanity`), which are made on at most 16 of the pictures
    asked for and on those that the bundle brings along. `named` gives a picture the name it is told by.
    Raises BundleError; InputError (`out_not_empty`, `cannot_write`) for a folder that is not ours to fill.
    """
    bundle = Bundle(path)
    if out is not None:
        _refuse_folder(out, bundle.path)
    saliency = Saliency(bundle)
    sanity = yield from stage("check", _checked(saliency, sources, threads))
    yield Note("info" if sanity.passed else "warning", sanity.words)
    notes = [sanity.words]
    if bundle.reference.thumbnails is None:
        notes.append("The bundle keeps no training pictures (--no-reference): none can speak for an answer.")
        yield Note("info", notes[-1])
    first = None
    if filters:
        first = _first(bundle)
        if first is None:
            notes.append("The graph has no first layer of filters over pixels that could be drawn.")
            yield Note("info", notes[-1])
    work = _Work(Predictor(bundle, threads), saliency, sanity.passed, out, first, filters, named)
    if out is None:
        pictures = yield from stage("explain", _explained(work, sources, threads))
        return Explanation(str(path), saliency.method, sanity, pictures, tuple(notes))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.new_folder(out.resolve()) as folder:
            work = dataclasses.replace(work, folder=folder)
            pictures = yield from stage("explain", _explained(work, sources, threads))
            sheet = _filter_sheet(first, folder)
            page = ExplainPage(
                bundle=str(path),
                classes=bundle.classes,
                method=saliency.method,
                backbone=bundle.card.backbone,
                kind=bundle.card.method,
                cropped=bundle.preprocess.resize_policy == "crop",
                sanity=sanity,
                pictures=pictures,
                notes=tuple(notes[1:]),
                filters=sheet,
                created=datetime.now(UTC),
                tellapart=__version__,
            )
            (folder / PAGE).write_text(render_explain(page), encoding="utf-8")
    except OSError as error:
        raise InputError(
            "cannot_write", f"--out {out} cannot be written ({error.strerror}).", "Name another folder."
        ) from None
    return Explanation(str(path), saliency.method, sanity, pictures, tuple(notes), out / PAGE)


def _refuse_folder(out: Path, bundle: Path) -> None:
    """Refuse a place whose loss somebody would regret: what is replaced is an earlier output of ours, or nothing."""
    if out.resolve().is_relative_to(bundle.resolve()):
        raise InputError("out_not_empty", f"--out {out} lies in the bundle {bundle}.", "Name a new folder.")
    if out.exists() and not out.is_dir():
        raise InputError("out_not_a_folder", f"--out {out} is a file.", "Choose a folder that is new or empty.")
    names = [entry.name for entry in out.iterdir()] if out.is_dir() else []
    if names and (PAGE not in names or not all(map(_OURS.fullmatch, names))):
        raise InputError(
            "out_not_empty", f"--out {out} holds files that explain did not write.", "Name a new or empty folder."
        )


def _checked(saliency: Saliency, sources: Sequence[Path | Failure], threads: int) -> Steps[Sanity]:
    """Return whether maps may be shown, judged on pictures asked for and on those of the bundle."""
    asked: list[Path] = [source for source in sources if isinstance(source, Path)]
    tried: list[Path | NDArray[np.uint8]] = [asked[at] for at in evenly(range(len(asked)), MOST_TRIED)]
    if saliency.bundle.reference.thumbnails is not None:  # else they are not pictures of anything
        tried += list(saliency.bundle.selftest)
    yield Progress("check", 0, len(tried))
    found = [one for one in seen(saliency, tried, threads) if one is not None]
    yield Progress("check", len(found), 2 * len(found))
    return sane(try_maps(saliency, found, threads))


def _explained(
    work: _Work, sources: Sequence[Path | Failure], threads: int
) -> Steps[tuple[ExplainedPicture | Failure, ...]]:
    results: list[ExplainedPicture | Failure] = []
    numbered = list(enumerate(sources, 1))
    for result in map_ordered(lambda item: _one(work, *item), numbered, threads):
        results.append(result)
        yield Progress("explain", len(results), len(sources))
    return tuple(results)


def _one(work: _Work, number: int, source: Path | Failure) -> ExplainedPicture | Failure:
    if isinstance(source, Failure):
        return work.named(source)  # type: ignore[return-value]
    saliency = work.saliency
    preprocess = saliency.bundle.preprocess
    try:
        image = prepare_guarded(source, preprocess)
        photo = None if work.folder is None else _photo(source, work)
    except PictureError as error:
        return work.named(Failure(str(source), error))  # type: ignore[return-value]
    looked = saliency.look(image)
    prediction = work.named(work.predictor.answered(str(source), looked.logits, looked.embedding))
    assert isinstance(prediction, Prediction)
    wanted = np.argsort(-prediction.probs, kind="stable")[:2].tolist()
    maps = saliency.maps(looked, wanted) if work.shown else [None] * len(wanted)
    evidence = [_evidence(work, image, prediction, label, map_) for label, map_ in zip(wanted, maps, strict=True)]
    explained = ExplainedPicture(
        prediction, evidence[0], evidence[1] if len(evidence) > 1 else None, _nearest(work, prediction)
    )
    if photo is None:
        return explained
    return _drawn(work, explained, number, image, looked, photo)


def _evidence(
    work: _Work, image: NDArray[np.uint8], prediction: Prediction, label: int, map_: NDArray[np.float32] | None
) -> Evidence:
    name, prob = work.saliency.bundle.classes[label], float(prediction.probs[label])
    near = _neighbours(work, prediction, label)
    spread = None if map_ is None else mass(map_)
    if spread is None:
        return Evidence(name, prob, neighbours=near)
    order = np.argsort(-spread, axis=None, kind="stable")
    held = np.cumsum(spread.ravel()[order])
    marked = np.zeros(spread.size, dtype=bool)
    marked[order[: int(np.searchsorted(held, _SUFFICE - 1e-9)) + 1]] = True
    logits, _ = work.saliency.run(image, cells_hidden(marked.reshape(1, *spread.shape), len(image)))
    without = work.predictor.answered(None, logits[0], prediction.embedding).probs[label]
    return Evidence(name, prob, map_, place(spread), float(without), near)


def _neighbours(work: _Work, prediction: Prediction, label: int) -> tuple[Neighbour, ...]:
    reference = work.saliency.bundle.reference
    if reference.thumbnails is None:
        return ()
    similar = reference.similarities(prediction.embedding)
    of_class = np.flatnonzero(reference.reference_labels == label)
    nearest = of_class[np.argsort(-similar[of_class], kind="stable")][:_NEIGHBOURS].tolist()
    return tuple(Neighbour(row, float(similar[row]), reference.thumbnail(row) or b"") for row in nearest)


def _nearest(work: _Work, prediction: Prediction) -> tuple[tuple[str, int], ...]:
    reference, classes = work.saliency.bundle.reference, work.saliency.bundle.classes
    if reference.thumbnails is None:
        return ()
    nearest = np.argsort(-reference.similarities(prediction.embedding), kind="stable")[:_NEAREST]
    counts = Counter(reference.reference_labels[nearest].tolist())
    return tuple((classes[label], count) for label, count in counts.most_common())


def _photo(source: Path, work: _Work) -> NDArray[np.uint8]:
    from PIL import Image

    pixels = decode_guarded(source, _PHOTO_PX, work.saliency.bundle.preprocess.decode)
    scale = min(1.0, _PHOTO_PX / max(pixels.shape[:2]))
    if scale == 1.0:
        return pixels
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))


def _drawn(
    work: _Work,
    explained: ExplainedPicture,
    number: int,
    image: NDArray[np.uint8],
    looked: Looked,
    photo: NDArray[np.uint8],
) -> ExplainedPicture:
    """Write the picture's own PNG; return the explanation with what the page shows of it."""
    assert work.folder is not None
    preprocess, size = work.saliency.bundle.preprocess, (photo.shape[1], photo.shape[0])
    parts = [part for part in (explained.said, explained.runner_up) if part is not None]
    highest = max((float(part.map.max()) for part in parts if part.map is not None), default=0.0)
    layers = [None if part.map is None else veiled(part.map, highest, size, preprocess) for part in parts]
    panels: list[tuple[str, NDArray[np.uint8] | None]] = [("picture", None)]
    panels += [
        (f"{plain(part.label)} {percent(part.prob)}", layer)
        for part, layer in zip(parts, layers, strict=True)
        if layer is not None
    ]
    name = f"{number:03d}-{_stem(explained.path)}.png"
    (work.folder / name).write_bytes(panels_png(photo, panels))
    drawn = [
        part if layer is None else dataclasses.replace(part, layer=layer_png(layer))
        for part, layer in zip(parts, layers, strict=True)
    ]
    responses = channels = b""
    if work.filters:
        if work.first is not None:
            values = work.first.session.run(image[None], [work.first.output])[work.first.output][0]
            busiest = np.sort(np.argsort(-values.std(axis=(1, 2)), kind="stable")[:_RESPONSES])
            responses = png(tiles(values[busiest], 6, 2 * _TILE_PX))
        if work.saliency.method == "class_activation" and looked.feature_map is not None:
            channels = png(tiles(looked.feature_map[_weighty(work.saliency, looked)], 6, 2 * _TILE_PX))
    return dataclasses.replace(
        explained,
        said=drawn[0],
        runner_up=drawn[1] if len(drawn) > 1 else None,
        photo=thumbnail_jpeg(photo, _PHOTO_PX),
        size=size,
        responses=responses,
        channels=channels,
        png=name,
    )


def _weighty(saliency: Saliency, looked: Looked) -> NDArray[np.int64]:
    """Return the channels of the feature map that speak most for the answer, the first one most."""
    reference = saliency.bundle.reference
    assert reference.head_weight is not None
    weight = reference.head_weight - reference.head_weight.mean(axis=1, keepdims=True)
    share = (looked.embedding - reference.embedding_mean) * weight[:, int(looked.logits.argmax())]
    return np.argsort(-share, kind="stable")[:_CHANNELS]


def _stem(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", Path(path).stem)[:40].strip("_") or "picture"


def _first(bundle: Bundle) -> _First | None:
    found = first_filters(bundle.model)
    return None if found is None else _First(found[1], Session(with_output(bundle.model, found[0])), found[0])


def _filter_sheet(first: _First | None, folder: Path) -> FilterSheet | None:
    """Draw the first layer's filters, and write them down as a picture too."""
    if first is None:
        return None
    drawn = np.moveaxis(first.filters[:_MOST_FILTERS], 1, -1)
    stack: NDArray[Any] = drawn if drawn.shape[-1] == 3 else np.repeat(drawn, 3, axis=-1)
    content = png(tiles(stack, 8, _TILE_PX))
    (folder / FILTERS).write_bytes(content)
    count, channels, height, width = first.filters.shape
    return FilterSheet(content, count, (height, width), channels == 3)
