"""What a report shows of pictures: some of each answer and each count, bounded, each decoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tellapart.data.manifest import Manifest, Row
from tellapart.images import DecodePolicy
from tellapart.ladder.clock import Clock
from tellapart.ladder.pictured import AT_LEAST, MOST, MOST_MISTAKES, MOST_OF_A_CELL, chosen, pictured
from tellapart.ladder.show import MOST_OF_AN_ANSWER, Answered, Measured, answer_shares, evenly
from tellapart.learn.rungs import Pictures


def seen(files: list[Path], num_classes: int, skill: float, seed: int = 0) -> Answered:
    """A split with made-up probabilities, of which a third of the less sure answers are held back."""
    draws = np.random.default_rng(seed)
    n = len(files)
    targets = np.arange(n) % num_classes
    logits = draws.normal(size=(n, num_classes))
    logits[np.arange(n), targets] += skill
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    digests = tuple(f"{index:064x}" for index in range(n))
    pictures = Pictures(tuple(files), digests, digests, targets.astype(np.int64))
    novelty = draws.random(n)
    answers: Any = tuple(
        "unknown" if novel > 0.95 else "unsure" if sure < 0.5 else "label"
        for novel, sure in zip(novelty, probs.max(axis=1), strict=True)
    )
    return Answered(Measured(pictures, np.zeros((n, 1), np.float32), probs), novelty, answers)


@given(st.integers(1, 3000), st.integers(1, 40), st.floats(0, 4), st.integers(0, 20_000))
def test_what_is_shown_is_bounded_and_holds_some_of_each_answer_and_mistake(
    n: int, num_classes: int, skill: float, used: int
) -> None:
    said = seen([Path(f"{index}.jpg") for index in range(n)], num_classes, skill)
    shown = chosen(said, used)
    rows = shown.mistakes + shown.examples
    assert len(set(rows)) == len(rows) <= min(MOST, max(AT_LEAST, used))
    wrong = np.flatnonzero(~said.found.right)
    confidence = said.found.probs.max(axis=1)
    assert sorted(confidence[list(shown.mistakes)], reverse=True) == list(confidence[list(shown.mistakes)])
    assert len(shown.mistakes) == min(MOST_MISTAKES, len(wrong))
    for kind in ("label", "unsure", "unknown"):
        given_ = said.rows_of(kind)
        assert len(set(given_) & set(rows)) >= min(len(given_), MOST_OF_AN_ANSWER)


def test_behind_every_count_of_a_small_matrix_stand_pictures() -> None:
    said = seen([Path(f"{index}.jpg") for index in range(300)], 5, 1.5)
    shown = chosen(said, 3000)
    rows = set(shown.mistakes + shown.examples)
    found = said.found
    cells = list(zip(found.pictures.targets.tolist(), found.probs.argmax(axis=1).tolist(), strict=True))
    for cell in set(cells):
        behind = [row for row, other in enumerate(cells) if other == cell]
        assert len(rows & set(behind)) >= min(len(behind), MOST_OF_A_CELL)


def test_some_taken_evenly_hold_the_first_and_the_last() -> None:
    assert evenly(range(5), 12) == [0, 1, 2, 3, 4]
    assert evenly(range(100), 4) == [0, 33, 66, 99]


@pytest.fixture
def split(tmp_path: Path) -> tuple[Answered, Manifest]:
    """Sixty pictures on disk, and what was said of them."""
    files = []
    for index in range(60):
        files.append(tmp_path / "data" / f"{index:02d}.png")
        files[-1].parent.mkdir(exist_ok=True)
        Image.new("RGB", (300, 200), (4 * index, 80, 0)).save(files[-1])
    rows = tuple(
        Row(
            path=file.name,
            label="ab"[index % 2],
            split="test",
            group=str(index),
            sha256=f"{index:064x}",
            width=300,
            height=200,
        )
        for index, file in enumerate(files)
    )
    manifest = Manifest(root=tmp_path / "data", rows=rows, classes=("a", "b"), excluded=(), notes=())
    return seen(files, 2, 1.0), manifest


def all_of(said: Answered) -> set[int]:
    """The rows that are chosen."""
    shown = chosen(said, 60)
    return {*shown.mistakes, *shown.examples}


def shown_of(said: Answered, manifest: Manifest, cache: Path, seconds: float = 60.0) -> dict[int, Any]:
    """The cards of what is chosen."""
    steps = pictured(said, chosen(said, 60), manifest, DecodePolicy(), 2, cache, Clock(seconds))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            cards: dict[int, Any] = end.value
            return cards


def test_each_shown_picture_is_small_and_says_what_was_said_of_it(
    split: tuple[Answered, Manifest], tmp_path: Path
) -> None:
    said, manifest = split
    cards = shown_of(said, manifest, tmp_path / "cache")
    assert set(cards) == all_of(said)
    for row, card in cards.items():
        assert card.path == f"{row:02d}.png"
        assert card.label == "ab"[row % 2]
        assert card.answer == said.answers[row]
        assert 0 < len(card.jpeg) < 20_000
    shares = answer_shares(said, cards)
    assert sum(share.n for share in shares) == 60
    assert all(len(share.examples) == min(share.n, MOST_OF_AN_ANSWER) for share in shares)


def test_thumbnails_are_made_once_and_a_missing_picture_is_left_out(
    split: tuple[Answered, Manifest], tmp_path: Path
) -> None:
    said, manifest = split
    gone = chosen(said, 60).examples[0]
    said.found.pictures.files[gone].unlink()
    first = shown_of(said, manifest, tmp_path / "cache")
    assert set(first) == all_of(said) - {gone}
    for file in said.found.pictures.files:
        file.unlink(missing_ok=True)
    again = shown_of(said, manifest, tmp_path / "cache")
    assert {row: card.jpeg for row, card in again.items()} == {row: card.jpeg for row, card in first.items()}


def test_where_the_budget_is_spent_cards_stay_without_their_picture(
    split: tuple[Answered, Manifest], tmp_path: Path
) -> None:
    said, manifest = split
    cards = shown_of(said, manifest, tmp_path / "cache", seconds=0.0)
    assert set(cards) == all_of(said)
    assert sum(bool(card.jpeg) for card in cards.values()) <= 2
