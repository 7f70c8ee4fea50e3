from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tellapart.report import Summary
from tellapart.report.charts import heat_map
from tellapart.report.pictures import Embedded, behind_cells

SummaryMaker = Callable[..., Summary]


def test_the_same_picture_has_one_number_and_a_full_page_takes_no_more() -> None:
    embedded = Embedded(max_bytes=10)
    assert [embedded.place(jpeg) for jpeg in (b"aaaa", b"bbbb", b"aaaa", b"cccc", b"dd", b"")] == [
        0,
        1,
        0,
        None,
        2,
        None,
    ]
    assert len(embedded.uris()) == 3


def test_behind_each_count_stand_its_pictures_mistakes_first(make_summary: SummaryMaker) -> None:
    summary = make_summary(tuple("abcdef"), 120, 0.8)
    split = summary.headline
    assert split is not None
    assert split.confusion is not None
    right = dataclasses.replace(summary.mistakes[0], path="right", predicted=summary.mistakes[0].label)
    groups = behind_cells(split, summary.classes, (*summary.mistakes, right))
    assert sum(len(group.cards) for group in groups.values()) == len(summary.mistakes) + 1
    for key, group in groups.items():
        true, predicted = map(int, key.split("-"))
        assert (summary.classes[true], summary.classes[predicted]) == (group.true, group.predicted)
        assert group.count == split.confusion[true, predicted]
        assert all((card.label, card.predicted) == (group.true, group.predicted) for card in group.cards)
    assert [group.right for group in groups.values()].index(True) == len(groups) - 1
    counts = [group.count for group in groups.values() if not group.right]
    assert counts == sorted(counts, reverse=True)


def test_a_heat_map_has_a_square_for_each_count_and_darker_ones_for_larger_shares() -> None:
    confusion = np.array([[9, 1, 0], [0, 5, 5], [0, 0, 0]])
    drawn = heat_map(confusion)
    squares = {place: style for style, path in drawn.paths for place in path.split("z") if place}
    assert drawn.side == 3
    assert squares == {"M0 0h1v1h-1": "r9", "M1 0h1v1h-1": "w1", "M1 1h1v1h-1": "r5", "M2 1h1v1h-1": "w5"}
