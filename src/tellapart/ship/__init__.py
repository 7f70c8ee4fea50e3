"""Anything trained becomes a bundle, through a parity gate."""

from tellapart.ship.bundle import with_metrics, write_bundle
from tellapart.ship.gallery import Gallery, class_means, gallery, selftest_pictures, synthetic_pictures
from tellapart.ship.graph import compose

__all__ = [
    "Gallery",
    "class_means",
    "compose",
    "gallery",
    "selftest_pictures",
    "synthetic_pictures",
    "with_metrics",
    "write_bundle",
]
