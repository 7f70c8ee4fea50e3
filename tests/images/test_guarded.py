"""Ordinary pictures are decoded here; costly ones, and those that failed, within limits, to the same bits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tellapart.errors import PictureError
from tellapart.images import DecodePolicy, Preprocess, decode, decode_guarded, guard, guarded, prepare, prepare_guarded
from tellapart.images.guard import Answer, Guard

PREPROCESS = Preprocess(image_size=32, resize_policy="crop", at_least_px=64)


def saved(pixels: NDArray[np.uint8], format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def many_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG whose last scan comes so many times: a few bytes each, all pixels' work for a decoder."""
    once = saved(np.full((side, side), 128, np.uint8), "JPEG", progressive=True)
    last = once.rindex(b"\xff\xda")
    return once[:last] + once[last:-2] * scans + b"\xff\xd9"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Get the number of bytes of every picture that goes to a guard."""
    seen: list[int] = []
    real = Guard.run

    def counted(self: Guard, function: str, pictures: Sequence[bytes], *rest: Any) -> list[Answer]:
        seen.extend(map(len, pictures))
        return real(self, function, pictures, *rest)

    monkeypatch.setattr(Guard, "run", counted)
    return seen


def test_costly_pictures_come_out_of_a_child_with_the_same_bits(
    photo: NDArray[np.uint8], asked: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(guarded, "_COSTLY_PIXELS", photo.shape[0] * photo.shape[1])
    larger = np.vstack([photo, photo[:1]])
    costly = [
        saved(photo, "TIFF"),
        saved(photo, "TIFF", compression="jpeg"),
        saved(larger, "JPEG"),
        saved(larger, "PNG"),
        many_scans(1000, 400),
    ]
    for data in costly:
        path = tmp_path / "picture"
        path.write_bytes(data)
        for source in (data, path):
            np.testing.assert_array_equal(prepare_guarded(source, PREPROCESS), prepare(data, PREPROCESS))
            np.testing.assert_array_equal(decode_guarded(source, 64, DecodePolicy()), decode(data, 64))
    assert asked == [len(data) for data in costly for _ in range(4)]


def test_ordinary_pictures_start_no_process(photo: NDArray[np.uint8], asked: list[int]) -> None:
    for format, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {})):
        data = saved(photo, format, **options)
        np.testing.assert_array_equal(prepare_guarded(data, PREPROCESS), prepare(data, PREPROCESS))
    for data in (b"", b"<html>", saved(photo[:4, :4], "PNG")):
        with pytest.raises(PictureError):
            prepare_guarded(data, PREPROCESS)
    assert asked == []


def test_what_failed_is_tried_once_more(
    photo: NDArray[np.uint8], asked: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(photo, "JPEG"))
    expected = prepare(path, PREPROCESS)

    def exhausted(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.Image.core.new", exhausted)
    np.testing.assert_array_equal(prepare_guarded(path, PREPROCESS), expected)
    assert len(asked) == 1
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PictureError, match=r"^photo\.jpg ") as caught:
        prepare_guarded(path, PREPROCESS)
    assert caught.value.code == "truncated"
    assert len(asked) == 2


def test_a_picture_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(guard, "PICTURE_SECONDS", 0.5)
    path = tmp_path / "slow.jpg"
    path.write_bytes(many_scans(3000, 5000))
    assert path.stat().st_size < 300_000
    with pytest.raises(PictureError, match=r"^slow\.jpg ") as caught:
        prepare_guarded(path, Preprocess(image_size=32))
    assert caught.value.code == "decode_timeout"


def test_what_a_library_prints_is_told_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(
        saved(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8), "TIFF", compression="jpeg")
    )
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    with pytest.raises(PictureError):
        prepare_guarded(bytes(data), PREPROCESS)
    lzw = bytearray(saved(np.zeros((64, 64, 3), np.uint8), "TIFF", compression="tiff_lzw"))
    lzw[8:100] = bytes(92)
    with pytest.raises(PictureError, match="The decoder said: "):
        prepare_guarded(bytes(lzw), PREPROCESS)
    assert capfd.readouterr() == ("", "")


def test_pictures_prepared_in_another_process_have_the_same_bits_and_are_refused_alike(
    photo: NDArray[np.uint8], asked: list[int], tmp_path: Path
) -> None:
    contents = [saved(photo, "JPEG"), saved(photo[::2], "PNG"), saved(photo[:, ::3], "WEBP"), saved(photo[:90], "BMP")]
    files = []
    for number, content in enumerate(contents):
        files.append(tmp_path / f"{number}")
        files[-1].write_bytes(content)
    found = guarded.prepare_apart(files, PREPROCESS, Guard())
    assert asked == [len(content) for content in contents]
    for pixels, file in zip(found, files, strict=True):
        np.testing.assert_array_equal(pixels, prepare_guarded(file, PREPROCESS))
    broken, gone = tmp_path / "broken.jpg", tmp_path / "gone.jpg"
    broken.write_bytes(contents[0][: len(contents[0]) // 2])
    for bad in (broken, gone):
        with pytest.raises(PictureError) as here:
            prepare_guarded(bad, PREPROCESS)
        with pytest.raises(PictureError) as apart:
            guarded.prepare_apart([files[0], bad], PREPROCESS, Guard())
        assert (apart.value.code, str(apart.value)) == (here.value.code, str(here.value))
