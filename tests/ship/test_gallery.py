"""What is kept of the pictures: thumbnails, brightness, self-tests; and what stands in when none may be kept."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.errors import DataError
from tellapart.images import Preprocess, decode, prepare
from tellapart.ship import class_means, gallery, selftest_pictures, synthetic_pictures


def test_thumbnails_show_the_whole_picture(tmp_path: Path) -> None:
    wide = np.zeros((40, 160, 3), np.uint8)
    wide[:, :80] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    made = gallery([tmp_path / "wide.png"], ["ab"], Preprocess(image_size=32, resize_policy="crop"), threads=1)
    (jpeg,) = made.thumbnails
    pixels = decode(jpeg)
    assert pixels.shape == (16, 64, 3)
    assert np.abs(pixels[:, :28].astype(int) - 200).max() < 12
    assert pixels[:, 36:].max() < 12


def test_thumbnails_that_are_cached_need_no_picture(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "a.png")
    asked = ([tmp_path / "a.png"], ["ab"], Preprocess(image_size=32), 1, tmp_path / "cache")
    made = gallery(*asked)
    (tmp_path / "a.png").unlink()
    assert gallery(*asked).thumbnails == made.thumbnails
    assert gallery(*asked).brightness == made.brightness


def test_brightness_is_that_of_the_prepared_squares(photos: Path) -> None:
    files, preprocess = sorted(photos.rglob("*.png")), Preprocess(image_size=64)
    made = gallery(files, [file.name for file in files], preprocess, threads=2)
    levels = np.array([prepare(file, preprocess).mean() for file in files])
    assert made.brightness == pytest.approx((levels.mean(), levels.std()))


def test_self_test_pictures_are_at_most_eight_prepared_ones_from_end_to_end(photos: Path) -> None:
    files, preprocess = sorted(photos.rglob("*.png")), Preprocess(image_size=16)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    pictures = selftest_pictures(files, digests, preprocess)
    assert pictures.shape == (8, 16, 16, 3)
    np.testing.assert_array_equal(pictures[0], prepare(files[0], preprocess))
    np.testing.assert_array_equal(pictures[-1], prepare(files[-1], preprocess))
    assert len(selftest_pictures(files[:3], digests[:3], preprocess)) == 3


@pytest.mark.parametrize("gone", [True, False])
def test_a_picture_that_changed_since_the_scan_is_told_and_no_bundle_blamed(
    photos: Path, tmp_path: Path, gone: bool
) -> None:
    files = [Path(shutil.copy(file, tmp_path / f"{number}.png")) for number, file in enumerate(photos.rglob("*.png"))]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    if gone:
        files[0].unlink()
    else:
        shutil.copy(files[-1], files[0])
    with pytest.raises(DataError, match=r"1 file changed or went after the scan: .*0\.png") as caught:
        selftest_pictures(files, digests, Preprocess(image_size=16))
    assert caught.value.code == "changed_file"


def test_made_up_pictures_differ_and_fill_the_range() -> None:
    pictures = synthetic_pictures(32)
    assert pictures.shape == (8, 32, 32, 3)
    assert len({picture.tobytes() for picture in pictures}) == 8
    assert pictures.min() <= 5
    assert pictures.max() == 255


def test_class_means_never_stand_for_fewer_than_five_pictures() -> None:
    random = np.random.default_rng(0)
    embeddings = random.normal(0, 1, (20, 4)).astype(np.float32)
    targets = np.array([0] * 9 + [1] * 4 + [2] * 7)
    means, labels = class_means(embeddings, targets, 3)
    assert labels.tolist() == [0, 2]
    np.testing.assert_allclose(means[1], embeddings[13:].mean(axis=0), rtol=1e-5)
    means, labels = class_means(embeddings[:4], np.array([0, 1, 2, 2]), 3)
    assert (labels.tolist(), means.shape) == ([0], (1, 4))


def test_of_very_many_classes_the_largest_have_a_mean() -> None:
    targets = np.concatenate([np.repeat(np.arange(2100), 5), np.full(5, 2099)])
    means, labels = class_means(np.ones((len(targets), 2), np.float32), targets, 2100)
    assert len(means) == len(labels) == 2000
    assert 2099 in labels
