"""Pictures made ready ahead of time are the pictures that would have been made ready in their turn."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
from pathlib import Path

import numpy as np
from PIL import Image

from tellapart.images import Preprocess, prepare
from tellapart.learn import ahead
from tellapart.learn.ahead import Ahead

PREPROCESS = Preprocess(image_size=24, resize_policy="crop")


def pictures(folder: Path, count: int) -> tuple[list[Path], list[str]]:
    levels = np.random.default_rng(0).integers(0, 256, (count, 40, 50, 3)).astype(np.uint8)
    files = [folder / f"{number:02d}.png" for number in range(count)]
    for file, pixels in zip(files, levels, strict=True):
        Image.fromarray(pixels).save(file)
    return files, [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def finished(files: list[Path], digests: list[str]) -> Ahead:
    made = Ahead(PREPROCESS, files, digests, 2)
    made._worker.join()
    return made


def test_squares_are_those_of_prepare(tmp_path):
    files, digests = pictures(tmp_path, 9)
    with finished(files, digests) as made:
        assert set(made.squares) == set(digests)
        for file, digest in zip(files, digests, strict=True):
            np.testing.assert_array_equal(made.squares[digest], prepare(file, PREPROCESS))


def test_a_file_that_changed_or_broke_is_left_to_its_turn(tmp_path):
    files, digests = pictures(tmp_path, 4)
    files[1].write_bytes(files[0].read_bytes())
    files[2].write_bytes(b"\xff\xd8\xff no picture")
    digests[2] = hashlib.sha256(files[2].read_bytes()).hexdigest()
    assert set(finished(files, digests).squares) == {digests[0], digests[3]}


def test_memory_is_bounded(tmp_path, monkeypatch):
    files, digests = pictures(tmp_path, 8)
    monkeypatch.setattr(ahead, "_MOST_BYTES", 3 * 3 * 24 * 24 + 5)
    assert len(finished(files, digests).squares) == 3


def test_what_comes_afterwards_is_done_until_it_fails_or_is_stopped(tmp_path):
    files, digests = pictures(tmp_path, 3)
    done = []

    def steps():
        for number in range(3):
            done.append(number)
            yield None
        raise sqlite3.DatabaseError("the cache is damaged")

    made = Ahead(PREPROCESS, files, digests, 1, steps())
    made._worker.join()
    made.stop()
    assert done == [0, 1, 2]
    assert len(made.squares) == 3

    endless = Ahead(PREPROCESS, files, digests, 1, itertools.repeat(None))
    endless.stop()
    assert not endless._worker.is_alive()
