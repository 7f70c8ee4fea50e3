"""Where the time of a prediction goes on this machine, and on how many threads it is shortest."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.errors import DataError
from tellapart.events import Decision, Note, Progress, Steps
from tellapart.files import finite
from tellapart.images import default_threads, prepare_guarded
from tellapart.ladder.export_sample import of_the_run
from tellapart.ladder.run import stage
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.predictor import Failure, Prediction, Predictor
from tellapart.runtime.setting import Setting, write_setting
from tellapart.runtime.sources import expand
from tellapart.ship.speed import BATCH

__all__ = ["Benched", "Rate", "bench", "fastest"]

_PICTURES = 48
_ROUNDS = 5
_WORTH = 1.05  # times as fast: less is noise


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """Pictures a second of the whole path on `threads`, the best round, and the share of what these could do at most.

    The most is `threads`, or the cores where those are fewer, by the time of a picture decoded and run alone.
    """

    threads: int
    per_second: float
    share_of_limit: float


@dataclasses.dataclass(frozen=True)
class Benched:
    """Milliseconds a picture on one thread: decode and resize, the model, the model in batches of eight; to load it.

    `rates` are of the whole path; `threads` is the setting that was chosen, and `place` where it was written, if it
    could be. `n` pictures were used, and each rate gave the same answers, bit for bit.
    """

    n: int
    cores: int
    load_ms: float
    decode_ms: float
    model_ms: float
    batch_ms: float
    rates: tuple[Rate, ...]
    threads: int
    place: Path | None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints: version 1 of the JSON contract."""
        place = None if self.place is None else str(self.place)
        plain: dict[str, Any] = finite({"version": 1, **dataclasses.asdict(self), "place": place})
        return plain


def bench(path: Path, pictures: Path | None) -> Steps[Benched]:
    """Measure the bundle at `path` on at most 48 `pictures` (a folder or a file), or on those of its run.

    Raises BundleError, InputError for pictures that are not there, DataError (`no_pictures_to_judge`) where none can be
    read or the run's are gone.
    """
    began = time.perf_counter()
    bundle = Bundle(path)
    load_ms = 1e3 * (time.perf_counter() - began)
    files = _files(bundle, pictures)
    cores = default_threads()
    decode, model, batch = yield from stage("measure", _parts(bundle, files))
    seconds = yield from stage("measure", _rounds(bundle, files, cores))
    found = tuple(_rate(threads, min(times), len(files), cores, decode + model) for threads, times in seconds.items())
    chosen, words = fastest(seconds, cores)
    yield Decision("threads", chosen, words)
    if (busy := _busy()) > cores:
        yield Note(
            "warning", f"The machine was busy ({busy:.1f} programs wanted its {cores} cores): measure again later."
        )
    place = None
    try:
        place = write_setting(path, Setting(chosen, cores))
    except OSError as error:
        yield Note("warning", f"The setting cannot be written beside the bundle ({error.strerror}).")
    return Benched(len(files), cores, load_ms, decode, model, batch, found, chosen, place)


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


def _parts(bundle: Bundle, files: Sequence[Path]) -> Steps[tuple[float, float, float]]:
    """Return milliseconds a picture on one thread, the best of five rounds: decode, model, model in batches."""
    times: list[tuple[float, float, float]] = []
    for done in range(_ROUNDS):
        start = time.perf_counter()
        squares = [prepare_guarded(file, bundle.preprocess) for file in files]
        decoded = time.perf_counter()
        for square in squares:
            bundle.session.run(square[None], ("logits", "embedding"))
        ran = time.perf_counter()
        batches = [np.stack(squares[place : place + BATCH]) for place in range(0, len(squares), BATCH)]
        stacked = time.perf_counter()
        for batch in batches:
            bundle.session.run(batch, ("logits", "embedding"))
        ended = time.perf_counter()
        times.append((decoded - start, ran - decoded, ended - stacked))
        yield Progress("measure", done + 1, _ROUNDS, "rounds")
    decode, model, batch = (1e3 * min(part) / len(files) for part in zip(*times, strict=True))
    return decode, model, batch


def _rounds(bundle: Bundle, files: Sequence[Path], cores: int) -> Steps[dict[int, list[float]]]:
    """Return the seconds of the whole path by the number of threads, tried in turns, a number for each round.

    Those whose answers differ from those of one thread do not count.
    """
    counts = sorted({1, max(1, cores // 2), cores, cores + 1, 2 * cores})
    expected = _answers(Predictor(bundle, 1), files)
    seconds: dict[int, list[float]] = {threads: [] for threads in counts}
    for done in range(_ROUNDS):
        for threads in list(seconds):
            start = time.perf_counter()
            given = _answers(Predictor(bundle, threads), files)
            seconds[threads].append(time.perf_counter() - start)
            if given != expected:
                del seconds[threads]
        yield Progress("measure", done + 1, _ROUNDS, "rounds")
    return seconds


def fastest(seconds: Mapping[int, Sequence[float]], cores: int) -> tuple[int, str]:
    """Return the number of threads to take, and why: all cores, unless another is faster by 5% in every round.

    `seconds` are those of each round, by the number of threads; rounds were taken in turns.
    """
    usual = seconds.get(cores)
    if usual is None:
        return 1, "more threads gave other answers"
    gains = {
        threads: min(before / after for before, after in zip(usual, times, strict=True))
        for threads, times in seconds.items()
        if threads != cores
    }
    best = max(gains, key=lambda threads: gains[threads], default=cores)
    if best == cores or gains[best] < _WORTH:
        return cores, "as many as there are cores; no other number was faster by 5% in every round"
    return best, f"faster than one thread a core by {gains[best] - 1.0:.0%} or more in every round"


def _rate(threads: int, seconds: float, count: int, cores: int, alone_ms: float) -> Rate:
    most = min(threads, cores) * 1e3 / alone_ms
    return Rate(threads, count / seconds, count / seconds / most)


def _busy() -> float:
    """Return how many programs wanted a core in the last minute; 0 where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return 0.0


def _answers(predictor: Predictor, files: Sequence[Path]) -> list[tuple[str, float, float]]:
    found = predictor.predict(files)
    return [(one.answer, one.prob, one.novelty) for one in found if isinstance(one, Prediction)]
