"""What a user has is never changed: bytes, times, names and modes are the same after every verb, however it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tellapart
from tellapart.cli import main, verbs
from tellapart.events import Event, Progress
from tellapart.interrupts import Signalled

from .conftest import Mount, state
from .trees import picture

VERBS: dict[str, list[str]] = {
    "train": ["train", "{data}", "--method", "majority", "--budget", "9h", "--out", "{out}/run"],
    "train --resume": ["train", "{data}", "--method", "majority", "--budget", "9h", "--out", "{out}/run", "--resume"],
    "train archive": ["train", "{archive}", "--method", "majority", "--budget", "9h", "--out", "{out}/run"],
    "check": ["check", "{data}", "--budget", "9h", "--out", "{out}/check"],
    "evaluate": ["evaluate", "{bundle}", "{data}"],
    "predict": ["predict", "{bundle}", "{data}", "--csv", "{out}/a.csv", "--sort-into", "{out}/sorted"],
    "predict archive": ["predict", "{bundle}", "{archive}"],
    "suggest": ["suggest", "{bundle}", "{data}", "--out", "{out}/a.csv"],
    "suggest archive": ["suggest", "{bundle}", "{archive}", "--out", "{out}/a.csv"],
    "add-class": ["add-class", "{bundle}", "wasps", "{data}", "--out", "{out}/new"],
    "export": ["export", "{bundle}", "--precision", "fp32", "--data", "{data}", "--out", "{out}/small"],
    "bench": ["bench", "{spare}", "--pictures", "{data}"],
    "explain": ["explain", "{bundle}", "{data}/ants/00.png", "--out", "{out}/why"],
    "tune": ["tune", "{data}", "--method", "majority", "--trials", "1", "--budget", "9h", "--out", "{out}/tune"],
    "demo": ["demo", "--method", "majority", "--budget", "9h", "--out", "{out}/demo"],
    "train in the data": ["train", "{data}", "--budget", "9h", "--out", "{data}/run"],
    "train on a part": ["train", "{data}/photos/ants", "--budget", "9h", "--out", "{out}/run"],
    "evaluate on others": ["evaluate", "{bundle}", "{data}/strange"],
    "predict into the data": ["predict", "{bundle}", "{data}", "--sort-into", "{data}/photos"],
    "predict over a picture": ["predict", "{bundle}", "{data}", "--csv", "{data}/photos/ants/00.png"],
}
FAIL = {"train in the data", "train on a part", "evaluate on others", "predict into the data", "predict over a picture"}


@pytest.fixture
def place(photos: Path, tiny_bundle: Path, tmp_path: Path) -> dict[str, Path]:
    """Data with good and bad files, an archive, a bundle; a folder for what is made."""
    kept = tmp_path / "kept"
    shutil.copytree(photos, kept / "data/photos")
    shutil.copytree(tiny_bundle, kept / "bundle")
    (kept / "data/photos/ants/bad.png").write_bytes(b"words")
    picture(kept / "data/photos/ants" / os.fsdecode(b"\xff odd\n.png"), 5)
    picture(kept / "data/strange/wasps/1.png", 6)
    (kept / "data/photos/bees/link.png").symlink_to("00.png")
    shutil.make_archive(str(kept / "archive"), "zip", photos.parent)
    (tmp_path / "out").mkdir()
    shutil.copytree(tiny_bundle, tmp_path / "spare/bundle")  # `bench` keeps beside it what it found fastest
    return {
        "kept": kept,
        "data": kept / "data",
        "archive": kept / "archive.zip",
        "bundle": kept / "bundle",
        "spare": tmp_path / "spare/bundle",
        "out": tmp_path / "out",
    }


def test_every_verb_is_asked() -> None:
    assert {arguments[0] for arguments in VERBS.values()} == set(verbs.VERBS)


def asked(verb: str, place: dict[str, Path]) -> list[str]:
    if verb == "tune":
        pytest.importorskip("optuna")
    data = (
        place["data"]
        if verb in FAIL or verb.startswith(("predict", "suggest", "add-class"))
        else place["data"] / "photos"
    )
    return [part.format(**{**place, "data": data}) for part in VERBS[verb]]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_leaves_what_it_reads_as_it_was(
    verb: str, place: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(place["kept"])
    code = main(asked(verb, place))
    assert (code == 2) == (verb in FAIL), capsys.readouterr().err
    assert state(place["kept"]) == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_reads_what_cannot_be_written(
    verb: str, place: dict[str, Path], mounted: Mount, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(place["kept"])
    mounted("--bind", place["kept"], place["kept"])
    mounted("-o", "remount,ro,bind", place["kept"])
    code = main(asked(verb, place))
    assert (code == 2) == (verb in FAIL), capsys.readouterr().err
    assert state(place["kept"]) == before


@pytest.mark.parametrize("at", [1, 2, 5, 9, 14])
def test_an_interrupt_leaves_the_pictures_as_they_were(at: int, place: dict[str, Path]) -> None:
    before = state(place["kept"])
    calls = 0

    def stop(event: Event) -> None:
        nonlocal calls
        calls += isinstance(event, Progress)
        if calls == at:
            raise Signalled(2)

    ways: list[Callable[[], object]] = [
        lambda: tellapart.train(place["data"] / "photos", out=place["out"] / "run", method="majority", watch=stop),
        lambda: tellapart.evaluate(place["bundle"], place["archive"], watch=stop),
    ]
    for way in ways:
        calls = 0
        try:
            way()
        except KeyboardInterrupt:
            assert calls == at
        assert state(place["kept"]) == before
        assert not [name for name in state(place["out"]) if name.endswith((".tmp", "/lock"))]
