"""How pictures become square follows from the shapes of those that are trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.data import Manifest, Split, resize_policy
from tellapart.data.facts import PictureFacts
from tellapart.data.policy import set_facts

from .conftest import Scan, write_classes, write_picture

TRAIN: tuple[Split, ...] = ("train",)
TEST: tuple[Split, ...] = ("test",)


def fact(width: int, height: int, grey: bool = False) -> PictureFacts:
    return PictureFacts("0" * 64, width, height, grey, None, b"", None, b"")


@pytest.mark.parametrize(
    ("sizes", "policy"),
    [
        ([(100, 100)] * 20, "crop"),
        ([(100, 112)] * 20, "crop"),
        ([(500, 375)] * 20, "crop"),
        ([(375, 500), (500, 375)] * 10, "crop"),
        ([(2000, 1000)] * 20, "squash"),
        ([(100, 100)] * 10 + [(300, 100)] * 10, "pad"),
        ([(100, 100)] * 99 + [(900, 100)], "crop"),
    ],
)
def test_the_shapes_that_most_pictures_have_decide(sizes: list[tuple[int, int]], policy: str) -> None:
    facts = set_facts([fact(*size) for size in sizes], TRAIN * len(sizes))
    chosen, why = resize_policy(Manifest(Path(), (), (), facts=facts))
    assert chosen == policy
    assert any(letter.isdigit() for letter in why)


def test_pictures_of_the_test_split_decide_nothing() -> None:
    facts = [fact(100, 100, grey=True)] * 10 + [fact(900, 100)] * 10
    known = set_facts(facts, [*TRAIN * 10, *TEST * 10])
    assert known["aspects"] == [1.0, 1.0]
    assert known["shorter_side"] == [100, 100]
    assert known["all_grey"] is True


def test_facts_come_from_the_pictures_and_survive_the_manifest_file(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 10, "dog": 10})
    for number in range(10):
        write_picture(root / f"cat/wide{number}.png", 100 + number, width=64, height=32)
    manifest = scan_of(root, val=0.0, test=0.0)
    assert manifest.facts["aspects"] == [1.3333, 2.0]
    assert manifest.facts["shorter_side"] == [12, 12]
    manifest.write(tmp_path / "m.jsonl")
    assert resize_policy(Manifest.read(tmp_path / "m.jsonl")) == resize_policy(manifest)
