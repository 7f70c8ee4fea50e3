"""Each rung called with what it needs; what is dear is thinned to what the budget can pay."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tellapart import __version__, judge
from tellapart.data.manifest import SPLITS, Manifest, Split
from tellapart.errors import InterruptedRunError, OutOfTimeError, TellapartError
from tellapart.events import Recall, Steps, decide
from tellapart.images import Preprocess, at_least_for
from tellapart.ladder.affordable import affordable, seconds_to_distil, thinned
from tellapart.ladder.clock import processor_share
from tellapart.ladder.finish import seconds_to_finish
from tellapart.ladder.folder import CHECKPOINTS
from tellapart.ladder.loading import finetune_and_timm, loaded, scratch_itself
from tellapart.ladder.run import Run
from tellapart.ladder.unlabelled import unlabelled_pictures
from tellapart.learn.ahead import Ahead, Squares
from tellapart.learn.backbones import find_weights
from tellapart.learn.backbones_export import Export, Graph, start_export
from tellapart.learn.classical import classical, hand_trunk, seen_by_hand
from tellapart.learn.embed import embed, measure_rate, missing
from tellapart.learn.features import features
from tellapart.learn.majority import majority
from tellapart.learn.probe import probe
from tellapart.learn.rungs import Fitted, IntArray, Later, Pictures, Soup
from tellapart.report.render import compile_templates
from tellapart.runtime.reference import MAX_REFERENCES
from tellapart.ship.gallery import gallery

if TYPE_CHECKING:
    from tellapart.learn.torch_checkpoint import Checkpoints

__all__ = ["LookedAt", "Made", "Rungs"]

_WORTH_ADDING = 0.05  # of the pictures left out: for fewer, embedding goes no further
_LOOKED_AT_BY_MAJORITY = 4_000
_AT_ONCE = 32  # pictures
_LEAST_TO_TUNE_SECONDS = 10.0  # of a processor: to load torch and to see what a step takes
_FEW_BY_HAND = 2_000  # pictures: features of fewer are a matter of seconds
_MAJORITY_SECONDS_PER_PICTURE = 0.01


@dataclasses.dataclass(frozen=True)
class Made:
    """A rung that was climbed, the rows of each split it looked at, and what one more picture would cost.

    `untuned` says that there was no time for more than the probe that tuning begins with. `soup` makes one of the
    rung's network and more like it, with `--effort best` and where there are networks.
    """

    fitted: Fitted
    rows: Mapping[Split, IntArray]
    seconds_per_picture: float = 0.0
    untuned: bool = False
    soup: Callable[[], Steps[Soup]] | None = None


@dataclasses.dataclass(frozen=True)
class LookedAt:
    """A backbone, how it sees pictures, and the rows of each split whose embeddings are cached now."""

    graph: Graph
    preprocess: Preprocess
    rows: Mapping[Split, IntArray]
    seconds_per_picture: float
    ready: Squares


@dataclasses.dataclass(frozen=True)
class Rungs:
    """What the rungs share: the run, its pictures, how they become square, the backbone on its way.

    `share_of_tuning` is the part of the time left that `finetune` may take. `probes` are those that were fitted, by
    backbone (None: the run's own), since `finetune` begins with one.
    """

    run: Run
    manifest: Manifest
    pictures: Mapping[Split, Pictures]
    preprocess: Preprocess
    export: Export | None
    threads: int
    share_of_tuning: float = 1.0
    probes: dict[str | None, tuple[LookedAt, Fitted]] = dataclasses.field(default_factory=dict)

    def climb(self, method: str, backbone: str | None = None, tuned: bool = True) -> Steps[Made]:
        """Climb one rung, the probe and its tuning with another `backbone` where one is named.

        Where not `tuned`, `finetune` ends with the probe that it begins with, as it did before, for lack of time.
        Raises OutOfTimeError and InterruptedRunError as they are thrown in.
        """
        if method == "probe":
            return self._probe(backbone)
        if method == "finetune":
            return self._finetune(backbone, tuned)
        return {"majority": self._majority, "classical": self._classical, "scratch": self._scratch}[method]()

    def _all(self) -> dict[Split, IntArray]:
        return {split: np.arange(len(found), dtype=np.int64) for split, found in self.pictures.items()}

    def majority_to_ship(self) -> Steps[Made]:
        """Return `majority` with what only a bundle needs of it: some thousand pictures looked at, in small."""
        most = int(max(0.0, self._left()) / _MAJORITY_SECONDS_PER_PICTURE)
        rows = thinned(self.pictures, max(3 * len(self.manifest.classes), min(most, _LOOKED_AT_BY_MAJORITY)))
        return (yield from self._majority(rows, look=True))

    def _majority(self, rows: Mapping[Split, IntArray] | None = None, look: bool = False) -> Steps[Made]:
        rows = self._all() if rows is None else rows
        train, val = (self.pictures[split].take(rows[split]) for split in ("train", "val"))
        num_classes, cache = len(self.manifest.classes), self.run.cache
        fitted = yield from majority(train, val, num_classes, self.preprocess, self.run.recipe, cache, look=look)
        return Made(fitted, rows)

    def _classical(self) -> Steps[Made]:
        grey = bool(self.manifest.facts.get("all_grey"))
        rows, cost = yield from self._affordable_by_hand(grey)
        fitted = yield from classical(
            self.pictures["train"].take(rows["train"]),
            self.pictures["val"].take(rows["val"]),
            len(self.manifest.classes),
            self.preprocess,
            self.run.recipe,
            self.run.cache,
            self._left,
            shorter_px=self._shorter_px,
            grey=grey,
            threads=self.threads,
        )
        return Made(fitted, rows, cost)

    def looked_at_by_hand(self) -> Steps[tuple[bytes, Preprocess, Mapping[Split, IntArray]]]:
        """Return the graph of features by hand, how it sees pictures, and the rows that it has time for."""
        grey = bool(self.manifest.facts.get("all_grey"))
        rows, _ = yield from self._affordable_by_hand(grey)
        part = self.pictures["train"].take(rows["train"])
        side, recipe, cache = self._shorter_px, self.run.recipe, self.run.cache
        steps = hand_trunk(part, self.preprocess, recipe, cache, shorter_px=side, grey=grey, threads=self.threads)
        trunk, preprocess = yield from steps
        return trunk, preprocess, rows

    def _affordable_by_hand(self, grey: bool) -> Steps[tuple[dict[Split, IntArray], float]]:
        """Return the pictures whose features half of the time pays for, and the seconds that one takes."""
        total = sum(map(len, self.pictures.values()))
        if total < _FEW_BY_HAND:
            return self._all(), 0.0
        preprocess = seen_by_hand(self.preprocess, self._shorter_px, self.run.recipe)
        graph, _ = features(preprocess.image_size, grey)
        cost = yield from measure_rate(graph, preprocess, self.pictures["train"].files[:8], self.threads)
        most = int(0.5 * max(0.0, self._left()) / cost)
        words = f"{total:,} pictures at {1000 * cost:.1f} ms each, and half of the budget for them"
        most = yield from decide("pictures_for_classical", min(total, most), words)
        if most >= total:
            return self._all(), cost
        return thinned(self.pictures, max(3 * len(self.manifest.classes), most)), cost

    @property
    def _shorter_px(self) -> int:
        sides = self.manifest.facts["shorter_side"]
        assert isinstance(sides, list | tuple)
        return int(sides[-1])

    def _probe(self, backbone: str | None) -> Steps[Made]:
        seen = yield from self.looked_at(backbone)
        fitted = yield from probe(
            seen.graph,
            seen.preprocess,
            self.pictures["train"].take(seen.rows["train"]),
            self.pictures["val"].take(seen.rows["val"]),
            len(self.manifest.classes),
            self.run.recipe,
            self.run.cache,
            self._left,
            self.threads,
            seen.ready,
            unlabelled_pictures(self.manifest),
        )
        self.probes[backbone] = seen, fitted
        return Made(fitted, seen.rows, seen.seconds_per_picture)

    def _finetune(self, backbone: str | None, tuned: bool = True) -> Steps[Made]:
        """Tune the backbone; a probe that was fitted for it here stands where there is no time for that, or an
        interruption comes before there is anything better: its `details["interrupted"]` is true then.

        `tuned` is False where it is known already that there was none.
        """
        alone = backbone not in self.probes
        if alone:
            yield from self._probe(backbone)
        seen, begun = self.probes[backbone]
        kept_back, later = 0.0, self._later()

        def left() -> float:
            return self._left() - kept_back

        try:
            needed = _LEAST_TO_TUNE_SECONDS / processor_share()
            words = f"to tune a backbone at all: {max(0.0, self._left()):.0f} s are left, and it takes {needed:.0f}"
            in_time = yield from decide("finetune.in_time", self._left() >= needed, words)
            if not tuned or not in_time:
                raise OutOfTimeError
            finetune = yield from loaded(finetune_and_timm)
            kept_back = (1.0 - self.share_of_tuning) * max(0.0, self._left())
            fitted = yield from finetune(
                begun,
                seen.graph.folder,
                self.pictures["train"].take(seen.rows["train"]),
                self.pictures["val"].take(seen.rows["val"]),
                len(self.manifest.classes),
                self.run.recipe,
                self.run.cache,
                left,
                self.threads,
                num_later=len(seen.rows["test"]),
                checkpoints=self._checkpoints(),
                world=self.run.world,
                later=later,
            )
        except InterruptedRunError as error:
            if not alone:
                raise
            if isinstance(error, OutOfTimeError):
                return Made(begun, seen.rows, seen.seconds_per_picture, untuned=True)
            begun = dataclasses.replace(begun, details={**begun.details, "interrupted": True})
            return Made(begun, seen.rows, seen.seconds_per_picture)
        soup = None if later is None else later.soup_within(left)
        return Made(fitted, seen.rows, seen.seconds_per_picture, soup=soup)

    def _later(self) -> Later | None:
        return Later() if self.run.recipe.fit.effort == "best" else None

    def looked_at(self, backbone: str | None = None) -> Steps[LookedAt]:
        """Bring the embeddings of all pictures, or of as many as the budget pays for, into the cache."""
        graph, ready = yield from self._graph(backbone)
        preprocess = graph.preprocess(
            self.preprocess.resize_policy, self.preprocess.decode, at_least_for(graph.image_size)
        )
        if (first := self._first(backbone)) is not None and first.image_size == preprocess.image_size:
            preprocess = dataclasses.replace(first, mean=preprocess.mean, std=preprocess.std)
        rows, cost = yield from self._embedded(graph, preprocess, ready)
        return LookedAt(graph, preprocess, rows, cost, ready)

    def _graph(self, backbone: str | None) -> Steps[tuple[Graph, Squares]]:
        """Return the backbone's graph; where it is still on its way, pictures are made ready meanwhile."""
        if backbone is not None:
            weights = find_weights(backbone)
            assert weights is not None, "only what is at hand is named"
            size = self.run.recipe.model.image_size
            first = self._first(backbone)
            try:  # as large as the first one's pictures, so that both can answer together
                with start_export(weights, size if first is None else first.image_size, self.run.cache) as other:
                    return (yield from other.wait()), {}
            except TellapartError:
                if first is None or first.image_size == (size or weights.image_size):
                    raise
            with start_export(weights, size, self.run.cache) as other:
                return (yield from other.wait()), {}
        export = self.export
        assert export is not None
        if export.cached:
            return (yield from export.wait()), {}
        policy, decode = self.preprocess.resize_policy, self.preprocess.decode
        preprocess = export.preprocess(policy, decode)
        preprocess = export.preprocess(policy, decode, at_least_for(preprocess.image_size))
        files = [file for split in SPLITS for file in self.pictures[split].files]
        digests = [digest for split in SPLITS for digest in self.pictures[split].digests]
        with Ahead(preprocess, files, digests, max(1, self.threads - 1), self._for_the_end(preprocess)) as ahead:
            graph = yield from export.wait()
        return graph, ahead.squares

    def _for_the_end(self, preprocess: Preprocess) -> Iterator[None]:
        """Do a part of what shipping and reporting need, which would else be waited for at the end of the run."""
        yield from compile_templates()
        train = self.pictures["train"]
        rows = judge.pick_reference(train.targets, train.digests, MAX_REFERENCES)
        for start in range(0, len(rows), _AT_ONCE):
            part = train.take(rows[start : start + _AT_ONCE])
            yield None
            gallery(part.files, part.digests, preprocess, 1, self.run.cache)

    def _first(self, backbone: str | None) -> Preprocess | None:
        """Return how the run's own backbone sees pictures, for another one; None for itself, or where it failed."""
        return self.probes[None][0].preprocess if backbone is not None and None in self.probes else None

    def _left(self) -> float:
        num_pictures = sum(map(len, self.pictures.values()))
        budget = self.run.recipe.budget_seconds
        num_logits = num_pictures * len(self.manifest.classes) if self.run.recipe.fit.distill else 0
        later = seconds_to_distil(num_logits, budget) if num_logits else 0.0
        return self.run.clock.left() - seconds_to_finish(num_pictures, budget) - later

    def _embedded(
        self, graph: Graph, preprocess: Preprocess, ready: Squares
    ) -> Steps[tuple[dict[Split, IntArray], float]]:
        """Bring as many embeddings as time allows into the cache; return their rows, and the seconds for one more.

        The time for one is measured first on a few, then on all so far: where that leaves time, more are added.
        """
        rows, cost = self._all(), 0.0
        total = most = sum(map(len, self.pictures.values()))
        yield (before := Recall("pictures_for_the_probe"))
        if before.decided:
            most = before.decided[0].value
            rows = thinned(self.pictures, most)
        absent = self._absent(graph, preprocess, rows)
        while absent:
            files = [file for split in SPLITS for file in self.pictures[split].files]
            if not cost:
                cost = yield from measure_rate(
                    graph.model, preprocess, [files[row] for row in absent[:8]], self.threads
                )
            if not before.decided:
                most = min(total, max(3 * len(self.manifest.classes), self._affordable(total - len(absent), cost)))
                rows = thinned(self.pictures, most)
            began = time.monotonic()
            for split, found in self.pictures.items():
                part = found.take(rows[split])
                threads, cache = self.threads, self.run.cache
                yield from embed(
                    graph.model, preprocess, part.files, part.digests, cache, threads=threads, prepared=ready
                )
            num_absent, absent = len(absent), self._absent(graph, preprocess, self._all())
            cost = (time.monotonic() - began) / max(1, num_absent - len(absent))
            present = total - len(absent)
            more = self._affordable(present, cost) - present
            if before.decided or not absent or more < _WORTH_ADDING * len(absent):
                break
            rows, most = self._all(), total
        if most < total:
            words = (
                f"{total:,} pictures at {1000 * cost:.1f} ms each are more than the budget pays for; "
                "a longer --budget uses more of them"
            )
            yield from decide("pictures_for_the_probe", most, words)
        return rows, cost

    def _absent(self, graph: Graph, preprocess: Preprocess, rows: Mapping[Split, IntArray]) -> list[int]:
        digests = [digest for split in SPLITS for digest in self.pictures[split].take(rows[split]).digests]
        return missing(graph.model, preprocess, digests, self.run.cache)

    def _affordable(self, present: int, cost: float) -> int:
        budget = self.run.recipe.budget_seconds
        return affordable(present, cost, len(self.manifest.classes), self._left(), budget)

    def _checkpoints(self) -> Checkpoints:
        from tellapart.learn.torch_checkpoint import Checkpoints

        made_for = {"pictures": self.manifest.fingerprint, "tellapart": __version__}
        return Checkpoints(self.run.folder / CHECKPOINTS, made_for, self.run.recipe.fit.checkpoint_every)

    def _scratch(self) -> Steps[Made]:
        scratch = yield from loaded(scratch_itself)
        train, val = self.pictures["train"], self.pictures["val"]
        later = self._later()
        fitted = yield from scratch(
            train,
            val,
            len(self.manifest.classes),
            self.preprocess,
            self.run.recipe,
            self._left,
            shorter_px=self._shorter_px,
            grey=bool(self.manifest.facts.get("all_grey")),
            num_later=len(self.pictures["test"]),
            checkpoints=self._checkpoints(),
            world=self.run.world,
            later=later,
        )
        rows = self._all()
        rows = rows if fitted.looked_at is None else {**rows, "train": fitted.looked_at}
        return Made(fitted, rows, soup=None if later is None else later.soup_within(self._left))
