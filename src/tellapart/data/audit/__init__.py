"""The audit: checks that take arrays and return findings."""

from tellapart.data.audit.checks import BY_SIGHT, REGISTRY, audit, worst_first
from tellapart.data.audit.evidence import Evidence
from tellapart.data.audit.finding import CHECKS, CheckName, Finding, Suspect

__all__ = ["BY_SIGHT", "CHECKS", "REGISTRY", "CheckName", "Evidence", "Finding", "Suspect", "audit", "worst_first"]
