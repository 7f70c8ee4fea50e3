"""What the verbs give: frozen, and plain when asked for JSON."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tellapart.data.audit import Finding
    from tellapart.judge import Paired, RiskPoint, Robustness, Slices
    from tellapart.ladder.export import Form
    from tellapart.report.summary import AnswerShare, SplitReport, Summary

__all__ = ["CheckResult", "EvaluateResult", "ExportResult", "TrainResult"]


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What `train` gives: `result` is the object of the JSON contract; `summary` is None for a run read back."""

    run: Path
    result: dict[str, Any]
    summary: Summary | None = None
    exit_code: int = 0

    @property
    def bundle(self) -> Path:
        """The folder that `predict` and `evaluate` take."""
        return self.run / "bundle"

    @property
    def report(self) -> Path:
        """The page a person reads."""
        return self.run / "report.html"

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        return self.result


@dataclasses.dataclass(frozen=True)
class EvaluateResult:
    """What `evaluate` gives: the numbers of one set of labelled pictures, and `notes` for the reader.

    `answers` tells how often each answer is given and is right, `risk` how right answers are when fewer are given,
    `slices` how right it is on kinds of pictures, `robustness` (where it was asked for) on corrupted ones, the worst
    first, and `against` how it compares with another bundle on the same pictures.
    """

    split: SplitReport
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    answers: tuple[AnswerShare, ...] = ()
    risk: tuple[RiskPoint, ...] = ()
    slices: Slices | None = None
    robustness: tuple[Robustness, ...] = ()
    against: Paired | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the metrics object of the JSON contract with `per_class`, `confusion` and the answers beside."""
        from tellapart.files import finite

        confusion = self.split.confusion
        content: dict[str, Any] = {
            **self.split.metrics,
            **self.split.intervals,
            "groups": self.split.groups,
            "per_class": [dataclasses.asdict(row) for row in self.split.per_class],
            "confusion": [] if confusion is None else confusion.tolist(),
            "answers": [share.as_json() for share in self.answers],
            "risk_coverage": [dataclasses.asdict(point) for point in self.risk],
            **({"slices": dataclasses.asdict(self.slices)} if self.slices else {}),
            **({"robustness": [dataclasses.asdict(one) for one in self.robustness]} if self.robustness else {}),
            **({"against": dataclasses.asdict(self.against)} if self.against else {}),
        }
        plain: dict[str, Any] = finite(content)
        return plain


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """What `check` gives: `findings`, the worst first, and `notes` on what could not be looked at.

    `page` is where the suspects are shown, None where that could not be written; `fixed` says what `fix` left out.
    """

    counts: dict[str, int]
    classes: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    page: Path | None = None
    fixed: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints: version 1 of the JSON contract."""
        from tellapart.files import finite

        found = [finding.as_json() for finding in self.findings]
        plain: dict[str, Any] = finite(
            {"version": 1, "counts": self.counts, "classes": list(self.classes), "findings": found}
        )
        return plain


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What `export` gives: the folder `out` in the form `precision` for `to`, and `why`; every form that was measured.

    The first of `forms` is the bundle as it was; speeds are of this machine, on `threads` threads where it says so.
    `page` shows them, beside `out`.
    """

    out: Path
    to: str
    precision: str
    forms: tuple[Form, ...]
    threads: int
    why: str
    page: Path | None

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints: version 1 of the JSON contract."""
        from tellapart.files import finite

        plain: dict[str, Any] = finite(
            {
                "version": 1,
                "out": str(self.out),
                "page": None if self.page is None else str(self.page),
                "to": self.to,
                "precision": self.precision,
                "why": self.why,
                "threads": self.threads,
                "forms": [form.as_json() for form in self.forms],
            }
        )
        return plain
