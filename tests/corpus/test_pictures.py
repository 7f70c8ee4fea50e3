"""Any picture: used as it should be, with what is odd about it on record, or left out with its code."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart
from tellapart.data import Manifest
from tellapart.data.policy import decode_policy
from tellapart.errors import PictureError
from tellapart.images import decode_guarded, guard
from tellapart.images.guard import Answer, Guard
from tellapart.recipe import Recipe

from .pictures import CASES, Case, photo, placed, saved

EACH = 3


def a_set(root: Path, case: Case) -> Path:
    """Write two classes of ordinary pictures, and the case's among those of the first; return its file."""
    for number in range(2 * EACH):
        path = root / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(seed=number + 1).save(path)
    path = root / "cat" / f"odd{case.suffix}"
    path.write_bytes(case.build())
    return path


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PICTURE_SECONDS", 1.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = a_set(tmp_path / "set", case)
    before = path.read_bytes()
    recipe = Recipe.of(threads=1, near_duplicates="off", **case.options)
    manifest = Manifest.scan(tmp_path / "set", recipe, tmp_path / "cache")
    told = f"cat/odd{case.suffix}"
    assert manifest.found == 2 * EACH + 1
    rows = {row.path: row for row in manifest.rows}
    policy = decode_policy(recipe)
    if case.left is not None:
        assert {item.path: item.code for item in manifest.excluded} == {told: case.left}
        assert case.words in manifest.excluded[0].note
        for source in (path, before):
            with pytest.raises(PictureError) as caught:
                decode_guarded(source, None, policy)
            assert caught.value.code == case.left
            assert caught.value.next
    else:
        assert manifest.excluded == ()
        notes = [
            note if ":" in expected else note.partition(":")[0] for note, expected in _pairs(rows[told].notes, case)
        ]
        assert tuple(notes) == case.notes
        for code in case.notes:
            assert sum(f"[{code.partition(':')[0]}]" in note for note in manifest.notes) == 1, "told once"
        pixels = decode_guarded(path, None, policy)
        assert pixels.shape == (rows[told].height, rows[told].width, 3)
        if case.colour is not None:
            assert np.abs(pixels[0, 0].astype(int) - case.colour).max() <= case.within, pixels[0, 0]
        if case.twin is not None:
            np.testing.assert_array_equal(pixels, decode_guarded(case.twin(), None, policy))
    assert all(row.notes == () for row in rows.values() if row.path != told)
    assert path.read_bytes() == before
    Manifest.scan(tmp_path / "set", recipe, tmp_path / "cache").write(tmp_path / "again.jsonl")
    again = Manifest.read(tmp_path / "again.jsonl")
    assert (again.rows, again.excluded) == (manifest.rows, manifest.excluded)
    assert capfd.readouterr() == ("", "")


def _pairs(notes: Sequence[str], case: Case) -> list[tuple[str, str]]:
    return [(note, case.notes[at] if at < len(case.notes) else "") for at, note in enumerate(notes)]


def test_case_06_bits_that_flip_after_the_scan_are_seen(tmp_path: Path) -> None:
    (case,) = [case for case in CASES if case.number == 41]
    path = a_set(tmp_path / "set", case)
    first = Manifest.scan(tmp_path / "set", cache=tmp_path / "cache")
    path.write_bytes(saved(photo()))
    second = Manifest.scan(tmp_path / "set", cache=tmp_path / "cache")
    assert first.fingerprint != second.fingerprint


def test_case_25_no_place_goes_into_a_run(tmp_path: Path) -> None:
    for number in range(12):
        path = tmp_path / "set" / ("cat", "dog")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(photo(seed=number + 1), exif=placed()))
    tellapart.train(tmp_path / "set", out=tmp_path / "run", method="majority", budget="60s")
    shown = 0
    for file in (tmp_path / "run").rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        inside = [
            base64.b64decode(found) for found in re.findall(rb"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", content)
        ]
        assert not any(b"Exif" in part for part in (content, *inside)), file
        shown += len(inside)
    assert shown, "the report does show pictures"


def test_case_35_a_picture_within_limits_that_decodes_too_slowly_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "PICTURE_SECONDS", 0.1)
    case = Case(35, "slow", lambda: saved(photo().resize((7000, 7000)), "PNG", compress_level=1), suffix=".png")
    a_set(tmp_path / "set", case)
    manifest = Manifest.scan(tmp_path / "set", Recipe.of(threads=1), tmp_path / "cache")
    assert [(item.path, item.code) for item in manifest.excluded] == [("cat/odd.png", "decode_timeout")]


def test_case_38_a_crash_costs_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fragile.py").write_text(
        "import ctypes, os\nfrom tellapart.images.examine import examined\n"
        "def fragile(content, policy):\n"
        "    if content.startswith(b'GIF'):\n"
        "        os.write(2, b'free(): invalid pointer')\n"
        "        ctypes.string_at(0)\n"
        "    return examined(content, policy)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    real = Guard.run

    def fragile(self: Guard, function: str, *rest: Any) -> list[Answer]:
        return real(self, "fragile:fragile", *rest)

    monkeypatch.setattr(Guard, "run", fragile)
    guard._end_idle()
    (case,) = [case for case in CASES if case.name == "animated gif"]
    a_set(tmp_path / "set", case)
    manifest = Manifest.scan(tmp_path / "set", Recipe.of(threads=2), tmp_path / "cache")
    guard._end_idle()
    (left,) = manifest.excluded
    assert (left.path, left.code) == ("cat/odd.gif", "decoder_crash")
    assert "Segmentation fault" in left.note
    assert "free(): invalid pointer" in left.note
    monkeypatch.undo()
    assert Manifest.scan(tmp_path / "set", Recipe(), tmp_path / "cache").excluded == (), "a crash is not remembered"


def test_case_39_a_picture_that_wants_more_memory_than_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_LEAST_MEMORY", 64 << 20)
    monkeypatch.setattr(guard, "_BYTES_A_PIXEL", 0)
    case = Case(39, "large", lambda: saved(photo().resize((6000, 6000)), "PNG", compress_level=1), suffix=".png")
    a_set(tmp_path / "set", case)
    manifest = Manifest.scan(tmp_path / "set", Recipe.of(threads=1), tmp_path / "cache")
    assert [(item.path, item.code) for item in manifest.excluded] == [("cat/odd.png", "decode_oom")]
