from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from tellapart.images import Preprocess
from tellapart.judge import softmax
from tellapart.learn.folds import make_folds
from tellapart.learn.majority import colour_trunk, majority
from tellapart.learn.rungs import Pictures
from tellapart.recipe import Recipe
from tellapart.runtime.session import Session

Run = Callable[..., Any]


def uneven(pictures: Pictures) -> Pictures:
    return pictures.take(np.concatenate([np.arange(24), np.arange(24, 32)]))


def test_every_picture_gets_the_shares_of_the_classes(run: Run, photo_pictures: Pictures) -> None:
    train = uneven(photo_pictures)
    fitted = run(majority(train, photo_pictures, 2, Preprocess(image_size=224), Recipe()))
    probs = softmax(fitted.head.logits(fitted.embeddings["val"]))
    np.testing.assert_allclose(probs, np.tile([25 / 34, 9 / 34], (48, 1)), rtol=1e-5)


def test_out_of_fold_a_picture_does_not_count_its_own_fold(run: Run, photo_pictures: Pictures) -> None:
    train = uneven(photo_pictures)
    fitted = run(majority(train, photo_pictures, 2, Preprocess(image_size=224), Recipe(), look=False))
    folds = make_folds(train.targets, train.groups)
    for position, row in enumerate(fitted.out_of_fold.rows):
        others = np.bincount(train.targets[folds != folds[row]], minlength=2) + 1
        np.testing.assert_allclose(softmax(fitted.out_of_fold.logits[position]), others / others.sum(), rtol=1e-5)


def test_a_class_that_is_not_in_train_is_unlikely_and_possible(run: Run, photo_pictures: Pictures) -> None:
    fitted = run(majority(photo_pictures, photo_pictures, 3, Preprocess(image_size=224), Recipe(), look=False))
    assert 0 < softmax(fitted.head.bias)[2] < 0.05


def test_its_trunk_sees_the_mean_colours_of_sixteen_parts() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    given = Session(colour_trunk()).run(pixels[None])
    expected = np.asarray(Image.fromarray(pixels).reduce(8), dtype=np.float32) / 255
    np.testing.assert_allclose(given["feature_map"][0].transpose(1, 2, 0), expected, atol=0.003)
    assert given["embedding"].tobytes() == given["feature_map"].tobytes()


def test_its_trunk_is_a_valid_graph_and_always_the_same_bytes() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(colour_trunk()), full_check=True)
    assert colour_trunk() == colour_trunk()


def test_without_onnx_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(Exception, match=r"tellapart\[train\]"):
        colour_trunk()
