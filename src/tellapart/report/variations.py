"""How training pictures were varied, as a report shows it."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["Strip", "Variations"]


@dataclasses.dataclass(frozen=True, slots=True)
class Strip:
    """One training picture as it is, and `count` times as the network saw it, side by side: a JPEG made by us."""

    jpeg: bytes
    path: str
    label: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Variations:
    """What was done, in words; the `share` in [0, 1] of a training step that it took, where that was measured."""

    words: str
    share: float | None
    strips: tuple[Strip, ...]

    def as_json(self) -> dict[str, Any]:
        """Return what `report.json` holds: all but the pictures."""
        strips = [{"path": strip.path, "label": strip.label, "count": strip.count} for strip in self.strips]
        return {"words": self.words, "share": self.share, "strips": strips}
