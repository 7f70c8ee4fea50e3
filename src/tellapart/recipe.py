"""Every option of `train`, declared once: the command line, the API, the docs and validation come from here."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from tellapart.errors import RecipeError, did_you_mean

__all__ = [
    "DEFAULT_BUDGET_SECONDS",
    "AnswerOptions",
    "AugmentOptions",
    "Balance",
    "DataOptions",
    "Effort",
    "FitOptions",
    "Method",
    "ModelOptions",
    "Option",
    "Preset",
    "Recipe",
    "parse_colour",
    "parse_duration",
    "parse_folds",
    "parse_tune",
]

Method = Literal["auto", "majority", "classical", "probe", "finetune", "scratch"]
Balance = Literal["auto", "none", "weights", "sampler", "logit"]
Preset = Literal["auto", "none", "light", "standard", "strong"]
Effort = Literal["quick", "balanced", "best"]

DEFAULT_BUDGET_SECONDS: dict[str, float] = {"quick": 120.0, "balanced": 600.0, "best": 3600.0}

_BALANCE = "Let uneven classes count alike: as is best (auto), never, by weights, drawn evenly, by adjusted logits."
_AUGMENT = "Vary training pictures: a preset, or what their labels survive (auto)."
_EPOCHS = "For networks that are trained (the probe has none): passes over the pictures, at the most."
_CHECKPOINT = "How much of a network's training a power cut may cost, such as 30s."

_NESTED = "Where class folders hold folders: stop, or the class is the first folder, or the whole path."
_FOLDS = "Measure by N folds in turn, learn from all: auto (where pictures are too few to set apart), off, or 2 to 20."
_NEAR = "Keep pictures that are nearly the same in one split: unless a class is full of them (auto), always, or never."
_UNLABELLED = (
    "Pictures without a label: skip them or stop; auto skips those beside class folders, and stops at table rows."
)
_PROFILES = "Bring colours to sRGB by the file's profile, or take them as stored."
_TUNE = "Finetune: head alone, the last blocks (or how many: 3), all, or as much as there is time for (auto)."
_LR = "The peak rate of networks that are trained; a range test picks it: some 0.0003 to finetune, 0.1 from nothing."
_SCHEDULE = "Networks that are trained: warm-up, stable, decay, or a cosine after the warm-up."
_BN_POLICY = "Finetune: batch norm that is tuned stays as it is, keeps its statistics, or is trained."
_ROBUSTNESS = "Measure it on blurred, noisy, compressed, brighter and turned pictures too: where time is left (auto)."
_DISTILL = "With --effort best: ship a head on the cheapest pretrained network, taught by the best model's answers."
_TWO_LABELS = "The same picture under two labels: leave every copy out, or keep each with its own."
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(value: Any) -> Any:
    """Return seconds from `90`, `"90s"`, `"5m"`, `"1.5h"`; anything else is returned as it is, to be refused later."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([smh]?)\s*", value, flags=re.IGNORECASE)
        if match is None:
            raise ValueError("expected a duration such as 90s, 5m or 1.5h")
        return float(match[1]) * _UNITS[match[2].lower()]
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]


def parse_colour(value: Any) -> tuple[int, int, int]:
    """Return red, green, blue in 0..255 from three whole numbers or their text, such as `"255,255,255"`.

    Raises ValueError for anything else.
    """
    try:
        parts = value.split(",") if isinstance(value, str) else value
        red, green, blue = (int(part) if isinstance(part, str) else operator.index(part) for part in parts)
    except (TypeError, ValueError):
        pass
    else:
        if min(red, green, blue) >= 0 and max(red, green, blue) <= 255:
            return red, green, blue
    raise ValueError("expected three numbers from 0 to 255 such as 255,255,255")


Colour = Annotated[tuple[int, int, int], BeforeValidator(parse_colour)]


def parse_folds(value: Any) -> Any:
    """Return `"auto"`, `"off"`, or a whole number from 2 to 20, from itself or its text. Raises ValueError."""
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if number in ("auto", "off") or (type(number) is int and 2 <= number <= 20):
        return number
    raise ValueError("expected auto, off or a whole number from 2 to 20")


Folds = Annotated[int | Literal["auto", "off"], BeforeValidator(parse_folds)]


def parse_tune(value: Any) -> Any:
    """Return `"auto"`, `"head"`, `"last"`, `"all"`, or a whole number from 1 on, from itself or its text.

    Raises ValueError for anything else.
    """
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if number in ("auto", "head", "last", "all") or (type(number) is int and number >= 1):
        return number
    raise ValueError("expected auto, head, last, all or how many of the last blocks, from 1 on")


Tune = Annotated[int | Literal["auto", "head", "last", "all"], BeforeValidator(parse_tune)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataOptions(_Section):
    """What is read, how it is split, how bytes become pixels."""

    val: float = Field(0.15, ge=0.0, le=0.5, description="Share of the pictures without a given split to validate on.")
    test: float = Field(0.15, ge=0.0, le=0.5, description="Share to test on, where no test split is given.")
    folds: Folds = Field("auto", description=_FOLDS)
    path_column: str | None = Field(None, description="Column of a table that holds the paths.")
    label_column: str | None = Field(None, description="Column of a table that holds the labels.")
    split_column: str | None = Field(None, description="Column of a table that holds train, val or test.")
    group_column: str | None = Field(None, description="Column of a table whose equal values stay in one split.")
    group_series: Literal["auto", "on", "off"] = Field("auto", description="Keep bursts and films in one split.")
    skip_missing: bool = Field(False, description="Leave out what a table names but is not there, instead of stopping.")
    nested: Literal["stop", "first", "path"] = Field("stop", description=_NESTED)
    unlabelled: Literal["auto", "skip", "stop"] = Field("auto", description=_UNLABELLED)
    previous: str | None = Field(None, description="Run or manifest.jsonl whose pictures keep their split.")
    corrections: str | None = Field(None, description="The corrections.csv of check: keep, relabel or drop pictures.")
    near_duplicates: Literal["auto", "on", "off"] = Field("auto", description=_NEAR)
    two_labels: Literal["drop", "keep"] = Field("drop", description=_TWO_LABELS)
    resize: Literal["auto", "crop", "pad", "squash"] = Field("auto", description="How a picture becomes square.")
    background: Colour = Field((255, 255, 255), description="RGB colour behind transparent pixels.")
    max_pixels: int = Field(50_000_000, ge=64, description="Pictures with more pixels are excluded, undecoded.")
    min_side: int = Field(8, ge=1, description="Pictures with a shorter side, in pixels, are excluded.")
    allow_truncated: bool = Field(False, description="Use pictures whose file ends early, as far as they go.")
    colour_profiles: Literal["srgb", "ignore"] = Field("srgb", description=_PROFILES)


class ModelOptions(_Section):
    """Which network."""

    method: Method = Field("auto", description="One rung of the ladder, or auto to climb it.")
    backbone: str | None = Field(None, description="A timm name, or local-dir:PATH.")
    image_size: int | None = Field(None, ge=8, le=1024, description="Side of the square the network sees, in pixels.")
    tune: Tune = Field("auto", description=_TUNE)
    head: Literal["linear", "mlp", "cosine"] = Field("linear", description="Finetune: what stands on the backbone.")
    pooling: Literal["avg", "gem"] = Field("avg", description="Finetune: average, or generalised mean.")


class FitOptions(_Section):
    """How long and how hard."""

    effort: Effort = Field("balanced", description="How much to try: quick, balanced or best.")
    budget: Duration | None = Field(None, ge=5.0, description="Wall time of the whole command, such as 90s or 5m.")
    epochs: int | None = Field(None, ge=1, le=100_000, description=_EPOCHS)
    lr: float | None = Field(None, gt=0.0, le=1.0, description=_LR)
    schedule: Literal["wsd", "cosine"] = Field("wsd", description=_SCHEDULE)
    bn_policy: Literal["auto", "frozen", "eval_stats", "train"] = Field("auto", description=_BN_POLICY)
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where networks run.")
    checkpoint_every: Duration = Field(30.0, ge=0.0, description=_CHECKPOINT)
    threads: int | None = Field(None, ge=1, le=1024, description="Processor threads to use; all by default.")
    balance: Balance = Field("auto", description=_BALANCE)
    robustness: Literal["auto", "on", "off"] = Field("auto", description=_ROBUSTNESS)
    distill: bool = Field(False, description=_DISTILL)
    reference: bool = Field(True, description="Keep embeddings and thumbnails of training pictures in the bundle.")


class AugmentOptions(_Section):
    """What is done to training pictures so that they count for more."""

    augment: Preset = Field("auto", description=_AUGMENT)
    flip: Literal["auto", "on", "off"] = Field("auto", description="Mirror pictures left to right.")

    @property
    def mirror(self) -> Literal["auto", "on", "off"]:
        """What `flip` says; where it says nothing, `--augment none` says no."""
        return "off" if self.augment == "none" and self.flip == "auto" else self.flip


class AnswerOptions(_Section):
    """When a picture is answered with a class. One wish at the most; 95% right answers where there is none."""

    target_precision: float | None = Field(
        None, gt=0.0, lt=1.0, description="Share of the answers that is to be right."
    )
    target_coverage: float | None = Field(None, gt=0.0, lt=1.0, description="Share of the pictures to be answered.")


@dataclass(frozen=True, slots=True)
class Option:
    """One leaf of the recipe: `section.name`, its type, default, choices (for a Literal) and one line of help."""

    section: str
    name: str
    type: Any
    default: Any
    choices: tuple[str, ...]
    help: str


class Recipe(_Section):
    """All that shapes a run besides the pictures. Frozen; saved with the run as `recipe.json`.

    >>> Recipe.of(budget="5m", method="probe").fit.budget
    300.0
    """

    data: DataOptions = DataOptions()
    model: ModelOptions = ModelOptions()
    fit: FitOptions = FitOptions()
    augment: AugmentOptions = AugmentOptions()
    answers: AnswerOptions = AnswerOptions()
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Everything random is a function of it.")

    @classmethod
    def options(cls) -> list[Option]:
        """Return every option, in the order of their declaration."""
        found = []
        for section, field in cls.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, _Section):
                found += [_option(section, name, inner) for name, inner in kind.model_fields.items()]
            else:
                found.append(_option("", section, field))
        return found

    @classmethod
    def of(cls, base: Recipe | None = None, /, **options: Any) -> Recipe:
        """Return a recipe from flat options (`budget="5m"`), over `base`. Raises RecipeError with a suggestion."""
        sections = {option.name: option.section for option in cls.options()}
        nested: dict[str, Any] = (base or cls()).model_dump()
        for name, value in options.items():
            if name not in sections:
                raise RecipeError(
                    "unknown_option",
                    f"{name!r} is not an option.{did_you_mean(name, sections)}",
                    f"Options: {', '.join(sections)}.",
                )
            target = nested[sections[name]] if sections[name] else nested
            target[name] = value
        return cls.parse(nested)

    @classmethod
    def parse(cls, nested: Mapping[str, Any]) -> Recipe:
        """Return a recipe from nested values, as `recipe.json` holds them. Raises RecipeError naming every fault."""
        try:
            recipe = cls.model_validate(nested)
        except ValidationError as error:
            raise RecipeError("bad_option", _explain(cls, error), "Change it and run again.") from None
        if recipe.answers.target_precision is not None and recipe.answers.target_coverage is not None:
            words = "--target-precision and --target-coverage cannot both be given: each sets the same threshold."
            raise RecipeError("two_targets", words, "Leave one of them out.")
        _check_distill(recipe)
        return recipe

    @property
    def budget_seconds(self) -> float:
        """The wall time of the whole command: as asked, or what the effort stands for."""
        return self.fit.budget if self.fit.budget is not None else DEFAULT_BUDGET_SECONDS[self.fit.effort]


def _check_distill(recipe: Recipe) -> None:
    """Raise RecipeError (`nothing_to_distill`) where `--distill` goes with what leaves no smaller network to teach."""
    if not recipe.fit.distill:
        return
    others = "which climbs several networks: the best teaches the smallest"
    if recipe.fit.effort != "best":
        words = f"--distill got --effort {recipe.fit.effort}; it goes with --effort best, {others}."
        raise RecipeError("nothing_to_distill", words, "Add --effort best, or leave --distill out.")
    if recipe.model.method not in ("auto", "probe"):
        words = f"--distill got --method {recipe.model.method}; it goes with --method auto or probe, {others}."
        raise RecipeError("nothing_to_distill", words, "Leave --method or --distill out.")
    if recipe.model.backbone is not None:
        words = f"--distill got --backbone {recipe.model.backbone}; it goes without one, {others}."
        raise RecipeError("nothing_to_distill", words, "Leave --backbone or --distill out.")


def _option(section: str, name: str, field: FieldInfo) -> Option:
    kind = field.annotation
    arms = (
        [arm for arm in get_args(kind) if arm is not type(None)] if get_origin(kind) in (Union, UnionType) else [kind]
    )
    choices = tuple(get_args(arms[0])) if get_origin(arms[0]) is Literal else ()
    return Option(section, name, kind, field.default, choices, field.description or "")


def _explain(recipe: type[Recipe], error: ValidationError) -> str:
    options = {option.name: option for option in recipe.options()}
    sentences = []
    faults: dict[str, Any] = {}  # the first of each option
    for fault in error.errors():
        faults.setdefault(next((part for part in reversed(fault["loc"]) if isinstance(part, str)), "recipe"), fault)
    for name, fault in faults.items():
        got = fault["input"]
        if fault["type"] == "extra_forbidden":
            sentences.append(f"{name!r} is not an option.{did_you_mean(name, options)}")
            continue
        option = options.get(name)
        if option is not None and option.choices:
            allowed = f"allowed are {', '.join(option.choices)}.{did_you_mean(str(got), option.choices)}"
        else:
            text = fault["msg"].removeprefix("Value error, ")
            allowed = f"{text[0].lower()}{text[1:]}."
        sentences.append(f"--{name.replace('_', '-')} got {got!r}; {allowed}")
    return " ".join(sentences)
