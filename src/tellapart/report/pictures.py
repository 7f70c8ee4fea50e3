"""The pictures of a page: each is embedded once, however often it is shown, and no more bytes than a page may hold."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from tellapart.report.summary import PictureCard, SplitReport

__all__ = ["MAX_BYTES", "Embedded", "Group", "behind_cells"]

MAX_BYTES = 2_400_000
_PNG = b"\x89PNG\r\n\x1a\n"


class Embedded:
    """Pictures given a number each, in the order in which they were first shown."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._numbers: dict[bytes, int] = {}
        self._room = max_bytes

    def place(self, jpeg: bytes) -> int | None:
        """Return the number of a picture, the same for the same bytes; None for no bytes, or where the page is full."""
        if jpeg not in self._numbers:
            if not jpeg or len(jpeg) > self._room:
                return None
            self._room -= len(jpeg)
            self._numbers[jpeg] = len(self._numbers)
        return self._numbers[jpeg]

    def uris(self) -> list[str]:
        """Return each picture as a `data:` address, by number; one that begins as PNG is called so."""
        return [
            f"data:image/{'png' if content.startswith(_PNG) else 'jpeg'};base64,{base64.b64encode(content).decode()}"
            for content in self._numbers
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """The pictures behind one count of the matrix: `count` of class `true`, a `share` of it, called `predicted`.

    `key` is made of the indexes of the two classes, never of a name. `cards` are those of the pictures that are shown.
    """

    key: str
    true: str
    predicted: str
    count: int
    share: float
    cards: tuple[PictureCard, ...]

    @property
    def right(self) -> bool:
        """Whether these were called what they are."""
        return self.true == self.predicted


def behind_cells(split: SplitReport, classes: Sequence[str], cards: Iterable[PictureCard]) -> Mapping[str, Group]:
    """Return the counts of the matrix that have pictures to show, by key: mistakes first, the most frequent first."""
    if split.confusion is None:
        return {}
    place = {label: index for index, label in enumerate(classes)}
    found: dict[tuple[int, int], list[PictureCard]] = {}
    for card in cards:
        if card.label in place and card.predicted in place:
            found.setdefault((place[card.label], place[card.predicted]), []).append(card)
    totals = split.confusion.sum(axis=1).tolist()
    groups = [
        Group(
            f"{true}-{predicted}",
            classes[true],
            classes[predicted],
            int(split.confusion[true, predicted]),
            int(split.confusion[true, predicted]) / max(1, totals[true]),
            tuple(sorted(shown, key=lambda card: -card.prob)),
        )
        for (true, predicted), shown in found.items()
    ]
    groups.sort(key=lambda group: (group.right, -group.count, place[group.true], place[group.predicted]))
    return {group.key: group for group in groups}
