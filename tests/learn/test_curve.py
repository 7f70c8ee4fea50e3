"""A learning curve ends where cross-validation does, and does not hang on the order of pictures."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tellapart.learn import curve as curves
from tellapart.learn.curve import learning_curve
from tellapart.learn.folds import make_folds
from tellapart.learn.linear import cross_validate


def run(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def made(n: int, num_classes: int = 3, width: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, num_classes, n)
    centres = rng.normal(size=(num_classes, width))
    embeddings = (centres[targets] + 1.3 * rng.normal(size=(n, width))).astype(np.float32)
    digests = [hashlib.sha256(f"{seed}/{row}".encode()).hexdigest() for row in range(n)]
    return embeddings, targets.astype(np.int64), digests


def test_the_last_point_is_plain_cross_validation():
    embeddings, targets, digests = made(240)
    curve = run(learning_curve(embeddings, targets, 3, digests, digests, 0.1))
    folds = make_folds(targets, digests, 5, 0)
    (logits,) = run(cross_validate(embeddings, targets, 3, folds, [0.1]))
    np.testing.assert_array_equal(curve.predicted, logits.argmax(axis=1))
    np.testing.assert_array_equal(curve.right[-1], (logits.argmax(axis=1) == targets).astype(float))
    assert curve.sizes[-1] == pytest.approx(240 * 4 / 5)
    assert curve.full == 240


def test_it_rises_and_later_points_rest_on_more():
    embeddings, targets, digests = made(600, num_classes=6, width=20)
    curve = run(learning_curve(embeddings, targets, 6, digests, digests, 0.1))
    assert (np.diff(curve.sizes) > 0).all()
    assert curve.right[-1].mean() > curve.right[0].mean() + 0.03


def test_order_of_pictures_does_not_count():
    embeddings, targets, digests = made(150)
    first = run(learning_curve(embeddings, targets, 3, digests, digests, 0.1))
    order = np.random.default_rng(5).permutation(150)
    shuffled = [digests[row] for row in order]
    second = run(learning_curve(embeddings[order], targets[order], 3, shuffled, shuffled, 0.1))
    np.testing.assert_allclose(second.right, first.right[:, order], atol=0.26)
    np.testing.assert_allclose(second.right.mean(axis=1), first.right.mean(axis=1), atol=0.01)


def test_groups_are_never_torn():
    embeddings, targets, digests = made(120)
    twins = np.concatenate([embeddings, embeddings])
    labels, names = np.concatenate([targets, 1 - (targets > 0)]), digests + digests
    keys = digests + [digest[::-1] for digest in digests]
    curve = run(learning_curve(twins, labels, 3, names, keys, 1e-3))
    # A twin with another label in training would be copied: then every picture of the pair would be named wrong.
    assert curve.groups.max() == 119
    assert curve.right[-1].mean() > 0.2


def test_too_few_pictures_give_no_curve():
    embeddings, targets, digests = made(9)
    assert run(learning_curve(embeddings, targets, 3, digests, digests, 0.1)) is None


def test_components_are_the_same_by_pictures_as_by_features() -> None:
    """With fewer pictures than features the products of pictures are taken: distances must not depend on which."""
    draw = np.random.default_rng(3)
    embeddings = (draw.normal(size=(90, 12)) @ draw.normal(size=(12, 300))).astype(np.float32)
    few = curves._reduced(embeddings, np.arange(90))
    many = curves._reduced(np.tile(embeddings, (4, 1)), np.arange(360))[:90]
    assert few.shape == (90, 90)
    between_few, between_many = (np.linalg.norm(one[:, None] - one[None], axis=2) for one in (few, many))
    assert np.allclose(between_few, between_many, atol=1e-2)
    assert np.allclose(between_few, np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2), atol=1e-2)
