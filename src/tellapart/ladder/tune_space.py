"""What a search may change in a recipe, and between which values: a function of facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tellapart.recipe import Recipe

__all__ = ["NETWORKS", "Asked", "Knob", "chosen", "default_values", "knobs"]

NETWORKS = ("finetune", "scratch")
"""The methods that train a network, epoch after epoch."""

# Below these seconds a trial does not begin to train a network: see `ladder.plan`.
_FINETUNE_SECONDS, _SCRATCH_SECONDS = 50.0, 25.0
_SIZES = (128, 160, 192, 256)
# What they are called in a trial, the lowest and the highest: a network that begins from nothing takes far higher ones.
_RATES = {"finetune": ("rate", 1e-5, 3e-2), "scratch": ("rate_from_nothing", 0.01, 1.0)}


class Asked(Protocol):
    """Whatever proposes values: a trial of optuna's."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of `choices`."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number between the two ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Knob:
    """One option that is searched: its `choices`, the default first. `methods` are those that heed it, all if empty."""

    name: str
    choices: tuple[Any, ...]
    methods: tuple[str, ...] = ()


def knobs(base: Recipe, backbones: Sequence[str], networks: bool, uneven: bool, seconds: float) -> tuple[Knob, ...]:
    """Return what is searched around `base`: options that it leaves at their default, and that can matter.

    `backbones` are at hand; `networks` says whether torch is there, `uneven` that classes are; a trial has `seconds`.
    """
    pretrained = ("probe", "finetune")
    methods = ["classical", *(["probe"] if backbones else [])]
    if networks:
        methods += ["finetune"] if backbones and seconds >= _FINETUNE_SECONDS else []
        methods += ["scratch"] if seconds >= _SCRATCH_SECONDS else []
    reached = {base.model.method} if base.model.method != "auto" else {"auto", *methods}
    # For a head that is fitted on all pictures at once, sampling is the same as weights.
    ways = ("auto", "none", "weights", "logit", *(["sampler"] if reached & set(NETWORKS) else []))
    found = [
        Knob("method", ("auto", *methods)),
        Knob("resize", ("auto", "crop", "pad", "squash")),
        Knob("flip", ("auto", "on", "off")),
        *([Knob("balance", ways)] if uneven else []),
        Knob("augment", ("auto", "none", "light", "standard", "strong"), NETWORKS),
        Knob("backbone", (None, *backbones), pretrained),
        Knob("image_size", (None, *_SIZES), pretrained),
        Knob("head", ("linear", "mlp", "cosine"), ("finetune",)),
        Knob("pooling", ("avg", "gem"), ("finetune",)),
        Knob("tune", ("auto", "head", "last", "all"), ("finetune",)),
        Knob("schedule", ("wsd", "cosine"), NETWORKS),
        Knob("lr", (None, "given"), NETWORKS),
    ]
    given = _flat(base)
    default = _flat(Recipe())
    return tuple(
        knob
        for knob in found
        if given[knob.name] == default[knob.name]
        and len(knob.choices) > 1
        and (not knob.methods or reached & set(knob.methods))
    )


def default_values(searched: Sequence[Knob], base: Recipe) -> dict[str, Any]:
    """Return the values, as a trial holds them, with which the recipe is `base`."""
    return {knob.name: knob.choices[0] for knob in searched if _heeded(knob, base.model.method)}


def chosen(asked: Asked, searched: Sequence[Knob], base: Recipe, seconds: float) -> Recipe:
    """Return the recipe of a trial, of `seconds` at the most: `base` with the values that `asked` proposes."""
    values: dict[str, Any] = {"budget": seconds}
    method: str = base.model.method
    for knob in searched:
        if not _heeded(knob, method):
            continue
        value = asked.suggest_categorical(knob.name, knob.choices)
        if knob.name == "method":
            method = value
        if knob.name == "lr":
            value = asked.suggest_float(*_RATES[method], log=True) if value else None
        values[knob.name] = value
    return Recipe.of(base, **values)


def _heeded(knob: Knob, method: str) -> bool:
    return not knob.methods or method in knob.methods


def _flat(recipe: Recipe) -> Mapping[str, Any]:
    nested = recipe.model_dump()
    return {
        option.name: nested[option.section][option.name] if option.section else nested[option.name]
        for option in Recipe.options()
    }
