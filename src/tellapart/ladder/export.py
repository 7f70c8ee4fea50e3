"""A bundle leaves for another machine: smaller or faster, and no worse than allowed on the user's own pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.errors import GateError, InputError, MissingExtraError
from tellapart.events import Decision, Note, Steps
from tellapart.images import default_threads
from tellapart.ladder.export_forms import AS_IT_IS, Form, Key, Made, Precision, Runtime, make_forms, measured
from tellapart.ladder.export_resize import compare_resize
from tellapart.ladder.export_sample import Sample, sample
from tellapart.ladder.export_told import write_page
from tellapart.ladder.run import stage
from tellapart.recipe import Recipe
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.card import IR
from tellapart.runtime.openvino_session import openvino_module
from tellapart.runtime.session import Session
from tellapart.ship.any_size import of_any_size
from tellapart.ship.derive import derive, moved_quantiles
from tellapart.ship.openvino_ir import as_ir
from tellapart.ship.site import check_ort_web, site

__all__ = ["Exported", "Form", "Precision", "Target", "Wish", "export"]

Target = Literal["onnx", "openvino", "browser"]


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for: for whom the graph is; a precision, or `auto`; how many points of accuracy may go; whether
    the graph resizes; where onnxruntime-web lies, for the browser.
    """

    precision: str = "auto"
    max_drop: float = 0.5
    with_resize: bool = False
    to: str = "onnx"
    ort_web: Path | None = None

    def __post_init__(self) -> None:
        options = (
            ("--to", self.to, get_args(Target)),
            ("--precision", self.precision, ("auto", *get_args(Precision))),
        )
        for name, value, allowed in options:
            if value not in allowed:
                raise InputError("bad_option", f"{name} {value} is not known.", f"Allowed are {', '.join(allowed)}.")
        if not 0.0 <= self.max_drop <= 100.0:
            raise InputError(
                "bad_option", f"--max-drop is {self.max_drop:g}.", "Give points from 0 to 100, such as 0.5."
            )
        if self.ort_web is not None and self.to != "browser":
            raise InputError("bad_option", "--ort-web is for --to browser.", "Leave it out.")

    @property
    def runtime(self) -> Runtime:
        """By what the graph will be run: the browser's onnxruntime is compiled from the same source."""
        return "openvino" if self.to == "openvino" else "onnxruntime"

    @property
    def resizes(self) -> bool:
        """Whether the graph resizes: in a browser there is nobody else to do it."""
        return self.with_resize or self.to == "browser"

    @property
    def precisions(self) -> tuple[str, ...]:
        """The forms to make, fp32 among them to compare with.

        A browser adds up whole numbers otherwise than this machine, and need not be faster with them: int8 is made for
        it where it is asked for alone.
        """
        if self.precision != "auto":
            return tuple(dict.fromkeys(("fp32", self.precision)))
        return ("fp32", "fp16") if self.to == "browser" else get_args(Precision)


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written where; every form that was measured, the bundle as it was first; why that one was taken.

    `page` is the page of all that, None where none could be written.
    """

    out: Path
    to: str
    precision: str
    forms: tuple[Form, ...]
    threads: int
    why: str
    page: Path | None


def export(
    path: Path, out: Path, wish: Wish, data: Path | None, recipe: Recipe, *, with_page: bool = True
) -> Steps[Exported]:
    """Write the bundle at `path` anew at `out`, in the form asked for or the fastest that is as good; and a page.

    Raises InputError (`out_not_empty`), BundleError, DataError (`no_pictures_to_judge`), MissingExtraError; GateError
    (`export_gate`) where no form asked for is good enough: then nothing is written.
    """
    _check_out(out, path)
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise MissingExtraError("train", "Exporting a model") from None
    if wish.to == "openvino":
        openvino_module()
    bundle = Bundle(path)
    threads = recipe.fit.threads or default_threads()
    if wish.to == "browser":
        check_ort_web(wish.ort_web)
        yield Note("info", "No training picture goes into a folder for the browser: thumbnails are left out.")
    pictures = yield from stage("prepare", sample(bundle, data, recipe))
    made_forms = make_forms(bundle, pictures, wish.precisions, wish.runtime, wish.max_drop)
    forms = yield from stage("convert", made_forms)
    found = yield from stage("measure", measured(forms, pictures, threads, bundle.preprocess.image_size))
    chosen, why = _chosen(found, wish)
    if chosen is None:
        raise GateError(
            "export_gate", f"{wish.precision} is refused: {why}.", "Nothing was written. See docs/export.md."
        )
    yield Decision("precision", chosen, why)
    made = forms[chosen, wish.runtime]
    if wish.resizes:
        made = yield from stage("resize", _resizing(made, bundle, pictures))
    yield from stage("ship", _written(bundle, pictures, forms[AS_IT_IS], made, wish, out))
    page = None
    if with_page:
        try:
            page = write_page(path, out, wish.to, tuple(found.values()), found[chosen, wish.runtime], threads, why)
        except OSError as error:
            yield Note("warning", f"The page of the export cannot be written ({error.strerror}).")
    return Exported(out, wish.to, chosen, tuple(found.values()), threads, why, page)


def _chosen(forms: Mapping[Key, Form], wish: Wish) -> tuple[str | None, str]:
    """Return the precision to ship, None where the one asked for is refused, and the reason."""
    runtime = wish.runtime
    if wish.precision != "auto":
        refused = _refused(forms, wish.precision, runtime)
        return (wish.precision, "it was asked for") if refused is None else (None, refused)
    reasons = {
        "int8": "it is the fastest, and the pictures say that it is as good",
        "fp16": "it is half the size, as fast, and as good",
        "fp32": "nothing smaller or faster is as good",
    }
    for precision in reasons:
        if precision in wish.precisions and _refused(forms, precision, runtime) is None:
            return precision, reasons[precision]
    return None, next((form.refused for form in forms.values() if form.refused), "no form can be used")


def _refused(forms: Mapping[Key, Form], precision: str, runtime: Runtime) -> str | None:
    """Return why a form may not be used by `runtime`. The bundle's own graph has to be as good, though not as fast."""
    form, own = forms.get((precision, runtime)), forms.get((precision, "onnxruntime"))
    if own is None:
        return "the model has no convolutions that could be in 8 bits"
    if form is None:
        return own.refused or own.judged.refused or "OpenVINO cannot read the model in this form"
    return form.refused or own.judged.refused


def _resizing(made: Made, bundle: Bundle, pictures: Sample) -> Steps[Made]:
    """Return the form with the resize inside, once it is shown to be ours on the files themselves."""
    model = of_any_size(made.model, bundle.preprocess)
    changed = dataclasses.replace(made, model=model)
    if made.ir is not None:
        for_it = of_any_size(made.model, bundle.preprocess, branches=False)
        changed = dataclasses.replace(changed, ir=as_ir(for_it, half=made.form.precision == "fp16"))
    for session in dict.fromkeys((Session(model), changed.session())):
        found = yield from compare_resize(Session(made.model), session, bundle.preprocess, pictures.files)
        words = (
            f"{found.values:.2%} of the values of {found.n:,} pictures differ, by at most {found.levels} levels; "
            f"{found.same:.1%} are named alike"
        )
        yield Decision("with_resize", True, words)
        if not found.good:
            raise GateError("export_gate", f"The resize in the graph is not ours: {words}.", "Leave out --with-resize.")
    return changed


def _written(bundle: Bundle, pictures: Sample, before: Made, made: Made, wish: Wish, out: Path) -> Steps[Bundle]:
    """Write the bundle: novelty on the new graph's scale, the numbers of validation from the new graph."""
    scorer = bundle.reference.novelty()

    def raw(one: Made) -> NDArray[np.float64]:
        pairs = zip(one.embeddings, one.logits, strict=True)
        return np.array([scorer.raw(embedding, row) for embedding, row in pairs], dtype=np.float64)

    rows = np.flatnonzero(pictures.validation)
    groups = [pictures.groups[row] for row in rows.tolist()]
    metrics = judge.metrics(pictures.targets[rows], judge.softmax(made.logits[rows]), groups)
    how = {
        "precision": made.form.precision,
        "convolutions_in_float": made.form.in_float,
        "resizes": wish.resizes,
        "to": wish.to,
    }
    yield Decision("export", how, f"judged on {made.form.judged.n:,} pictures")
    companions: dict[str, bytes] = {}
    if made.ir is not None:
        companions = dict(zip(IR, made.ir, strict=True))
    elif wish.to == "browser":
        companions = site(wish.ort_web)
    return derive(
        bundle,
        out,
        made.model,
        quantiles=moved_quantiles(bundle.reference.novelty_quantiles, raw(before), raw(made)),
        embedding_shift=(made.embeddings - before.embeddings).mean(axis=0),
        metrics={"val": metrics.as_json() if len(rows) else None, "test": None},
        how=how,
        companions=companions,
        keep_pictures=wish.to != "browser",
    )


def _check_out(out: Path, bundle: Path) -> None:
    if out.resolve().is_relative_to(bundle.resolve()):
        raise InputError("out_not_empty", f"--out {out} lies in the bundle.", "Name a folder outside of it.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out_not_empty", f"--out {out} is there already.", "Name a folder that is new or empty.")
    if not out.resolve().parent.is_dir():
        raise InputError("out_not_empty", f"--out {out} lies in a folder that is not there.", "Make that folder first.")
