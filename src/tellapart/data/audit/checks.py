"""Every check of the audit, and the audit: all of them, the worst finding first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tellapart.data.audit.confusable_classes import confusable_classes
from tellapart.data.audit.duplicate import duplicate
from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import CheckName, Finding
from tellapart.data.audit.identical_in_two_classes import identical_in_two_classes
from tellapart.data.audit.imbalance import imbalance
from tellapart.data.audit.label_suspect import label_suspect
from tellapart.data.audit.near_duplicate import near_duplicate
from tellapart.data.audit.outlier import outlier
from tellapart.data.audit.quality import quality
from tellapart.data.audit.series_leak import series_leak
from tellapart.data.audit.shortcut import shortcut
from tellapart.data.audit.split_leak import split_leak
from tellapart.data.audit.split_shift import split_shift
from tellapart.data.audit.unreadable import unreadable

__all__ = ["BY_SIGHT", "REGISTRY", "audit", "worst_first"]

REGISTRY: Mapping[CheckName, Callable[[Evidence], Finding | None]] = {
    "unreadable": unreadable,
    "duplicate": duplicate,
    "near_duplicate": near_duplicate,
    "split_leak": split_leak,
    "series_leak": series_leak,
    "identical_in_two_classes": identical_in_two_classes,
    "label_suspect": label_suspect,
    "outlier": outlier,
    "quality": quality,
    "imbalance": imbalance,
    "confusable_classes": confusable_classes,
    "shortcut": shortcut,
    "split_shift": split_shift,
}


# These say more, or speak at all, once there are embeddings and predictions.
BY_SIGHT: tuple[CheckName, ...] = ("split_leak", "label_suspect", "outlier", "confusable_classes", "split_shift")


def audit(evidence: Evidence) -> Iterator[Finding | None]:
    """Yield what each check finds, in the order of the registry; None where it has nothing to say."""
    for check in REGISTRY.values():
        yield check(evidence)


def worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    """Return findings by severity, equal ones in the order of the registry."""
    order = list(REGISTRY)
    return tuple(sorted(findings, key=lambda found: (-found.severity, order.index(found.check))))
