"""The verbs as functions. Each takes plain values or a `Recipe` and returns a frozen result, which the faces show.

Here a verb's events are driven: written to the run folder, shown to whoever watches, interrupted on request.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.errors import InputError
from tellapart.events import Event
from tellapart.files import named
from tellapart.recipe import Recipe
from tellapart.results import CheckResult, EvaluateResult, ExportResult, TrainResult
from tellapart.tuning import tune

if TYPE_CHECKING:
    from tellapart.ladder.add_class import Added
    from tellapart.ladder.bench import Benched
    from tellapart.ladder.explain import Explanation
    from tellapart.ladder.suggest import Suggested
    from tellapart.runtime.predictor import Failure, Prediction

__all__ = [
    "CheckResult",
    "EvaluateResult",
    "ExportResult",
    "TrainResult",
    "Watch",
    "add_class",
    "bench",
    "check",
    "demo",
    "evaluate",
    "explain",
    "export",
    "predict",
    "suggest",
    "train",
    "tune",
]

Watch = Callable[[Event], None]
_DEMO_SECONDS = 50.0  # it is to be over within a minute of its first word


def train(
    data: str | Path,
    *,
    out: str | Path | None = None,
    recipe: Recipe | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    spent_already: float = 0.0,
    **options: Any,
) -> TrainResult:
    """Train a classifier on labelled pictures: check, split, climb the ladder, ship, report.

    `data` is a folder per class, the same under train/val/test, a table, or an archive of one; `out` the run folder
    (default: a fresh one beside `data`); `options` are those of the recipe, over `recipe`; `watch` is called with each
    event; `spent_already` seconds of the budget are gone. Pictures are never changed. Of several processes (torchrun)
    that of rank 0 writes. Raises InputError for what cannot be used, InterruptedRunError when stopped too early.

    >>> import tellapart
    >>> run = tellapart.train("photos/", method="majority", budget="60s")
    >>> run.result["method"], sorted(run.result["counts"])[:3]
    ('majority', ['excluded', 'found', 'test'])
    """
    entered = time.monotonic()
    import tellapart.ladder.climb  # noqa: F401 - all that takes long to import, while a signal still ends it at once
    from tellapart.driving import Signals, finish
    from tellapart.files import room_told
    from tellapart.interrupts import by_exception
    from tellapart.ladder.clock import Clock
    from tellapart.ladder.folder import prepare
    from tellapart.ladder.space import needed_bytes
    from tellapart.training import by_all, told_again, trained

    by_exception()
    chosen, place = Recipe.of(recipe, **options), None if out is None else Path(out)

    def led(world: Any) -> TrainResult:
        folder = finish(prepare(named(data), place, chosen, resume), watch)
        try:
            if folder.finished is not None:
                return told_again(folder, watch)
            clock = Clock(chosen.budget_seconds, spent_already + time.monotonic() - entered)
            with room_told(folder.path, needed_bytes(0)):
                return trained(folder, chosen, clock, watch, signals, world)
        finally:
            folder.release()

    with Signals() as signals:
        return by_all(chosen, signals, led)


def predict(
    bundle: str | Path, pictures: str | Path | Iterable[str | Path], *, threads: int | None = None
) -> Iterator[Prediction | Failure]:
    """Yield a Prediction or a Failure for each picture, in order, as they are asked for.

    `pictures` are files, folders, globs and archives (or one of them). Raises BundleError for a bundle that cannot be
    trusted, InputError where nothing of what was asked is found or all archives are refused; one missing name or
    refused archive among others is a Failure in its place. Without `threads` the setting that `bench` left is followed.

    >>> import tellapart
    >>> run = tellapart.train("photos/", method="majority", budget="60s")
    >>> first = next(tellapart.predict(run.bundle, "photos/"))
    >>> first.answer in ("label", "unsure", "unknown"), 0.0 <= first.prob <= 1.0
    (True, True)
    """
    from tellapart.runtime.predictor import as_member
    from tellapart.runtime.setting import predictor_for
    from tellapart.runtime.sources import expand

    asked = _ready(pictures)
    predictor = predictor_for(Path(bundle), threads)
    places, refused = _archives(asked)
    answers = predictor.predict(expand((places.get(item, item) for item in asked), refused))
    return answers if not places else (as_member(answer, places) for answer in answers)


def _archives(asked: Iterable[str]) -> tuple[dict[str, str], dict[str, InputError]]:
    from tellapart.cache import cache_root
    from tellapart.data.archive import unpacked_among
    from tellapart.driving import finish

    return finish(unpacked_among(asked, cache_root()))


def evaluate(
    bundle: str | Path,
    data: str | Path,
    *,
    robustness: bool = False,
    report: str | Path | None = None,
    against: str | Path | None = None,
    watch: Watch | None = None,
    recipe: Recipe | None = None,
    **options: Any,
) -> EvaluateResult:
    """Measure a bundle on labelled pictures: their test split where `data` has one, else all of them.

    With `robustness` also on at most 200 of them blurred, noisy, compressed, brighter and turned, at three strengths.
    `report` is the .html file of a page to write; `against` another bundle, compared on the same pictures. Takes the
    options of `train` that say how `data` is read. Raises DataError when `data` has a class that a bundle does not
    know, InputError where the page may not be written.

    >>> import tellapart
    >>> run = tellapart.train("photos/", method="majority", budget="60s")
    >>> result = tellapart.evaluate(run.bundle, "photos/").as_json()
    >>> 0.0 <= result["accuracy_low"] <= result["accuracy"] <= result["accuracy_high"] <= 1.0
    True
    """
    from tellapart.driving import finish
    from tellapart.interrupts import by_exception
    from tellapart.ladder.evaluate import evaluate as steps
    from tellapart.runtime.session import onnxruntime_module

    onnxruntime_module()
    by_exception()
    page, other = (None if path is None else Path(path) for path in (report, against))
    found = finish(steps(Path(bundle), named(data), Recipe.of(recipe, **options), robustness, page, other), watch)
    return EvaluateResult(**{field.name: getattr(found, field.name) for field in dataclasses.fields(found)})


def export(
    bundle: str | Path,
    out: str | Path,
    *,
    to: str = "onnx",
    precision: str = "auto",
    max_drop: float = 0.5,
    data: str | Path | None = None,
    with_resize: bool = False,
    ort_web: str | Path | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
) -> ExportResult:
    """Write `bundle` anew at `out` for another machine: in `precision`, or in the fastest form that is as good (auto).

    A form that loses more than `max_drop` points on pictures of its run, or of `data`, or makes a class worse by more
    than noise, is refused, and so is int8 that is not faster. `with_resize` puts the resize into the graph. `to` is
    `onnx`; `openvino`: with an IR beside it; or `browser`: with a page, and onnxruntime-web from the folder `ort_web`
    or npm. Raises BundleError, InputError, DataError, MissingExtraError, GateError when nothing is good enough.

    >>> import tellapart
    >>> run = tellapart.train("photos/", method="majority", budget="60s")
    >>> result = tellapart.export(run.bundle, "exported", precision="fp16")
    >>> result.precision, [form.precision for form in result.forms]
    ('fp16', ['as it is', 'fp32', 'fp16'])
    """
    from tellapart.driving import finish
    from tellapart.interrupts import by_exception
    from tellapart.ladder.export import Wish
    from tellapart.ladder.export import export as steps
    from tellapart.runtime.session import onnxruntime_module

    onnxruntime_module()
    by_exception()
    wish = Wish(precision, max_drop, with_resize, to, Path(ort_web) if ort_web is not None else None)
    place = Path(data) if data is not None else None
    found = finish(steps(Path(bundle), Path(out), wish, place, Recipe.of(threads=threads)), watch)
    return ExportResult(**{field.name: getattr(found, field.name) for field in dataclasses.fields(ExportResult)})


def bench(bundle: str | Path, pictures: str | Path | None = None, *, watch: Watch | None = None) -> Benched:
    """Measure where the time of a prediction goes on this machine, and write the fastest setting beside `bundle`.

    `pictures`: a file or a folder, else those of its run. Raises BundleError, InputError, DataError without pictures.

    >>> import tellapart
    >>> run = tellapart.train("photos/", method="majority", budget="60s")
    >>> tellapart.bench(run.bundle, "photos/").n
    48
    """
    from tellapart.driving import finish
    from tellapart.interrupts import by_exception
    from tellapart.ladder.bench import bench as steps
    from tellapart.runtime.session import onnxruntime_module

    onnxruntime_module()
    by_exception()
    return finish(steps(Path(bundle), None if pictures is None else Path(pictures)), watch)


def explain(
    bundle: str | Path,
    pictures: str | Path | Iterable[str | Path],
    *,
    out: str | Path | None = None,
    filters: bool = False,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Explanation:
    """Show what answers rest on: where in each picture the evidence lies, the runner-up, training pictures like it.

    `pictures` are as for `predict`. `out` is a new folder for `explain.html` and a PNG for each picture; with `filters`
    the page shows the first layer's filters and feature maps too. Maps are shown only where they pass sanity checks
    (`sanity`). Raises what `predict` raises, and InputError for a folder that is not ours to fill.

    >>> import tellapart
    >>> run = tellapart.train("photos/", method="majority", budget="60s")
    >>> result = tellapart.explain(run.bundle, "photos/ants/00.png")
    >>> result.pictures[0].prediction.label in ("ants", "bees"), result.sanity.passed
    (True, False)
    """
    from tellapart.driving import finish
    from tellapart.images import default_threads
    from tellapart.ladder.explain import explain as steps
    from tellapart.runtime.predictor import as_member
    from tellapart.runtime.sources import expand

    if filters and out is None:
        raise InputError(
            "filters_without_out", "--filters draws pictures, and there is no folder for them.", "Give --out DIR."
        )
    asked = _ready(pictures)
    places, refused = _archives(asked)
    sources = list(expand((places.get(item, item) for item in asked), refused))
    folder, cores = None if out is None else Path(out), threads or default_threads()
    member = functools.partial(as_member, places=places)
    return finish(steps(Path(bundle), sources, folder, filters=filters, threads=cores, named=member), watch)


def check(
    data: str | Path,
    *,
    out: str | Path | None = None,
    fix: str | Path | None = None,
    recipe: Recipe | None = None,
    watch: Watch | None = None,
    spent_already: float = 0.0,
    **options: Any,
) -> CheckResult:
    """Look for what is wrong with labelled pictures: broken, twice, leaking, mislabelled, odd. Nothing is changed.

    `data` is what `train` takes, and so are `options`. `out` is the folder of the page, `check.html` (default: one
    beside `data`); `fix` is a .csv file to write what should be trained
    on. Raises InputError (DataError) for what cannot be read.

    >>> import tellapart
    >>> result = tellapart.check("photos/")
    >>> sorted(result.as_json()), all(0 <= finding.severity <= 1 for finding in result.findings)
    (['classes', 'counts', 'findings', 'version'], True)
    """
    entered = time.monotonic()
    from tellapart.driving import finish
    from tellapart.interrupts import by_exception
    from tellapart.ladder.check import check as steps
    from tellapart.ladder.clock import Clock

    by_exception()
    chosen = Recipe.of(recipe, **options)
    clock = Clock(chosen.budget_seconds, spent_already + time.monotonic() - entered)
    places = None if out is None else Path(out), None if fix is None else Path(fix)
    found = finish(steps(named(data), chosen, clock, *places), watch)
    return CheckResult(
        found.manifest.counts, found.manifest.classes, found.findings, found.notes, found.page, found.fixed
    )


def demo(
    out: str | Path | None = None, *, watch: Watch | None = None, spent_already: float = 0.0, **options: Any
) -> TrainResult:
    """Train on scikit-learn's handwritten digits, written out as PNG files under `out` (default: tellapart-demo).

    The path of a user's own folder is taken, offline. Options are those of `train`.

    >>> import tellapart
    >>> run = tellapart.demo(method="majority", budget="60s")
    >>> run.result["counts"]["found"], len(run.result["classes"])
    (1797, 10)
    """
    from tellapart.data.digits import write_digits
    from tellapart.interrupts import by_exception

    by_exception()
    folder = Path("tellapart-demo" if out is None else out)
    write_digits(folder / "digits")
    wishes = {"budget": _DEMO_SECONDS, **options}
    return train(folder / "digits", watch=watch, spent_already=spent_already, **wishes)


def add_class(
    bundle: str | Path,
    label: str,
    pictures: str | Path | Iterable[str | Path],
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    watch: Watch | None = None,
    recipe: Recipe | None = None,
    **options: Any,
) -> Added:
    """Write to `out` a bundle that knows the class `label` besides, learned from the embeddings of `pictures`.

    By default `out` lies beside the old bundle, named after it and the class.
    The old pictures are those in `data`, else those that the bundle's run lists, else the bundle's references. Takes
    the options of `train` that say how `data` is read. Raises BundleError, DataError, InputError.

    >>> import tellapart
    >>> from PIL import Image
    >>> run, green = tellapart.train("photos/", method="classical", budget="60s"), Image.new("RGB", (32, 32), "green")
    >>> green.save("frog.png")
    >>> tellapart.add_class(run.bundle, "frogs", "frog.png", out="with-frogs").classes
    ('ants', 'bees', 'frogs')
    """
    from tellapart.driving import finish
    from tellapart.ladder.add_class import add_class as steps
    from tellapart.ladder.add_class import beside

    place = beside(Path(bundle), label) if out is None else Path(out)
    new, old = _ready(pictures), None if data is None else Path(data)
    return finish(steps(Path(bundle), label, new, place, old, Recipe.of(recipe, **options)), watch)


def suggest(
    model: str | Path,
    pictures: str | Path | Iterable[str | Path],
    *,
    out: str | Path | None = None,
    num: int | None = None,
    clusters: int | None = None,
    watch: Watch | None = None,
    recipe: Recipe | None = None,
    **options: Any,
) -> Suggested:
    """Write to `out` (.csv) which `num` of `pictures` to label first, and a page that shows them beside it.

    By default the table is named after the folder of pictures. `model` is a bundle, which proposes labels too, or a
    backbone's name: pictures are in `clusters` groups. Raises BundleError, DataError, InputError, RecipeError.

    >>> import tellapart
    >>> run = tellapart.train("photos/", method="classical", budget="60s")
    >>> len(tellapart.suggest(run.bundle, "photos/", out="to-label.csv", num=8).ranked)
    8
    """
    from tellapart.driving import finish
    from tellapart.ladder.suggest import beside
    from tellapart.ladder.suggest import suggest as steps

    chosen, named = Recipe.of(recipe, **options), _ready(pictures)
    place = beside(named) if out is None else Path(out)
    return finish(steps(str(model), named, place, num, clusters, chosen), watch)


def _ready(pictures: str | Path | Iterable[str | Path]) -> list[str]:
    """Return the names of pictures; what takes long to load is loaded, and a signal raises from now on."""
    from tellapart.interrupts import by_exception
    from tellapart.runtime.session import onnxruntime_module

    onnxruntime_module()
    by_exception()
    return [str(item) for item in ([pictures] if isinstance(pictures, str | Path) else pictures)]
