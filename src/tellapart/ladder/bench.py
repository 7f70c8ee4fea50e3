"""Where the time of a prediction goes on this machine, and in which setting it is shortest."""

from __future__ import annotations

import dataclasses
import os
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tellapart.errors import BundleError, DataError
from tellapart.events import Decision, Note, Progress, Steps
from tellapart.files import finite
from tellapart.images import default_threads, prepare_guarded
from tellapart.ladder.bench_forms import Accuracy, forms_beside
from tellapart.ladder.export_gate import Judged
from tellapart.ladder.export_sample import of_the_run
from tellapart.ladder.run import stage
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.openvino_session import has_bf16, has_openvino
from tellapart.runtime.predictor import Failure, Prediction, Predictor
from tellapart.runtime.session import Runs
from tellapart.runtime.setting import CHOICES, Setting, card_digest, write_setting
from tellapart.runtime.sources import expand
from tellapart.ship.speed import BATCH

__all__ = ["Benched", "Rate", "RunBy", "bench", "fastest"]

_PICTURES = 48
_ROUNDS = 5
_WORTH = 1.05  # times as fast: less is noise
_ALIKE_SPEED = 0.97  # of the fastest, and what is plainer is taken
_CONTENDERS, _IN_SIGHT = 8, 1.25  # settings that meet for longer, and how many times the shortest time they may take
_LONGER_SECONDS = 0.75  # of such a round
_MOST_TIMES = 16  # that the same pictures are answered in it
_ALIKE = 1e-3  # how far a probability may be off in another runtime
_OUTPUTS = ("logits", "embedding")
_K = TypeVar("_K", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True)
class RunBy:
    """One way to run a graph: milliseconds a picture on one thread, alone and in batches of eight.

    `form` is the folder of another form of the bundle, beside it; empty for the bundle's own graph. `refused` says why
    `predict` may not take it, None where it may; `judged` is there where numbers are others than the graph's own, and
    so accuracy was measured again.
    """

    form: str
    runtime: str
    precision: str
    model_ms: float
    batch_ms: float
    judged: Judged | None = None
    refused: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """Pictures a second of the whole path on `threads`, the best round, and the share of what these could do at most.

    The most is `threads`, or the cores where those are fewer, by the time of a picture decoded and run alone.
    """

    threads: int
    per_second: float
    share_of_limit: float
    runtime: str = "onnxruntime"
    precision: str = "fp32"
    form: str = ""
    batch: int = 1


@dataclasses.dataclass(frozen=True)
class Benched:
    """Milliseconds a picture on one thread: decode and resize, the model, the model in batches of eight; to load it.

    `model_ms` and `batch_ms` are of onnxruntime; `models` has every way to run a graph. `rates` are of the whole path;
    `threads`, `batch`, `form`, `runtime` and `precision` are the setting that was chosen, and `place` where it was
    written, if it could be. `n` pictures were used; numbers of threads and batches that did not give the same answers,
    bit for bit, are left out.
    """

    n: int
    cores: int
    load_ms: float
    decode_ms: float
    model_ms: float
    batch_ms: float
    models: tuple[RunBy, ...]
    rates: tuple[Rate, ...]
    threads: int
    runtime: str
    precision: str
    batch: int
    form: str
    place: Path | None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints: version 1 of the JSON contract."""
        place = None if self.place is None else str(self.place)
        plain: dict[str, Any] = finite({"version": 1, **dataclasses.asdict(self), "place": place})
        return plain


_Way = tuple[str, str, str]  # form, runtime, precision
_Place = tuple[_Way, int, int]  # batch, threads
_OWN: _Way = ("", *CHOICES[0])


def bench(path: Path, pictures: Path | None) -> Steps[Benched]:
    """Measure the bundle at `path` on at most 48 `pictures` (a folder or a file), or on those of its run.

    Raises BundleError, InputError for pictures that are not there, DataError (`no_pictures_to_judge`) where none can be
    read or the run's are gone.
    """
    began = time.perf_counter()
    bundle = Bundle(path)
    load_ms = 1e3 * (time.perf_counter() - began)
    files = _files(bundle, pictures)
    beside = yield from forms_beside(bundle)
    chosen = ""
    try:
        result = yield from _measured(beside.forms, files, Accuracy(bundle, pictures), load_ms)
        chosen = result.form
    finally:
        beside.tidy(chosen)
    return result


def _measured(forms: Mapping[str, Bundle], files: Sequence[Path], accuracy: Accuracy, load_ms: float) -> Steps[Benched]:
    bundle, cores = forms[""], default_threads()
    sessions = yield from _sessions(forms)
    decode, times = yield from stage("measure", _parts(bundle, files, sessions))
    seconds, refused = yield from stage("measure", _rounds(forms, files, cores, times))
    usual: _Place = (_OWN, 1, cores)
    told: dict[_Way, Judged | None] = {}
    while True:
        allowed = {place: each for place, each in seconds.items() if place[0] not in refused}
        chosen = _contenders(allowed, usual)
        others = [way for way, _, _ in chosen if way[::2] != ("", "fp32") and way not in told]
        if not others:
            break
        # Accuracy costs more than all the rest to measure: only for what may be taken.
        told[others[0]], why = yield from stage("judge", accuracy.of(sessions[others[0]]))
        if why is not None:
            refused[others[0]] = why
    if not chosen:
        raise _changed("No setting gave the same answers twice")
    longer = yield from stage("compare", _longer(forms, files, cores, chosen, seconds))
    (way, batch, threads), words = fastest(longer, usual, lambda place: _plainness(place, cores))
    rates = tuple(
        _rate(place, min(each), len(files), cores, decode + times[place[0]][0])
        for place, each in {**seconds, **longer}.items()
    )
    form, runtime, precision = way
    value = {"threads": threads, "runtime": runtime, "precision": precision, "batch": batch}
    value |= {"form": form} if form else {}
    yield Decision("setting", value, words)
    if (busy := _busy()) > cores:
        yield Note(
            "warning", f"The machine was busy ({busy:.1f} programs wanted its {cores} cores): measure again later."
        )
    place = None
    try:
        card = card_digest(forms[form].path) if form else ""
        place = write_setting(bundle.path, Setting(threads, cores, runtime, precision, batch, form, card))
    except OSError as error:
        yield Note("warning", f"The setting cannot be written beside the bundle ({error.strerror}).")
    models = tuple(RunBy(*way, *each, told.get(way), refused.get(way)) for way, each in times.items())
    own = times[_OWN]
    return Benched(
        len(files), cores, load_ms, decode, *own, models, rates, threads, runtime, precision, batch, form, place
    )


def _sessions(forms: Mapping[str, Bundle]) -> Steps[dict[_Way, Runs]]:
    """Return what runs each form on one thread, by runtime and precision: those that are here and take it."""
    found: dict[_Way, Runs] = {}
    for form, bundle in forms.items():
        for runtime, precision in CHOICES:
            if runtime == "openvino" and (not has_openvino() or (precision == "bf16" and (form or not has_bf16()))):
                continue
            try:
                found[form, runtime, precision] = Setting(1, 1, runtime, precision).session(bundle)
            except BundleError as error:
                yield Note("info", str(error))
    return found


def _files(bundle: Bundle, pictures: Path | None) -> list[Path]:
    if pictures is None:
        manifest = of_the_run(bundle, "--pictures")
        found = [manifest.file(row) for row in manifest.rows if row.split != "test"]
    else:
        found = [Path(item) for item in expand([str(pictures)]) if isinstance(item, str | Path)]
    places = np.unique(np.linspace(0, len(found) - 1, min(_PICTURES, len(found))).astype(np.int64)).tolist()
    answers = Predictor(bundle).predict(found[place] for place in places)
    good = [found[place] for place, answer in zip(places, answers, strict=True) if not isinstance(answer, Failure)]
    if not good:
        raise DataError("no_pictures_to_judge", "None of the pictures can be read.", "Name others with --pictures.")
    return good


def _parts(
    bundle: Bundle, files: Sequence[Path], sessions: Mapping[_Way, Runs]
) -> Steps[tuple[float, dict[_Way, tuple[float, float]]]]:
    """Return milliseconds a picture on one thread, the best of five rounds: decode; the model, alone and in batches."""
    decode: list[float] = []
    alone: dict[_Way, list[float]] = {way: [] for way in sessions}
    batched: dict[_Way, list[float]] = {way: [] for way in sessions}
    for done in range(_ROUNDS):
        start = time.perf_counter()
        squares = [prepare_guarded(file, bundle.preprocess) for file in files]
        decode.append(time.perf_counter() - start)
        batches = [np.stack(squares[place : place + BATCH]) for place in range(0, len(squares), BATCH)]
        for way, session in sessions.items():
            start = time.perf_counter()
            for square in squares:
                session.run(square[None], _OUTPUTS)
            middle = time.perf_counter()
            for batch in batches:
                session.run(batch, _OUTPUTS)
            alone[way].append(middle - start)
            batched[way].append(time.perf_counter() - middle)
        yield Progress("measure", done + 1, _ROUNDS, "rounds")
    each = 1e3 / len(files)
    return each * min(decode), {way: (each * min(alone[way]), each * min(batched[way])) for way in sessions}


def _rounds(
    forms: Mapping[str, Bundle], files: Sequence[Path], cores: int, times: Mapping[_Way, tuple[float, float]]
) -> Steps[tuple[dict[_Place, list[float]], dict[_Way, str]]]:
    """Return the seconds of the whole path by way, batch and number of threads, tried in turns, a number for each
    round; and why some runtime may not be taken: it answers otherwise than onnxruntime, in the same numbers.

    Batches are tried where the model is faster in them. A number of threads and a batch whose answers differ from
    those of one picture after the other on one thread do not count.
    """
    counts = sorted({1, max(1, cores // 2), cores, cores + 1, 2 * cores})
    places = [
        (way, batch, threads)
        for way, (alone, batched) in times.items()
        for batch in ((1, BATCH) if alone >= _WORTH * batched else (1,))
        for threads in counts
    ]
    predictors = {place: _predictor(forms, place, cores) for place in places}
    expected = {way: _answers(predictors[way, 1, 1], files) for way in times}
    refused = {}
    for way in times:
        if way[::2] == ("", "fp32") and (words := _otherwise(expected[way], expected[_OWN])):
            refused[way] = words
    usual: _Place = (_OWN, 1, cores)
    seconds: dict[_Place, list[float]] = {place: [] for place in places}
    for done in range(_ROUNDS):
        for place in list(seconds):
            if done and not _may_win(seconds[place], seconds.get(usual, ())) and place != usual:
                continue
            start = time.perf_counter()
            given = _answers(predictors[place], files)
            seconds[place].append(time.perf_counter() - start)
            if given != expected[place[0]]:
                del seconds[place]
        yield Progress("measure", done + 1, _ROUNDS, "rounds")
    return seconds, refused


def _predictor(forms: Mapping[str, Bundle], place: _Place, cores: int) -> Predictor:
    (form, runtime, precision), batch, threads = place
    return Predictor(forms[form], threads, Setting(threads, cores, runtime, precision).session(forms[form]), batch)


def _contenders(seconds: Mapping[_Place, Sequence[float]], usual: _Place) -> list[_Place]:
    """Return the settings that were fast in short rounds, the fastest first, and the usual one.

    Of each way no more than the three fastest, so that many numbers of threads do not push out another runtime.
    """
    found: list[_Place] = []
    order = sorted((place for place in seconds if place != usual), key=lambda place: min(seconds[place]))
    for place in order:
        near = min(seconds[place]) <= _IN_SIGHT * min(seconds[order[0]])
        if near and sum(place[0] == other[0] for other in found) < 3 and len(found) < _CONTENDERS:
            found.append(place)
    return [*found, usual] if usual in seconds else found


def _longer(
    forms: Mapping[str, Bundle],
    files: Sequence[Path],
    cores: int,
    chosen: Sequence[_Place],
    seconds: Mapping[_Place, Sequence[float]],
) -> Steps[dict[_Place, list[float]]]:
    """Return the seconds that `files` take in each of some settings, in turns, a number for each of five rounds.

    All is answered over and over for most of a second: a tenth of one says more of how threads begin than of a setting.
    """
    predictors = {place: _predictor(forms, place, cores) for place in chosen}
    quickest = min((min(seconds[place]) for place in chosen), default=1.0)
    times = max(1, min(_MOST_TIMES, round(_LONGER_SECONDS / max(quickest, 1e-3))))
    found: dict[_Place, list[float]] = {place: [] for place in chosen}
    for done in range(_ROUNDS):
        for place, predictor in predictors.items():
            start = time.perf_counter()
            _answers(predictor, [*files] * times)
            found[place].append((time.perf_counter() - start) / times)
        yield Progress("compare", done + 1, _ROUNDS, "rounds")
    return found


def _plainness(place: _Place, cores: int) -> tuple[bool, bool, bool, int, int]:
    """Return what is sorted by where speeds are alike: the bundle itself, its own runtime, single pictures first."""
    (form, runtime, precision), batch, threads = place
    return bool(form), runtime != CHOICES[0][0], precision != CHOICES[0][1], batch, abs(threads - cores)


def _may_win(seconds: Sequence[float], usual: Sequence[float]) -> bool:
    """Whether the rounds so far were all faster by 5%: what was slower in one round is not measured in further ones."""
    return all(slow / fast >= _WORTH for slow, fast in zip(usual, seconds, strict=False))


_Said = tuple[str, str, float, float]


def _answers(predictor: Predictor, files: Sequence[Path]) -> list[_Said]:
    found: list[_Said] = []
    for one in predictor.predict(files):
        if not isinstance(one, Prediction):
            raise _changed(f"{one.path} could be read, and cannot any more")
        found.append((one.label, one.answer, one.prob, one.novelty))
    return found


def _changed(words: str) -> DataError:
    told = f"{words}: pictures changed while they were measured."
    return DataError("no_pictures_to_judge", told, "Name a folder with --pictures that nothing writes to.")


def _otherwise(given: Sequence[_Said], meant: Sequence[_Said]) -> str | None:
    """Return in what way answers differ more than runtimes do that compute the same; None where they do not."""
    names = sum(one[:2] != other[:2] for one, other in zip(given, meant, strict=True))
    away = max(abs(one[2] - other[2]) for one, other in zip(given, meant, strict=True))
    if names:
        return f"it answers {names} of {len(meant)} pictures otherwise"
    return f"a probability is off by {away:.2g}" if away > _ALIKE else None


def fastest(
    seconds: Mapping[_K, Sequence[float]], usual: _K, plainness: Callable[[_K], Any] = lambda _: 0
) -> tuple[_K, str]:
    """Return which to take, and why: the `usual` one, unless another is faster by 5% in every round.

    `seconds` are those of each round; rounds were taken in turns. What missed rounds was slower in one before. Of
    several, the fastest in the middle of its rounds is taken, or the least `plainness` of those within 3% of it; of
    all, where the usual one is not among them.
    """
    before = seconds.get(usual)
    if before is None:
        return _shortest({key: statistics.median(times) for key, times in seconds.items()}, plainness), (
            "a thread a core gave other answers"
        )
    gains = {
        key: min(slow / fast for slow, fast in zip(before, times, strict=True))
        for key, times in seconds.items()
        if key != usual and len(times) == len(before)
    }
    better = {key: statistics.median(seconds[key]) for key, gain in gains.items() if gain >= _WORTH}
    if not better:
        return usual, "onnxruntime with a thread a core: nothing else was faster by 5% in every round"
    best = _shortest(better, plainness)
    return best, f"faster than onnxruntime with a thread a core by {gains[best] - 1.0:.0%} or more in every round"


def _shortest(middles: Mapping[_K, float], plainness: Callable[[_K], Any]) -> _K:
    """Return the plainest of those within 3% of the shortest."""
    shortest = min(middles.values())
    alike = [key for key, middle in middles.items() if shortest >= _ALIKE_SPEED * middle]
    return min(alike, key=lambda key: (plainness(key), middles[key]))


def _rate(place: _Place, seconds: float, count: int, cores: int, alone_ms: float) -> Rate:
    (form, runtime, precision), batch, threads = place
    most = min(threads, cores) * 1e3 / alone_ms
    return Rate(threads, count / seconds, count / seconds / most, runtime, precision, form, batch)


def _busy() -> float:
    """Return how many programs wanted a core in the last minute; 0 where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0
