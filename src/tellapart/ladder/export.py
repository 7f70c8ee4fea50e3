"""A bundle leaves for another machine: smaller or faster, and no worse than allowed on the user's own pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.errors import GateError, InputError, MissingExtraError
from tellapart.events import Decision, Note, Steps
from tellapart.images import default_threads
from tellapart.ladder.export_eight import EightBits, eight_bits
from tellapart.ladder.export_gate import Judged, judged
from tellapart.ladder.export_resize import compare_resize
from tellapart.ladder.export_sample import Sample, sample
from tellapart.ladder.run import stage
from tellapart.learn.fold import folded
from tellapart.learn.rungs import FloatArray
from tellapart.recipe import Recipe
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.session import Session
from tellapart.ship.any_size import of_any_size
from tellapart.ship.derive import derive, moved_quantiles
from tellapart.ship.half import halved
from tellapart.ship.observe import outputs_of
from tellapart.ship.speed import Speed, measure_speed, peak_bytes

__all__ = ["Exported", "Form", "Precision", "Wish", "export"]

Precision = Literal["fp32", "fp16", "int8"]
_WORTH = 1.05  # times as fast: less is noise
_OUTPUTS = ("logits", "embedding")


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: a precision, or `auto`; how many points of accuracy may go; whether the graph resizes."""

    precision: str = "auto"
    max_drop: float = 0.5
    with_resize: bool = False

    def __post_init__(self) -> None:
        allowed = ("auto", *get_args(Precision))
        if self.precision not in allowed:
            raise InputError(
                "bad_option", f"--precision {self.precision} is not known.", f"Allowed are {', '.join(allowed)}."
            )
        if not 0.0 <= self.max_drop <= 100.0:
            raise InputError(
                "bad_option", f"--max-drop is {self.max_drop:g}.", "Give points from 0 to 100, such as 0.5."
            )


@dataclasses.dataclass(frozen=True)
class Form:
    """One form of the model, measured: `in_float` counts convolutions that an int8 graph keeps in 32 bits.

    `refused` says why it may not be used; None where it may. `speed` and `peak_bytes` are of this machine.
    """

    precision: str
    runtime: str
    bytes: int
    judged: Judged
    speed: Speed | None = None
    peak_bytes: int | None = None
    in_float: int = 0
    refused: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written where; every form that was measured, the bundle as it was first; why that one was taken."""

    path: Path
    precision: str
    forms: tuple[Form, ...]
    threads: int
    why: str


def export(path: Path, out: Path, wish: Wish, data: Path | None, recipe: Recipe) -> Steps[Exported]:
    """Write the bundle at `path` anew at `out`, in the form asked for or the fastest that is as good.

    Raises InputError (`out_not_empty`), BundleError, DataError (`no_pictures_to_judge`), MissingExtraError; GateError
    (`export_gate`) where no form asked for is good enough: then nothing is written.
    """
    _check_out(out, path)
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingExtraError("train", "Exporting a model") from None
    bundle = Bundle(path)
    threads = recipe.fit.threads or default_threads()
    pictures = yield from stage("prepare", sample(bundle, data, recipe))
    work = _Work(bundle, pictures, wish)
    forms = yield from stage("convert", work.forms())
    measured = yield from stage("measure", _measured(forms, pictures, threads, bundle.preprocess.image_size))
    chosen, why = _chosen(measured, wish)
    if chosen is None:
        raise GateError(
            "export_gate", f"{wish.precision} is refused: {why}.", "Nothing was written. See docs/export.md."
        )
    yield Decision("precision", chosen, why)
    made = forms[chosen]
    if wish.with_resize:
        made = yield from stage("resize", _resizing(made, bundle, pictures))
    yield from stage("ship", _written(work, made, out, chosen))
    return Exported(out, chosen, tuple(measured.values()), threads, why)


@dataclasses.dataclass(frozen=True, eq=False)
class _Made:
    """One form as bytes, what it gives for the pictures that judge, and what is said of it."""

    form: Form
    model: bytes
    logits: FloatArray
    embeddings: FloatArray


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    bundle: Bundle
    pictures: Sample
    wish: Wish

    @functools.cached_property
    def plain(self) -> bytes:
        return folded(self.bundle.model, self.bundle.preprocess.image_size)

    @functools.cached_property
    def before(self) -> tuple[FloatArray, FloatArray]:
        return outputs_of(self.bundle.model, self.pictures.judge)

    def judge(self, logits: FloatArray, identical: bool = False) -> Judged:
        return judged(
            self.before[0],
            logits,
            self.pictures.targets,
            self.pictures.groups,
            self.bundle.classes,
            self.wish.max_drop,
            identical,
        )

    def forms(self) -> Steps[dict[str, _Made]]:
        """Make the bundle as it is, and every form that is asked for, each judged."""
        asked = get_args(Precision) if self.wish.precision == "auto" else ("fp32", self.wish.precision)
        found = {"as it is": self._made("as it is", self.bundle.model)}
        for precision in dict.fromkeys(asked):
            if precision == "fp32":
                found["fp32"] = self._made("fp32", self.plain, identical=True)
            elif precision == "fp16":
                found["fp16"] = self._made("fp16", halved(self.plain))
            else:
                eight = yield from eight_bits(self.plain, self.pictures, self.before, self.judge)
                if isinstance(eight, EightBits):
                    found["int8"] = self._made("int8", eight.model, in_float=len(eight.in_float))
                else:
                    yield Note("info", f"int8: {eight}.")
        return found

    def _made(self, precision: str, model: bytes, identical: bool = False, in_float: int = 0) -> _Made:
        logits, embeddings = outputs_of(model, self.pictures.judge)
        found = self.judge(logits, identical)
        form = Form(precision, "onnxruntime", len(model), found, in_float=in_float, refused=found.refused)
        return _Made(form, model, logits, embeddings)


def _measured(forms: Mapping[str, _Made], pictures: Sample, threads: int, image_size: int) -> Steps[dict[str, Form]]:
    """Add to each form how fast it is and how much memory it takes; an int8 that is no faster than fp32 is refused."""
    runs = {name: functools.partial(Session(made.model).run, outputs=_OUTPUTS) for name, made in forms.items()}
    speeds = yield from measure_speed(runs, pictures.judge, threads)
    found = {}
    for name, made in forms.items():
        found[name] = dataclasses.replace(made.form, speed=speeds[name], peak_bytes=peak_bytes(made.model, image_size))
    plain, eight = speeds.get("fp32"), found.get("int8")
    if plain is not None and eight is not None and eight.refused is None and not _faster(speeds["int8"], plain):
        words = f"it is not faster than fp32 on this machine ({speeds['int8'].one_ms:.1f} and {plain.one_ms:.1f} ms)"
        found["int8"] = dataclasses.replace(eight, refused=words)
    return found


def _faster(first: Speed, second: Speed) -> bool:
    return second.one_ms / first.one_ms >= _WORTH and first.per_second / second.per_second >= _WORTH


def _chosen(forms: Mapping[str, Form], wish: Wish) -> tuple[str | None, str]:
    """Return the form to ship, None where the one asked for is refused, and the reason."""
    if wish.precision != "auto":
        form = forms.get(wish.precision)
        if form is None:
            return None, "the model has no convolutions that could be in 8 bits"
        return (wish.precision, "it was asked for") if form.refused is None else (None, form.refused)
    for precision, why in (
        ("int8", "it is the fastest, and the pictures say that it is as good"),
        ("fp16", "it is half the size, as fast, and as good"),
        ("fp32", "nothing smaller or faster is as good"),
    ):
        form = forms.get(precision)
        if form is not None and form.refused is None:
            return precision, why
    return None, next((form.refused for form in forms.values() if form.refused), "no form can be used")


def _resizing(made: _Made, bundle: Bundle, pictures: Sample) -> Steps[_Made]:
    """Return the form with the resize inside, once it is shown to be ours on the files themselves."""
    found = yield from compare_resize(made.model, bundle, pictures.files)
    words = f"{found.values:.2%} of the values of {found.n:,} pictures differ, by at most {found.levels} levels"
    yield Decision("with_resize", True, f"{words}; {found.same:.1%} are named alike")
    if not found.good:
        raise GateError("export_gate", f"The resize in the graph is not ours: {words}.", "Leave out --with-resize.")
    return dataclasses.replace(made, model=of_any_size(made.model, bundle.preprocess))


def _written(work: _Work, made: _Made, out: Path, precision: str) -> Steps[Bundle]:
    """Write the bundle: novelty on the new graph's scale, the numbers of validation from the new graph."""
    bundle, pictures = work.bundle, work.pictures
    scorer = bundle.reference.novelty()

    def raw(logits: FloatArray, embeddings: FloatArray) -> NDArray[np.float64]:
        pairs = zip(embeddings, logits, strict=True)
        return np.array([scorer.raw(embedding, row) for embedding, row in pairs], dtype=np.float64)

    quantiles = moved_quantiles(
        bundle.reference.novelty_quantiles, raw(*work.before), raw(made.logits, made.embeddings)
    )
    rows = np.flatnonzero(pictures.validation)
    groups = [pictures.groups[row] for row in rows.tolist()]
    metrics = judge.metrics(pictures.targets[rows], judge.softmax(made.logits[rows]), groups)
    how = {"precision": precision, "convolutions_in_float": made.form.in_float, "resizes": work.wish.with_resize}
    yield Decision("export", how, f"judged on {made.form.judged.n:,} pictures")
    return derive(
        bundle,
        out,
        made.model,
        quantiles=quantiles,
        embedding_shift=(made.embeddings - work.before[1]).mean(axis=0),
        metrics={"val": metrics.as_json() if len(rows) else None, "test": None},
        how=how,
    )


def _check_out(out: Path, bundle: Path) -> None:
    if out.resolve().is_relative_to(bundle.resolve()):
        raise InputError("out_not_empty", f"--out {out} lies in the bundle.", "Name a folder outside of it.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out_not_empty", f"--out {out} is there already.", "Name a folder that is new or empty.")
    if not out.resolve().parent.is_dir():
        raise InputError("out_not_empty", f"--out {out} lies in a folder that is not there.", "Make that folder first.")
