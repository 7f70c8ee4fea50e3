"""Labelled pictures: scan, split, groups."""
