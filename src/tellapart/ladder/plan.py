"""Which rungs are worth climbing: one pure function of facts, which gives its reasons in plain words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tellapart.errors import RecipeError
from tellapart.recipe import Effort, Method

__all__ = ["Facts", "Plan", "Rung", "plan"]

# What a rung costs at the least, in seconds: below these it is not begun. They only keep a run from starting what it
# cannot end; how long a rung really takes is measured as it goes, and one that the time is too short for is cut off.
_EXPORT_SECONDS = 4.0  # from its start, which was some time ago
_LEAST_EXPORT_SECONDS = 0.5
_PROBE_SECONDS = 1.5
_FINETUNE_SECONDS = 45.0
_SCRATCH_SECONDS = 20.0
_CLASSICAL_SECONDS = 4.0
_CLASSICAL_SECONDS_PER_PICTURE = 0.004

# With pretrained weights at hand a network from nothing is worth its time where there is much to learn from, or where
# the pictures are so small that a backbone made for photographs sees them only enlarged.
_MANY_PICTURES = 2_000
_SMALL_SIDE_PX = 64
# Where a backbone is tuned, that takes small pictures in larger numbers: the time for it comes from the tuning.
_MANY_BESIDE_TUNING = 10_000
# Without pretrained weights, features made by hand beat a network of our own below so many pictures.
_FEW_FOR_A_NETWORK = 300


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What the choice hangs on. `weights` names the backbone at hand, else `no_weights` says why there is none.

    Where its graph is not cached, it has been made for `exporting_seconds`.
    """

    num_train: int
    num_classes: int
    median_side_px: int
    seconds_left: float
    method: Method
    effort: Effort
    weights: str | None
    no_weights: str
    graph_cached: bool
    can_train_networks: bool
    can_train_classical: bool = True
    exporting_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Rung:
    """A method, whether it is climbed, and why; `short_of_time` where it is left out because it would take too long."""

    method: str
    climb: bool
    why: str
    short_of_time: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The rungs from cheap to dear, those left out included."""

    rungs: tuple[Rung, ...]

    @property
    def climbed(self) -> tuple[str, ...]:
        """The methods to climb, in order."""
        return tuple(rung.method for rung in self.rungs if rung.climb)

    def limited_to(self, methods: Sequence[str]) -> Plan:
        """Return the plan that climbs these methods, as a run that was cut off had decided."""
        if tuple(methods) == self.climbed:
            return self
        why = "decided before the run was cut off"
        changed = {rung.method: Rung(rung.method, rung.method in methods, why) for rung in self.rungs}
        return Plan(
            tuple(rung if rung.climb == (rung.method in methods) else changed[rung.method] for rung in self.rungs)
        )


def plan(facts: Facts) -> Plan:
    """Return the plan. Raises RecipeError when a method was asked for by name and cannot be had."""
    mark = Rung("majority", True, "the mark that anything useful must beat")
    rungs = (mark, _classical(facts), _probe(facts), _finetune(facts), _scratch(facts))
    if facts.method == "auto":
        return Plan(rungs)
    for rung in rungs:
        if rung.method == facts.method and not rung.climb:
            raise RecipeError(
                "method_unavailable",
                f"--method {facts.method} cannot be run: {rung.why}.",
                "Choose another --method, or leave it out and the ladder does what it can.",
            )
    asked = {"majority", facts.method}
    return Plan(
        tuple(
            rung if rung.method in asked else Rung(rung.method, False, f"--method {facts.method} was asked for")
            for rung in rungs
        )
    )


def _classical(facts: Facts) -> Rung:
    if not facts.can_train_classical:
        return Rung("classical", False, 'it needs the extra [train]: pip install "tellapart[train]"')
    needed = _CLASSICAL_SECONDS + _CLASSICAL_SECONDS_PER_PICTURE * min(facts.num_train, _MANY_PICTURES)
    if short := _too_short(facts, needed):
        return Rung("classical", False, short, short_of_time=True)
    if facts.method == "classical":
        return Rung("classical", True, "--method classical was asked for")
    if facts.weights is None:
        return Rung("classical", True, "there are no pretrained weights, and features made by hand need none")
    if not _probe(facts).climb:
        return Rung("classical", True, "there is time for features made by hand, and not for pretrained ones")
    if facts.median_side_px > _SMALL_SIDE_PX:
        why = "on photographs, pretrained features are better than those made by hand"
        return Rung("classical", False, why)
    if facts.effort == "quick" and facts.num_train > _MANY_PICTURES:
        why = f"of {facts.num_train:,} pictures it would take the time of the probe, and --effort quick has little"
        return Rung("classical", False, why)
    return Rung("classical", True, f"pictures of {facts.median_side_px} px may suit features made by hand")


def _probe(facts: Facts) -> Rung:
    if facts.weights is None:
        return Rung("probe", False, facts.no_weights)
    export = 0.0 if facts.graph_cached else max(_LEAST_EXPORT_SECONDS, _EXPORT_SECONDS - facts.exporting_seconds)
    short = _too_short(facts, _PROBE_SECONDS + export)
    return Rung("probe", not short, short or f"pretrained weights of {facts.weights} are at hand", bool(short))


def _finetune(facts: Facts) -> Rung:
    if facts.weights is None:
        return Rung("finetune", False, facts.no_weights)
    if not facts.can_train_networks:
        return Rung("finetune", False, 'training a network needs the extra [train]: pip install "tellapart[train]"')
    if facts.method == "finetune":
        return Rung("finetune", True, "--method finetune was asked for")
    if facts.effort == "quick":
        return Rung("finetune", False, "--effort quick ends with the probe where there are pretrained weights")
    if short := _too_short(facts, _FINETUNE_SECONDS):
        return Rung("finetune", False, short, short_of_time=True)
    return Rung("finetune", True, f"{facts.weights} may be tuned further in the time that is left")


def _scratch(facts: Facts) -> Rung:
    if not facts.can_train_networks:
        return Rung("scratch", False, 'training a network needs the extra [train]: pip install "tellapart[train]"')
    if short := _too_short(facts, _SCRATCH_SECONDS):
        return Rung("scratch", False, short, short_of_time=True)
    if facts.method == "scratch":
        return Rung("scratch", True, "--method scratch was asked for")
    if facts.weights is None and facts.num_train < _FEW_FOR_A_NETWORK:
        why = f"{facts.num_train:,} training pictures are too few for a network from nothing to beat features by hand"
        return Rung("scratch", False, why)
    if facts.weights is None:
        return Rung("scratch", True, "there are no pretrained weights to start from")
    if facts.effort == "quick":
        return Rung("scratch", False, "--effort quick ends with the probe where there are pretrained weights")
    if _finetune(facts).climb:
        if facts.num_train < _MANY_BESIDE_TUNING or facts.median_side_px > _SMALL_SIDE_PX:
            return Rung("scratch", False, "tuning a pretrained backbone is worth more of the time")
        return Rung("scratch", True, f"{facts.num_train:,} small pictures may be enough for a network of our own")
    if facts.num_train >= _MANY_PICTURES:
        return Rung("scratch", True, f"{facts.num_train:,} training pictures may be enough for a network of our own")
    if facts.median_side_px <= _SMALL_SIDE_PX:
        return Rung("scratch", True, f"pictures of {facts.median_side_px} px are small for a pretrained backbone")
    return Rung(
        "scratch",
        False,
        f"{facts.num_train:,} training pictures are too few for a network from nothing to beat pretrained features",
    )


def _too_short(facts: Facts, needed: float) -> str:
    left = max(0.0, facts.seconds_left)
    return f"it needs about {needed:.0f} s and {left:.0f} s of the budget are left" if left < needed else ""
