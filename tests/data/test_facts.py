"""What is known of each picture is true, and is worked out once."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart.data import Manifest, facts, identity, scan
from tellapart.events import Progress
from tellapart.images.guard import Answer, Guard
from tellapart.recipe import Recipe

from .conftest import Scan, codes, noise, write_classes, write_picture


def counted_decodes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return a list that gets every picture that is handed to decoders from now on."""
    decoded: list[bytes] = []
    real = Guard.run

    def counted(self: Guard, function: str, pictures: Sequence[bytes], *rest: Any) -> list[Answer]:
        decoded.extend(pictures)
        return real(self, function, pictures, *rest)

    monkeypatch.setattr(Guard, "run", counted)
    return decoded


def test_size_is_upright_and_the_digest_is_of_the_file_s_bytes(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise(70, 40, 20)).save(root / "cat/turned.jpg", exif=exif)
    rows = {row.path: row for row in scan_of(root).rows}
    assert (rows["cat/turned.jpg"].width, rows["cat/turned.jpg"].height) == (20, 40)
    for path, row in rows.items():
        assert row.sha256 == hashlib.sha256((root / path).read_bytes()).hexdigest()


def test_a_second_scan_decodes_nothing(tmp_path: Path, scan_of: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_classes(tmp_path / "set", {"cat": 5, "dog": 5})
    (root / "cat/broken.jpg").write_bytes((root / "cat/000.png").read_bytes()[:-60])
    large = Image.effect_noise((1300, 900), 80)
    large.save(root / "dog/large.jpg")
    large.save(root / "dog/other.jpg", comment="a copy that is decoded in full to be compared")
    first = scan_of(root)

    decoded = counted_decodes(monkeypatch)
    os.rename(root / "cat/001.png", root / "cat/renamed.png")
    second = scan_of(root)
    assert second.fingerprint == first.fingerprint
    assert second.facts == first.facts
    assert codes(second) == codes(first) == {"cat/broken.jpg": "truncated"}
    assert sorted(row.group for row in second.rows) == sorted(row.group for row in first.rows)
    assert len({row.group for row in first.rows}) == 11
    assert decoded == []
    scan_of(root, min_side=9)  # what is refused may differ, so it is worked out anew
    assert len(decoded) == 12 + 1 + 2


def test_a_changed_file_is_read_anew(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    scan_of(root)
    stamp = (root / "cat/000.png").stat()
    write_picture(root / "cat/000.png", 999, width=30, height=21)
    os.utime(root / "cat/000.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert next(row for row in scan_of(root).rows if row.path == "cat/000.png").width == 30


def test_a_damaged_record_is_worked_out_anew(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    first = scan_of(root)
    (store,) = (tmp_path / ".cache-of-test/facts").glob("*.sqlite")
    with sqlite3.connect(store) as db:
        db.execute("UPDATE entries SET value = substr(value, 1, 7)")
    db.close()
    assert scan_of(root) == first


def test_what_was_worked_out_before_an_interruption_is_kept(
    tmp_path: Path, scan_of: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_classes(tmp_path / "set", {"cat": 40, "dog": 40})
    steps = scan(root, Recipe.of(threads=1), tmp_path / ".cache-of-test")
    done = next(event.done for event in steps if isinstance(event, Progress) and event.unit == "pictures")
    with pytest.raises(KeyboardInterrupt):
        steps.throw(KeyboardInterrupt())
    decoded = counted_decodes(monkeypatch)
    scan_of(root)
    assert len(set(decoded)) == len(decoded) == 80 - done
    assert done > 0


def test_the_same_pixels_in_other_bytes_are_one_group(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 6, "dog": 6})
    write_picture(root / "cat/photo.jpg", 50, 40, 30)
    with Image.open(root / "cat/photo.jpg") as opened:
        opened.save(root / "cat/resaved.png")
        opened.save(root / "cat/resaved.bmp")
    content = (root / "cat/photo.jpg").read_bytes()
    (root / "cat/comment.jpg").write_bytes(content[:2] + b"\xff\xfe\x00\x07hello" + content[2:])
    (root / "cat/copy.jpg").write_bytes(content)
    manifest = scan_of(root)
    same = [row for row in manifest.rows if not row.path[4].isdigit()]
    assert len(same) == 5
    assert {row.group for row in same} == {min(row.sha256 for row in same)}
    assert len({row.split for row in same}) == 1
    assert len({row.group for row in manifest.rows}) == 13


def test_large_pictures_with_the_same_pixels_are_found_and_near_ones_are_not(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    rough = Image.fromarray(noise(1, 40, 30)).resize((1403, 1001), Image.Resampling.BICUBIC)
    rough.save(root / "cat/photo.jpg", quality=90)
    with Image.open(root / "cat/photo.jpg") as opened:
        opened.save(root / "cat/resaved.png", compress_level=1)
        pixels = np.array(opened)
    pixels[500, 700] ^= 255
    Image.fromarray(pixels).save(root / "cat/one_pixel.png", compress_level=1)
    rough.save(root / "dog/other_quality.jpg", quality=91)
    manifest = scan_of(root, near_duplicates="off")
    groups = {row.path: row.group for row in manifest.rows}
    assert groups["cat/photo.jpg"] == groups["cat/resaved.png"]
    assert len(set(groups.values())) == len(groups) - 1
    assert codes(manifest) == {}


def test_look_alikes_are_those_that_a_comparison_of_all_pairs_finds() -> None:
    random = np.random.default_rng(3)
    signatures = [random.integers(9, 240, 192).astype(np.int64) for _ in range(40)]
    signatures += [np.clip(signatures[n] + random.integers(-6, 7, 192), 0, 255) for n in range(0, 40, 2)]
    signatures += [signatures[n] + 4 for n in range(1, 40, 4)]  # every value at the tolerance
    signatures += [signatures[n] + 5 * (np.arange(192) == 7) for n in range(3, 40, 4)]  # one value above it
    signatures += [signatures[7], signatures[7]]
    known = [
        facts.PictureFacts(f"{n:064x}", 2000, 1000, False, None, None, s.astype(np.uint8).tobytes(), b"")
        for n, s in enumerate(signatures)
    ]
    difference = np.abs(np.array(signatures)[:, None] - np.array(signatures)[None]).max(axis=2)
    np.fill_diagonal(difference, 999)
    assert identity.look_alikes(known) == list(np.flatnonzero((difference <= 4).any(axis=1)))


def test_the_same_picture_in_two_classes_is_left_out_in_every_copy(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 4, "dog": 4})
    for path in ("cat/a.bmp", "cat/b.png", "dog/c.png"):
        write_picture(root / path, 500)
    manifest = scan_of(root)
    assert codes(manifest) == dict.fromkeys(("cat/a.bmp", "cat/b.png", "dog/c.png"), "identical_in_two_classes")
    assert all("cat, dog" in item.note for item in manifest.excluded)
    assert any("3 file(s) were left out, every copy" in note for note in manifest.notes)


def test_a_picture_in_train_and_test_is_kept_as_given_and_told(tmp_path: Path, scan_of: Scan) -> None:
    write_classes(tmp_path / "set/train", {"cat": 8, "dog": 8})
    write_classes(tmp_path / "set/test", {"cat": 3, "dog": 3}, first=50)
    write_picture(tmp_path / "set/test/cat/again.bmp", 0)
    manifest = scan_of(tmp_path / "set")
    split = {row.path: row.split for row in manifest.rows}
    assert split["test/cat/again.bmp"] == "test"
    assert split["train/cat/000.png"] in ("train", "val")
    assert any("1 picture(s) of the test split are in train or val too" in note for note in manifest.notes)


@pytest.mark.parametrize(("peaks", "scale"), [((4095, 900), 4095), ((4096, 900), 65535), ((65535,), 65535)])
def test_white_of_16_bit_pictures_is_one_level_for_all(
    tmp_path: Path, scan_of: Scan, peaks: tuple[int, ...], scale: int
) -> None:
    root = write_classes(tmp_path / "set", {"cat": 4, "dog": 4})
    for number, peak in enumerate(peaks):
        levels = np.random.default_rng(number).integers(0, 800, (20, 20)).astype(np.uint16)
        levels[3, 3] = peak
        Image.fromarray(levels).save(root / f"cat/deep{number}.png")
    assert scan_of(root).facts["sixteen_bit_scale"] == scale


def test_16_bit_pictures_that_8_bits_cannot_tell_apart_are_not_one_picture(tmp_path: Path, scan_of: Scan) -> None:
    root = write_classes(tmp_path / "set", {"cat": 4, "dog": 4})
    for label, seed in (("cat", 1), ("dog", 2)):
        levels = np.random.default_rng(seed).integers(0, 100, (20, 20)).astype(np.uint16)  # black, all of it, in 8 bits
        Image.fromarray(levels).save(root / label / "dark.png")
    manifest = scan_of(root)
    assert manifest.counts["used"] == 10
    assert len({row.group for row in manifest.rows}) == 10


def test_grey_is_told_by_pixels_and_not_by_format(tmp_path: Path, scan_of: Scan) -> None:
    root = tmp_path / "set"
    for number in range(8):
        grey = Image.fromarray(noise(number)).convert("L")
        path = root / ("a" if number % 2 else "b") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (grey if number < 4 else grey.convert("RGB")).save(path)
    assert scan_of(root, val=0.0, test=0.0).facts["all_grey"] is True
    pixels = np.array(Image.open(root / "a/1.png").convert("RGB"))
    pixels[5, 5, 2] ^= 1
    Image.fromarray(pixels).save(root / "a/1.png")
    assert scan_of(root, val=0.0, test=0.0).facts["all_grey"] is False


def test_a_file_that_may_not_be_read_is_left_out(
    tmp_path: Path, scan_of: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A superuser may read everything, so the refusal is the system call's.
    root = write_classes(tmp_path / "set", {"cat": 3, "dog": 3})
    real = open

    def guarded(path: object, *args: object, **kwargs: object) -> object:
        if str(path).endswith("cat/001.png"):
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(builtins, "open", guarded)
    assert codes(scan_of(root)) == {"cat/001.png": "permission"}
    monkeypatch.undo()
    assert codes(scan_of(root)) == {}


def test_a_large_file_that_is_no_picture_is_not_read_through(tmp_path: Path) -> None:
    with open(tmp_path / "video.jpg", "wb") as file:
        file.truncate(5 << 30)
    content = facts.read_file(str(tmp_path / "video.jpg"))
    assert isinstance(content, bytes)
    assert len(content) <= 65536


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "set", {"cat": 30, "dog": 30})
    written = []
    for threads in (1, 3):
        Manifest.scan(root, Recipe.of(threads=threads), tmp_path / f"cache{threads}").write(tmp_path / "m.jsonl")
        written.append((tmp_path / "m.jsonl").read_bytes())
    assert written[0] == written[1]
    assert json.loads(written[0].splitlines()[0])["classes"] == ["cat", "dog"]
