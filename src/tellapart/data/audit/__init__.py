"""The audit: checks that take arrays and return findings."""

from tellapart.data.audit.checks import REGISTRY, audit, worst_first
from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import CHECKS, CheckName, Finding, Suspect

__all__ = ["CHECKS", "REGISTRY", "CheckName", "Evidence", "Finding", "Suspect", "audit", "worst_first"]
