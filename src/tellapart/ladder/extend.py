"""Old pictures and those of a new class together: a head fitted on them, shipped, and measured out of fold."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tellapart import judge
from tellapart.errors import BundleError
from tellapart.events import Decision, Steps, without
from tellapart.judge import Novelty, Paired, Share
from tellapart.ladder.choose import Candidate, Ground, candidate
from tellapart.ladder.keep import Kept, keep, learned_beside, references_in_time
from tellapart.ladder.known import ENSEMBLE, Known, members_of
from tellapart.ladder.novel import blended
from tellapart.ladder.run import Run
from tellapart.learn.folds import make_folds
from tellapart.learn.learners import MACHINES
from tellapart.learn.refit import Refit, directions, of_directions, out_of_fold_as, refit
from tellapart.learn.rungs import Fitted, FloatArray, Head, IntArray, OutOfFold, Pictures
from tellapart.recipe import Balance
from tellapart.runtime.bundle import Bundle
from tellapart.runtime.card import CARD
from tellapart.runtime.novelty import GAUSSIAN_METHODS, METHODS
from tellapart.ship import write_bundle
from tellapart.ship.gallery import gallery, selftest_pictures

__all__ = ["Both", "Extended", "Measured", "extend", "measure", "ship"]

_OLD = (
    *("sweep", "taught_by", "softening", "labels_share", "unlabelled"),
    *("penalty", "head", "gamma", "cost", "class_weights", "balance"),
)
_MOST_NOVEL = 3000
_USUAL_PRECISION = 0.95


@dataclasses.dataclass(frozen=True, eq=False)
class Both:
    """A bundle's old pictures and `new` ones with their embeddings float32 [m, D]; old ones come first."""

    bundle: Bundle
    trunk: bytes
    old: Known
    new: Pictures
    new_embeddings: FloatArray
    seed: int

    @functools.cached_property
    def pictures(self) -> Pictures:
        """All of them."""
        first, second = self.old.pictures, self.new
        return Pictures(
            (*first.files, *second.files),
            (*first.digests, *second.digests),
            (*first.groups, *second.groups),
            np.concatenate([first.targets, second.targets]),
        )

    @functools.cached_property
    def embeddings(self) -> FloatArray:
        """Of all, float32 [n, D]."""
        return np.concatenate([self.old.embeddings, self.new_embeddings])

    @functools.cached_property
    def features(self) -> FloatArray:
        """What the head goes by: embeddings, or their directions where no more is known of the old ones."""
        if self.old.exact:
            return self.embeddings
        return directions(self.embeddings, self.bundle.reference.novelty_mean)

    @functools.cached_property
    def folds(self) -> IntArray:
        """Of all, as `make_folds` gives them."""
        return make_folds(self.pictures.targets, self.pictures.groups, seed=self.seed)

    @property
    def told_by(self) -> NDArray[np.bool_]:
        """Which of all can tell how good a head is: those new to the network, or all where that leaves no old one."""
        old = self.old.new_to_trunk if self.old.new_to_trunk.any() else np.ones(len(self.old.embeddings), dtype=bool)
        return np.concatenate([old, np.ones(len(self.new), dtype=bool)])

    @property
    def num_classes(self) -> int:
        """The old classes and the new one."""
        return len(self.bundle.classes) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Extended:
    """The head of all classes: as it was fitted, and as what ships."""

    made: Refit
    winner: Candidate


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What a class costs the old ones, and how good it is; None where there is nothing to tell by.

    `before` and `after` are accuracies on the same old pictures, compared in `cost`; `now_new` counts those of each old
    class that are called the new one. `recall` is the share of new pictures that are named right out of fold,
    `precision` that of right ones among all that are called so.
    """

    before: float | None
    after: float | None
    cost: Paired | None
    now_new: tuple[tuple[str, int], ...]
    recall: Share | None
    precision: Share | None


def extend(both: Both, run: Run) -> Steps[Extended]:
    """Fit the head on old and new pictures, and calibrate it on what it says out of fold.

    Raises BundleError (`no_references`) for a support vector machine whose old pictures are not at hand.
    """
    bundle, old = both.bundle, both.old
    details = _details(bundle)
    machine = details.get("learner") in MACHINES
    if machine and old.source == "references":
        raise BundleError(
            "no_references",
            f"The head of {bundle.path} is a support vector machine, which needs the old pictures themselves, and they "
            "are not at hand.",
            "Name them by --data.",
        )
    targets, left, wish = both.pictures.targets, run.clock.left, run.recipe.fit.balance
    made = yield from refit(both.features, targets, both.folds, both.num_classes, machine, left, both.seed, wish)
    head = made.head
    if not old.exact and isinstance(head, Head):
        head = of_directions(head, bundle.reference.novelty_mean)
    told = both.told_by[made.rows]
    fitted = Fitted(
        method="probe" if bundle.card.method == "distill" else bundle.card.method,
        trunk=both.trunk,
        head=head,
        preprocess=bundle.preprocess,
        out_of_fold=OutOfFold(made.rows[told], made.out_of_fold[told]),
        embeddings={"train": both.embeddings, "val": np.zeros((0, both.embeddings.shape[1]), dtype=np.float32)},
        held_out=np.flatnonzero(both.told_by).astype(np.int64),
        backbone=bundle.card.backbone,
        licence=bundle.card.backbone_licence,
        details={**details, **made.details, "flip": False},
    )
    balanced = judge.counts_alike(np.bincount(targets, minlength=both.num_classes), wish)
    none = np.zeros(0, dtype=np.int64)
    rows = {"train": np.arange(len(targets), dtype=np.int64), "val": none, "test": none}
    return Extended(made, candidate(fitted, Ground(targets, none, balanced), rows, 0.0))  # type: ignore[arg-type]


def _details(bundle: Bundle) -> dict[str, Any]:
    """Return what a card tells of how its model was made, but for what was true of the old head alone."""
    details = {name: value for name, value in dict(bundle.card.recipe.get("details") or {}).items() if name not in _OLD}
    if bundle.card.method == ENSEMBLE:
        details["members"] = [{name: one.get(name) for name in ("method", "backbone")} for one in members_of(bundle)]
    return details


def measure(both: Both, extended: Extended, run: Run) -> Steps[Measured]:
    """Compare the head with one of the old classes alone, on pictures that neither had learned from."""
    made, old = extended.made, both.old
    count, num_old = len(old.embeddings), len(both.bundle.classes)
    said = np.full(len(both.folds), -1, dtype=np.int64)
    said[made.rows] = made.out_of_fold.argmax(axis=1)
    told = both.told_by & (said >= 0)
    before = np.full(count, -1, dtype=np.int64)
    before[old.new_to_head] = both.bundle.logits_from(old.embeddings[old.new_to_head]).argmax(axis=1)
    if (told[:count] & ~old.new_to_head).any():
        X, folds = both.features[:count], both.folds[:count]
        steps = out_of_fold_as(made, X, old.targets, folds, num_old, run.clock.left, both.seed, _balance(both, run))
        rows, logits = yield from without(steps, (Decision,))  # of a head that does not ship
        learned = ~old.new_to_head[rows]
        before[rows[learned]] = logits[learned].argmax(axis=1)
    asked = np.flatnonzero(told[:count] & (before >= 0))
    groups = np.asarray(both.pictures.groups)
    cost, first, second = None, None, None
    if len(asked):
        right_before, right_after = before[asked] == old.targets[asked], said[asked] == old.targets[asked]
        first, second = float(right_before.mean()), float(right_after.mean())
        cost = judge.paired_accuracy(
            right_after, right_before, groups[asked].tolist(), ("the new bundle", "the old one")
        )
    called = np.flatnonzero(told & (said == num_old))
    stolen = Counter(both.bundle.classes[label] for label in both.pictures.targets[called[called < count]].tolist())
    return Measured(
        first,
        second,
        cost,
        tuple(stolen.most_common()),
        _share(said[count:] == num_old, groups[count:], said[count:] >= 0),
        _share(called >= count, groups[called], np.ones(len(called), dtype=bool)),
    )


def _balance(both: Both, run: Run) -> Balance:
    """Return how the old head is balanced, as its card tells, or else how its run was asked to."""
    told: Any = dict(both.bundle.card.recipe.get("details") or {}).get("balance")
    found: Balance = told if told in get_args(Balance) else run.recipe.fit.balance
    return found


def _share(right: NDArray[np.bool_], groups: NDArray[np.str_], told: NDArray[np.bool_]) -> Share | None:
    if not told.any():
        return None
    return judge.share_of(right[told], judge.cluster_codes(groups[told].tolist()))


def ship(both: Both, extended: Extended, label: str, run: Run, out: Path, threads: int) -> Steps[Bundle]:
    """Write the bundle to `out`: thresholds for the same wish, the same scores of novelty, the parent in lineage."""
    winner, card, train = extended.winner, both.bundle.card, both.pictures
    fitted = winner.fitted
    chosen = judge.choose_thresholds(
        train.targets[fitted.out_of_fold.rows],
        winner.out_of_fold_probs(),
        card.thresholds.target_precision or _USUAL_PRECISION,
        card.thresholds.target_coverage,
    )
    if both.old.source == "references":
        kept = _kept(both, run, threads)
    else:
        kept = keep(run, fitted, train, both.num_classes, threads, references_in_time(run))
    novelty = yield from _novelty(both, winner, kept)
    nested = dict(card.recipe)
    nested["details"] = {**fitted.details, "novelty": list(novelty.blend.methods) if novelty.blend else ["neighbours"]}
    parent = hashlib.sha256((both.bundle.path / CARD).read_bytes()).hexdigest()
    added = {"class": label, "pictures": len(both.new), "old_pictures": both.old.source}
    return write_bundle(
        out,
        fitted,
        classes=(*both.bundle.classes, label),
        temperature=winner.temperature,
        thresholds=chosen.as_json(),
        novelty=novelty.arrays(),
        reference_labels=kept.reference_labels,
        targets=train.targets,
        brightness=kept.brightness,
        selftest=kept.selftest,
        selftest_embeddings=kept.selftest_embeddings,
        thumbnails=kept.thumbnails,
        learned_beside=kept.learned_beside,
        metrics={"val": None, "test": None},
        recipe=nested,
        fingerprint=_fingerprint(card.fingerprint, label, both.new.digests),
        lineage={"parent": parent, "added": added},
    )


def _fingerprint(parent: str, label: str, digests: Sequence[str]) -> str:
    lines = [parent, label, *sorted(digests)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", errors="surrogatepass")).hexdigest()


def _kept(both: Both, run: Run, threads: int) -> Kept:
    """Return what the bundle keeps where the old pictures are references: the same, thinned for the new ones' share."""
    reference, targets, digests = both.bundle.reference, both.pictures.targets, both.pictures.digests
    count, shown = len(both.old.embeddings), len(reference.reference_labels)
    there = np.concatenate([np.arange(shown), np.arange(count, len(targets))])  # of other old ones no picture is kept
    rows = there[judge.pick_reference(targets[there], [digests[row] for row in there.tolist()])]
    fresh = rows[rows >= count] - count
    seen = gallery(*_files(both.new.take(fresh)), both.bundle.preprocess, threads, run.cache)
    small = [reference.thumbnail(row) or b"" for row in rows[rows < count].tolist()]
    numbers = np.unique(np.asarray(both.pictures.groups), return_inverse=True)[1].astype(np.int64)
    novelty = Novelty.fit(both.embeddings[rows], both.embeddings[rows], numbers[rows], numbers[rows])
    # The moments of two sets of pictures together, from those of each.
    shares = np.array([count, len(both.new)]) / len(targets)
    means, spreads = np.array([reference.brightness, seen.brightness], dtype=np.float64).T
    mean = float(shares @ means)
    deviation = float(np.sqrt(shares @ (spreads**2 + (means - mean) ** 2)))
    return Kept(
        novelty,
        rows,
        targets[rows],
        (mean, deviation),
        selftest_pictures(*_files(both.new), both.bundle.preprocess),
        None,
        (*small, *seen.thumbnails),
        learned_beside(both.embeddings, both.pictures, rows, novelty) if both.old.exact else {},
    )


def _files(pictures: Pictures) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    return pictures.files, pictures.digests


def _novelty(both: Both, winner: Candidate, kept: Kept) -> Steps[Novelty]:
    """Return the bundle's own scores of novelty, fitted anew; neighbours alone where the others cannot be had."""
    places = both.bundle.reference.novelty_methods
    methods: Any = ("neighbours",) if places is None else tuple(METHODS[place] for place in places.tolist())
    rows = judge.spaced(np.arange(len(winner.fitted.out_of_fold.rows), dtype=np.int64), _MOST_NOVEL)
    words = "those of the bundle before"
    if not both.old.exact and any(method in GAUSSIAN_METHODS for method in methods):
        methods, words = (
            ("neighbours",),
            "of references only directions are known, and distances within classes need more",
        )
    yield Decision("novelty", list(methods), words)
    if methods == ("neighbours",) or not len(rows):
        return kept.novelty
    places = winner.fitted.out_of_fold.rows[rows]
    pictures, embeddings = both.pictures.take(places), both.embeddings[places]
    return blended(methods, kept, pictures, embeddings, winner.out_of_fold_logits()[rows], both.pictures)
