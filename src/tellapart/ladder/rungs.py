"""Each rung called with what it needs; what is dear is thinned to what the budget can pay."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tellapart.data.manifest import Manifest, Split
from tellapart.events import Decision, Steps
from tellapart.images import Preprocess, at_least_for
from tellapart.ladder.affordable import thinned
from tellapart.ladder.finish import seconds_to_finish
from tellapart.ladder.run import Run
from tellapart.learn.backbones_export import Export
from tellapart.learn.embed import measure_rate, missing
from tellapart.learn.majority import majority
from tellapart.learn.probe import probe
from tellapart.learn.rungs import Fitted, IntArray, Pictures

__all__ = ["Made", "Rungs"]

# Of the time the probe has, the share for embedding each picture once; mirrored views and the fit take the rest.
_EMBED_SHARE = 0.6
_LOOKED_AT_BY_MAJORITY = 4_000


@dataclasses.dataclass(frozen=True)
class Made:
    """A rung that was climbed, the rows of each split it looked at, and what one more picture would cost."""

    fitted: Fitted
    rows: Mapping[Split, IntArray]
    seconds_per_picture: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rungs:
    """What the rungs share: the run, its pictures, how they become square, the backbone on its way."""

    run: Run
    manifest: Manifest
    pictures: Mapping[Split, Pictures]
    preprocess: Preprocess
    export: Export | None
    threads: int

    def climb(self, method: str) -> Steps[Made]:
        """Climb one rung. Raises OutOfTimeError and InterruptedRunError as they are thrown in."""
        return {"majority": self._majority, "probe": self._probe, "scratch": self._scratch}[method]()

    def _all(self) -> dict[Split, IntArray]:
        return {split: np.arange(len(found), dtype=np.int64) for split, found in self.pictures.items()}

    def majority_to_ship(self) -> Steps[Made]:
        """Return `majority` with what only a bundle needs of it: some thousand pictures looked at, in small."""
        rows = thinned(self.pictures, _LOOKED_AT_BY_MAJORITY)
        return (yield from self._majority(rows, look=True))

    def _majority(self, rows: Mapping[Split, IntArray] | None = None, look: bool = False) -> Steps[Made]:
        rows = self._all() if rows is None else rows
        train, val = (self.pictures[split].take(rows[split]) for split in ("train", "val"))
        num_classes, cache = len(self.manifest.classes), self.run.cache
        fitted = yield from majority(train, val, num_classes, self.preprocess, self.run.recipe, cache, look=look)
        return Made(fitted, rows)

    def _probe(self) -> Steps[Made]:
        assert self.export is not None
        graph = yield from self.export.wait()
        preprocess = graph.preprocess(
            self.preprocess.resize_policy, self.preprocess.decode, at_least_for(graph.image_size)
        )
        everything = [found for found in self.pictures.values() if len(found)]
        files = [file for found in everything for file in found.files]
        digests = [digest for found in everything for digest in found.digests]
        absent = missing(graph.model, preprocess, digests, self.run.cache)
        cost = 0.0
        rows = self._all()
        if absent:
            cost = yield from measure_rate(graph.model, preprocess, [files[row] for row in absent[:8]], self.threads)
            left = self.run.clock.left() - seconds_to_finish(len(files))
            affordable = int(_EMBED_SHARE * left / cost) + len(files) - len(absent)
            if affordable < len(files):
                rows = thinned(self.pictures, max(len(self.manifest.classes) * 3, affordable))
                kept = sum(map(len, rows.values()))
                yield Decision(
                    "pictures_for_the_probe",
                    kept,
                    f"{len(files):,} pictures at {1000 * cost:.1f} ms each would take {cost * len(absent):,.0f} s, "
                    f"and {max(0.0, left):,.0f} s are left; a longer --budget uses more of them",
                )
        fitted = yield from probe(
            graph,
            preprocess,
            self.pictures["train"].take(rows["train"]),
            self.pictures["val"].take(rows["val"]),
            len(self.manifest.classes),
            self.run.recipe,
            self.run.cache,
            lambda: self.run.clock.left() - seconds_to_finish(len(files)),
            self.threads,
        )
        return Made(fitted, rows, cost)

    def _scratch(self) -> Steps[Made]:
        from tellapart.learn.torch_scratch import scratch

        train, val = self.pictures["train"], self.pictures["val"]
        sides = self.manifest.facts["shorter_side"]
        assert isinstance(sides, list | tuple)
        reserve = seconds_to_finish(sum(map(len, self.pictures.values())))
        fitted = yield from scratch(
            train,
            val,
            len(self.manifest.classes),
            self.preprocess,
            self.run.recipe,
            lambda: self.run.clock.left() - reserve,
            shorter_px=int(sides[-1]),
            grey=bool(self.manifest.facts.get("all_grey")),
        )
        return Made(fitted, self._all())
