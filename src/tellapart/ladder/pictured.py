"""Which pictures a report shows, and their thumbnails: made once, then found in the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tellapart.cache import Space, digest_of
from tellapart.data.manifest import Manifest
from tellapart.errors import PictureError
from tellapart.events import Progress, Steps
from tellapart.images import DecodePolicy, decode_guarded, map_ordered, thumbnail_jpeg
from tellapart.ladder.clock import Clock
from tellapart.ladder.show import MOST_OF_AN_ANSWER, Answered, card, evenly
from tellapart.learn.rungs import Pictures
from tellapart.report import AnswerName, PictureCard

__all__ = ["Shown", "chosen", "pictured"]

MOST_MISTAKES = 24
MOST_OF_A_CELL = 12
MOST = 400
# Decoding is what pictures cost: of every eight that were used one may be shown, and so many in any case.
ONE_IN = 8
AT_LEAST = 96
_LARGE_PX, _SMALL_PX = 224, 128
_VERSION = 1  # part of the cache's key: raise it when a thumbnail would come out differently
# Writing the page and its files takes so long; thumbnails that the budget has no time for are left out.
_SECONDS_TO_WRITE = 1.0


@dataclasses.dataclass(frozen=True)
class Shown:
    """Rows of a split: the most confident `mistakes`, worst first, and `examples` for answers and counts."""

    mistakes: tuple[int, ...]
    examples: tuple[int, ...]


def chosen(said: Answered, num_used: int) -> Shown:
    """Return which pictures of a split to show: a function of what was said of them, and of how many were used.

    Some of each answer come first, then those behind the counts of the confusion matrix: first three of each, the most
    frequent mistakes before rarer ones, then what has been named right, then more of each.
    """
    found = said.found
    confidence, predicted = found.probs.max(axis=1), found.probs.argmax(axis=1)
    wrong = np.flatnonzero(~found.right)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:MOST_MISTAKES].tolist()
    answers: tuple[AnswerName, ...] = ("unknown", "unsure", "label")
    wanted = [row for kind in answers for row in evenly(said.rows_of(kind), MOST_OF_AN_ANSWER)]
    cells: dict[tuple[int, int], list[int]] = {}
    for row in np.argsort(-confidence, kind="stable").tolist():
        cells.setdefault((int(found.pictures.targets[row]), int(predicted[row])), []).append(row)
    ordered = sorted(cells.items(), key=lambda cell: (cell[0][0] == cell[0][1], -len(cell[1]), cell[0]))
    for few in (3, MOST_OF_A_CELL):
        wanted += [row for _, rows in ordered for row in evenly(rows, few)]
    room = min(MOST, max(AT_LEAST, num_used // ONE_IN)) - len(mistakes)
    examples = list(dict.fromkeys(row for row in wanted if row not in set(mistakes)))
    return Shown(tuple(mistakes), tuple(examples[:room]))


def pictured(
    said: Answered, shown: Shown, manifest: Manifest, policy: DecodePolicy, threads: int, cache: Path, clock: Clock
) -> Steps[dict[int, PictureCard]]:
    """Return the cards of the rows shown; a picture that has gone missing is left out.

    Where the budget ends first, the rest of the cards have no picture (`jpeg` is empty).
    """
    pictures = said.found.pictures
    cards: dict[int, PictureCard] = {}
    total = len(shown.mistakes) + len(shown.examples)
    for rows, side_px in ((shown.mistakes, _LARGE_PX), (shown.examples, _SMALL_PX)):
        key = digest_of([dataclasses.asdict(policy), side_px, _VERSION])
        with Space(cache, "report-thumbnails", key) as space:
            known = {rows[at]: jpeg for at, jpeg in space.get([pictures.digests[row] for row in rows])}
            made: dict[int, bytes] = {}
            absent = [row for row in rows if row not in known]
            gone: set[int] = set()
            for row, jpeg in _thumbnails(pictures, absent, side_px, policy, threads):
                if jpeg is None:
                    gone.add(row)
                else:
                    made[row] = jpeg
                yield Progress("report", len(cards) + len(known) + len(made) + len(gone), total)
                if clock.left() < _SECONDS_TO_WRITE:
                    break
            space.put((pictures.digests[row], jpeg) for row, jpeg in made.items())
        known |= made
        cards |= {row: card(said, row, known.get(row, b""), manifest) for row in rows if row not in gone}
    return cards


def _thumbnails(
    pictures: Pictures, rows: Sequence[int], side_px: int, policy: DecodePolicy, threads: int
) -> Iterable[tuple[int, bytes | None]]:
    def seen(row: int) -> bytes | None:
        try:
            return thumbnail_jpeg(decode_guarded(pictures.files[row], at_least_px=side_px, policy=policy), side_px)
        except PictureError:
            return None

    return zip(rows, map_ordered(seen, rows, threads), strict=True)
