"""The page of `tune`: every trial, what mattered, and where the good ones lie. Loads nothing, and runs nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import markupsafe

from tellapart import __version__
from tellapart.report.charts import BOTTOM, LEFT, RIGHT, TOP, Line, Mark, Plot, Tick, nice_ticks
from tellapart.report.render import STYLES, asset, environment, policy_of

__all__ = ["Trial", "TunePage", "Within", "history_plot", "parallel_plot", "render_tuned"]

_MOST_LINES = 200  # of trials in one picture
_GOOD_SHARE = 0.2
_STEP = 22.0  # pixels from one choice to the next


class Trial(Protocol):
    """One trial, as `ladder.study.Tried` is."""

    @property
    def number(self) -> int:
        """Its place, from 0."""

    @property
    def values(self) -> Mapping[str, Any]:
        """What it tried."""

    @property
    def loss(self) -> float | None:
        """What it gave, in nats; None where it gave nothing."""

    @property
    def seconds(self) -> float:
        """How long it took."""

    @property
    def default(self) -> bool:
        """Whether it is the recipe as it was."""

    @property
    def method(self) -> str:
        """The rung that was best."""

    @property
    def why(self) -> str:
        """Why it gave nothing."""


class Within(Protocol):
    """What mattered among the trials of one method, as `ladder.study.Within` is."""

    @property
    def method(self) -> str:
        """The method."""

    @property
    def num_trials(self) -> int:
        """How many trials of it gave something."""

    @property
    def importance(self) -> Mapping[str, float]:
        """The share of what changed it that goes with each option."""


class TunePage(Protocol):
    """All that the page shows, as `ladder.tune.Tuned` has it."""

    @property
    def trials(self) -> Sequence[Trial]:
        """Every trial that ended."""

    @property
    def best(self) -> Trial:
        """The best of them."""

    @property
    def default(self) -> Trial:
        """The one of the recipe as it was."""

    @property
    def objective(self) -> str:
        """What was made as low as possible."""

    @property
    def importance(self) -> Mapping[str, float]:
        """The share of what changed it that goes with each option."""

    @property
    def within(self) -> Within | None:
        """The same among trials of the best one's method; None where too few tell, or the method is not searched."""

    @property
    def searched(self) -> Mapping[str, tuple[Any, ...]]:
        """The choices of each option."""

    @property
    def seconds(self) -> float:
        """How long the search took."""

    @property
    def words(self) -> str:
        """What came of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Parallel:
    """A line down the page for each option, a line across for each trial; names of choices may be `longest` letters."""

    height: float
    axes: tuple[tuple[float, str, tuple[Tick, ...]], ...]
    lines: tuple[Line, ...]
    longest: int


def history_plot(trials: Sequence[Trial]) -> Plot | None:
    """Return the loss of each trial, with a line for the best so far; None where fewer than two gave something.

    What is far worse than the others stands at the upper edge.
    """
    ended = [(trial, trial.loss) for trial in trials if trial.loss is not None and math.isfinite(trial.loss)]
    if len(ended) < 2:
        return None
    losses = sorted(loss for _, loss in ended)
    highest = min(losses[-1], max(losses[len(losses) // 2], ended[0][1]) * 1.6)
    ticks = nice_ticks(losses[0], highest)
    low, high = ticks[0], ticks[-1]
    height, last = 260.0, max(1, trials[-1].number)

    def x(number: int) -> float:
        return LEFT + (RIGHT - LEFT) * number / last

    def y(loss: float) -> float:
        return TOP + (height - TOP - BOTTOM) * (high - min(loss, high)) / (high - low)

    marks: list[Mark] = []
    steps: list[tuple[float, float]] = []
    best = math.inf
    for trial, loss in ended:
        if steps:
            steps.append((x(trial.number), y(best)))
        best = min(best, loss)
        steps.append((x(trial.number), y(best)))
        text = f"trial {trial.number}{', the recipe as it was' if trial.default else ''}: {loss:.4f} by {trial.method}"
        marks.append(Mark(x(trial.number), y(loss), text="", title=text, style="" if loss <= best else "few"))
    places = sorted({round(last * share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)})
    return Plot(
        height,
        tuple(Tick(x(place), str(place)) for place in places),
        tuple(Tick(y(value), f"{value:.3g}") for value in ticks),
        "trial",
        (Line("best", tuple(steps)),),
        tuple(marks),
        floor=height - BOTTOM,
    )


def parallel_plot(trials: Sequence[Trial], searched: Mapping[str, tuple[Any, ...]]) -> _Parallel | None:
    """Return where each trial passes through the choices of each option; the best fifth stands out.

    Options with a single value are left out, and trials that gave nothing; None where that leaves too little.
    """
    ended = sorted(
        (trial for trial in trials if trial.loss is not None and math.isfinite(trial.loss)),
        key=lambda trial: -(trial.loss or 0.0),
    )[-_MOST_LINES:]
    values = {name: [_choice(trial, name) for trial in ended] for name in searched}
    names = [name for name, found in values.items() if len(set(found)) > 1]
    if len(ended) < 2 or not names:
        return None
    choices = {name: [*dict.fromkeys([*map(_said, searched[name]), *values[name]])] for name in names}
    most = max(map(len, choices.values()))
    height = TOP + _STEP * most + 12.0
    first, last = 0.06, 0.86
    step = (last - first) / max(1, len(names) - 1) if len(names) > 1 else 0.0
    axes, heights = [], []
    for place, name in enumerate(names):
        at = [TOP + _STEP * (number + 0.8) * most / len(choices[name]) for number in range(len(choices[name]))]
        heights.append(dict(zip(choices[name], at, strict=True)))
        ticks = tuple(Tick(level, text) for text, level in heights[-1].items())
        axes.append((first + step * place, name, ticks))
    good = max(1, round(_GOOD_SHARE * len(ended)))
    lines = []
    for number, trial in enumerate(ended):
        spread = 5.0 * (number / len(ended) - 0.5)  # lines through one choice lie side by side
        points = [
            (axis[0], heights[place][values[name][number]] + spread)
            for place, (axis, name) in enumerate(zip(axes, names, strict=True))
        ]
        if len(points) == 1:
            points.append((last, points[0][1]))
        style = "ideal" if number < len(ended) - good else "best"
        lines.append(Line(style, tuple(points), f"trial {trial.number}: {trial.loss:.4f}"))
    return _Parallel(height, tuple(axes), tuple(lines), max(8, 90 // len(names)))


def _choice(trial: Trial, name: str) -> str:
    if name not in trial.values:
        return "–"
    if name == "lr" and trial.values["lr"] is not None:
        return "given"
    return _said(trial.values[name])


def _said(value: Any) -> str:
    return "auto" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def render_tuned(page: TunePage) -> str:
    """Return the page as HTML: one file without a script."""
    style = "\n".join(map(asset, (*STYLES, "check.css", "tune.css")))
    macros: Any = environment().get_template("macros.j2").make_module({"embedded": None, "index": {}})
    default = page.default.values
    changed = [(name, _said(value)) for name, value in page.best.values.items() if default.get(name) != value]
    ranked = sorted(page.trials, key=lambda trial: (trial.loss is None, trial.loss or 0.0, trial.number))
    rows = [
        (
            trial,
            ", ".join(f"{name} {_said(value)}" for name, value in trial.values.items() if default.get(name) != value),
        )
        for trial in ranked
    ]
    return (
        environment()
        .get_template("tune.html.j2")
        .render(
            p=page,
            m=macros,
            changed=changed,
            rows=rows,
            history=history_plot(page.trials),
            parallel=parallel_plot(page.trials, page.searched),
            created=datetime.now(UTC),
            tellapart=__version__,
            policy=policy_of(style, ""),
            style=markupsafe.Markup(style),
        )
    )
