"""Labelled pictures: scan, split, groups."""

from tellapart.data.manifest import SPLITS, Excluded, Manifest, Row, Split
from tellapart.data.policy import resize_policy
from tellapart.data.scan import scan

__all__ = ["SPLITS", "Excluded", "Manifest", "Row", "Split", "resize_policy", "scan"]
