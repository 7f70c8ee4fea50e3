"""Pictures in, answers out: decode, resize and model on the same threads, results in the order asked."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import PictureError
from tellapart.images import default_threads, map_in_runs, prepare_guarded
from tellapart.images.decode import Pixels
from tellapart.runtime.answers import Answer, answer, candidates, softmax
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.session import Runs

__all__ = ["Failure", "Prediction", "Predictor", "Source", "as_member"]

Source: TypeAlias = str | Path | bytes
_Outputs: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]  # logits [K], embedding [D]
TOP = 5


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a bundle says of one picture.

    `label` is the likeliest class and `prob` its calibrated probability; `probs` float64 [K] in the bundle's order of
    classes; `embedding` float32 [D]; `novelty` in [0, 1] is the share of held-out training pictures less novel;
    `top` are at most five (label, prob), likeliest first; `candidates` are the likeliest classes, as many as it takes
    to hold the true one as often as the card's `set_coverage` says (none where the card does not say). `path` is None
    for a picture given as bytes. `file` is where its bytes are when that is another place: `path` of a member of an
    archive begins with the archive's.
    """

    path: str | None
    label: str
    prob: float
    probs: NDArray[np.float64]
    embedding: NDArray[np.float32]
    novelty: float
    answer: Answer
    top: tuple[tuple[str, float], ...]
    file: str | None = None
    candidates: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object that `predict --json` prints; a number that is not finite is None."""
        return {
            "path": self.path,
            "label": self.label,
            "prob": _finite(self.prob),
            "top": [{"label": label, "prob": _finite(prob)} for label, prob in self.top],
            "novelty": _finite(self.novelty),
            "answer": self.answer,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A picture that could not be answered, and why."""

    path: str | None
    error: PictureError

    def as_json(self) -> dict[str, Any]:
        """Return the object that `predict --json` prints for a bad file."""
        return {"path": self.path, "error": {"code": self.error.code, "message": self.error.message}}


class Predictor:
    """Answers pictures with a bundle, on `threads` threads (all of the machine's by default).

    Each thread prepares a few pictures, then runs the model on one after the other alone, so that the bits of a
    picture depend neither on its neighbours nor on the number of threads. Sources are taken as they are needed: memory
    does not grow with them. `session` runs the graph where another one than the bundle's own shall; `batch` pictures at
    the most go through it at once, which `bench` takes only where that gives the same bits.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, session: Runs | None = None, batch: int = 1) -> None:
        self.bundle = bundle
        self._batch = batch
        self._session: Runs = session or bundle.session
        self.threads = threads or default_threads()
        self._novelty = bundle.reference.novelty()

    def predict(self, sources: Iterable[Source | Failure]) -> Iterator[Prediction | Failure]:
        """Yield a Prediction or a Failure for each picture (a path, or a file's bytes), in order.

        A source that has failed already is handed on in its place.
        """
        return map_in_runs(self._predict, sources, self.threads)

    def outputs(self, sources: Iterable[Source]) -> Iterator[_Outputs | Failure]:
        """Yield (logits float32 [K], embedding float32 [D]) or a Failure for each picture, in order."""
        return map_in_runs(self._outputs, sources, self.threads)

    def _outputs(self, sources: Sequence[Source | Failure]) -> list[_Outputs | Failure]:
        prepared = [self._prepared(source) for source in sources]
        if self._batch > 1:
            return self._in_batches(prepared)
        return [image if isinstance(image, Failure) else self._output(image) for image in prepared]

    def _in_batches(self, prepared: Sequence[Pixels | Failure]) -> list[_Outputs | Failure]:
        images = [image for image in prepared if not isinstance(image, Failure)]
        outputs: list[_Outputs] = []
        for start in range(0, len(images), self._batch):
            values = self._session.run(np.stack(images[start : start + self._batch]), ("logits", "embedding"))
            outputs.extend(zip(values["logits"], values["embedding"], strict=True))
        each = iter(outputs)
        return [image if isinstance(image, Failure) else next(each) for image in prepared]

    def _prepared(self, source: Source | Failure) -> Pixels | Failure:
        if isinstance(source, Failure):
            return source
        try:
            return prepare_guarded(Path(source) if isinstance(source, str) else source, self.bundle.preprocess)
        except PictureError as error:
            return Failure(_name(source), error)

    def _output(self, image: Pixels) -> _Outputs:
        values = self._session.run(image[None], ("logits", "embedding"))
        return values["logits"][0], values["embedding"][0]

    def _predict(self, sources: Sequence[Source | Failure]) -> list[Prediction | Failure]:
        return [
            outputs if isinstance(outputs, Failure) else self.answered(_name(source), *outputs)
            for source, outputs in zip(sources, self._outputs(sources), strict=True)
        ]

    def answered(self, path: str | None, logits: NDArray[np.float32], embedding: NDArray[np.float32]) -> Prediction:
        """Return what is said of a picture whose logits float32 [K] and embedding float32 [D] the model gave."""
        classes, thresholds = self.bundle.classes, self.bundle.card.thresholds
        probs = softmax(logits)
        best = np.argsort(-probs, kind="stable")[:TOP].tolist()
        top = tuple((classes[index], float(probs[index])) for index in best)
        label, prob = top[0]
        novelty = self._novelty.score(embedding, logits)
        said = answer(prob, novelty, thresholds.min_prob, thresholds.max_novelty)
        mass = thresholds.set_mass
        likely = () if mass is None else tuple(classes[index] for index in candidates(probs, mass).tolist())
        return Prediction(path, label, prob, probs, embedding, novelty, said, top, candidates=likely)


def _name(source: Source | Failure) -> str | None:
    if isinstance(source, Failure):
        return source.path
    return None if isinstance(source, bytes) else os.fspath(source)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def as_member(answer: Prediction | Failure, places: Mapping[str, str]) -> Prediction | Failure:
    """Return an answer with the path of a member, `pets.zip/1.jpg`, in place of where it lies unpacked.

    `places` are where the archives lie, by their names.
    """
    for archive, place in places.items():
        if answer.path is not None and (answer.path == place or answer.path.startswith(f"{place}/")):
            told = archive + answer.path[len(place) :]
            if isinstance(answer, Failure):
                said = answer.error.message.replace(place, archive)
                return Failure(told, PictureError(answer.error.code, said, answer.error.next))
            return dataclasses.replace(answer, path=told, file=answer.path)
    return answer
