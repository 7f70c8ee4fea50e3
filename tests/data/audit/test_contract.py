"""Every check of the audit keeps the same promises, whatever it is given."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.data.audit import CHECKS, REGISTRY, Evidence, Finding, audit, worst_first
from tellapart.data.manifest import Excluded
from tests.data.audit.conftest import made

FROZEN = (
    "unreadable",
    "duplicate",
    "near_duplicate",
    "split_leak",
    "series_leak",
    "identical_in_two_classes",
    "label_suspect",
    "outlier",
    "quality",
    "imbalance",
    "confusable_classes",
    "shortcut",
    "split_shift",
)


def spoilt(n: int, num_classes: int, seed: int) -> Evidence:
    """Return evidence with all that can be amiss."""
    random = np.random.default_rng(seed)
    evidence = made(n, num_classes, seed)
    measures = evidence.measures.copy()
    for name, value in (("contrast", 0), ("brightness", 3), ("sharpness", 0), ("entropy", 0.1), ("border_spread", 0)):
        measures[name][random.random(n) < 0.04] = value
    measures["file_bytes"] = np.where(evidence.targets == 0, 1000, measures["file_bytes"])
    copies = np.where(random.random(n) < 0.1, 0, np.arange(n))
    probs = evidence.probs.copy()
    wrong = random.random(n) < 0.1
    probs[wrong] = np.roll(probs, 1, axis=1)[wrong]
    embeddings = evidence.embeddings.copy()
    embeddings[random.random(n) < 0.02] *= -50
    return dataclasses.replace(
        evidence,
        splits=random.choice(["train", "val", "test"], n, p=[0.6, 0.2, 0.2]).tolist(),
        given=("train", "val", "test"),
        identities=copies,
        near=np.where(random.random(n) < 0.1, 1, copies),
        series=np.arange(n) // 7,
        sizes=random.integers(1, 5000, (n, 2)),
        grey=random.random(n) < 0.02,
        measures=measures,
        probs=probs,
        embeddings=embeddings,
        excluded=(
            Excluded("a/broken.jpg", "truncated", "It ends early.", "a"),
            Excluded("a/twin.png", "identical_in_two_classes", "The same picture is in a, b.", "a", "f" * 64),
        ),
    )


CASES: dict[str, Callable[[], Evidence]] = {
    "clean": lambda: made(),
    "spoilt": lambda: spoilt(300, 4, 1),
    "spoilt, two classes": lambda: spoilt(120, 2, 2),
    "one class": lambda: spoilt(60, 1, 3),
    "none": lambda: made(0, 2),
    "nothing at all": lambda: made(0, 0),
    "one": lambda: spoilt(1, 1, 4),
    "two": lambda: spoilt(2, 2, 5),
    "tiny classes": lambda: spoilt(30, 25, 6),
    "no network": lambda: dataclasses.replace(
        spoilt(100, 3, 7),
        embedded=np.zeros(0, dtype=np.int64),
        embeddings=np.zeros((0, 1), dtype=np.float32),
        predicted=np.zeros(0, dtype=np.int64),
        probs=np.zeros((0, 3)),
    ),
}


def kept(finding: Finding, evidence: Evidence) -> None:
    """Assert what every finding promises."""
    assert 0.0 <= finding.severity <= 1.0
    assert finding.note.endswith(".")
    assert finding.fix.endswith(".")
    assert re.search(r"\d", finding.note) or finding.check == "split_shift", "a note counts"
    assert not re.search(r"\bnan\b|\binf\b", finding.note)
    scores = [row.score for row in finding.rows]
    assert all(0.0 <= score <= 1.0 and math.isfinite(score) for score in scores)
    assert scores == sorted(scores, reverse=True)
    assert len({row.path for row in finding.rows}) == len(finding.rows), "a picture is named once"
    known = {*evidence.paths, *(item.path for item in evidence.excluded)}
    for row in finding.rows:
        assert row.path in known
        assert row.suggested is None or (row.suggested in evidence.classes and row.suggested != row.label)
        assert set(row.as_json()) <= {"path", "label", "suggested", "score"}
    assert list(finding.as_json()) == ["check", "severity", "note", "fix", "rows"]
    json.dumps(finding.as_json(), allow_nan=False)


@pytest.mark.parametrize("name", FROZEN)
@pytest.mark.parametrize("case", CASES)
def test_a_finding_keeps_to_the_contract(name: str, case: str) -> None:
    evidence = CASES[case]()
    finding = REGISTRY[name](evidence)  # type: ignore[index]
    assert finding is None or finding.check == name
    if finding is not None:
        kept(finding, evidence)
        assert REGISTRY[name](CASES[case]()) == finding, "the same input gives the same finding"  # type: ignore[index]


def test_the_names_are_frozen() -> None:
    assert CHECKS == FROZEN
    assert tuple(REGISTRY) == FROZEN


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60), st.integers(1, 6), st.integers(0, 2**16))
def test_any_evidence_is_answered_within_the_contract(n: int, num_classes: int, seed: int) -> None:
    evidence = spoilt(n, num_classes, seed)
    for finding in audit(evidence):
        if finding is not None:
            kept(finding, evidence)


def test_nothing_is_found_where_nothing_is_amiss() -> None:
    assert [finding for finding in audit(made(400, 4)) if finding is not None] == []


def test_a_spoilt_set_is_named_by_every_check_that_can_be() -> None:
    found = {finding.check for finding in audit(spoilt(300, 4, 1)) if finding is not None}
    assert found >= {"unreadable", "duplicate", "near_duplicate", "split_leak", "series_leak", "shortcut", "quality"}
    assert found >= {"identical_in_two_classes", "label_suspect", "outlier"}


def test_the_worst_finding_comes_first() -> None:
    found = [finding for finding in audit(spoilt(300, 4, 1)) if finding is not None]
    severities = [finding.severity for finding in worst_first(found)]
    assert severities == sorted(severities, reverse=True)


@pytest.mark.parametrize("name", FROZEN)
def test_what_the_user_keeps_is_named_no_more(name: str) -> None:
    evidence = spoilt(300, 4, 1)
    silent = dataclasses.replace(evidence, kept=frozenset(range(len(evidence))), excluded=())
    finding = REGISTRY[name](silent)  # type: ignore[index]
    assert finding is None or finding.rows == ()
