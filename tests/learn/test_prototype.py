"""Class means: the nearest one is the answer, from one picture a class upwards."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tellapart.learn.folds import make_folds
from tellapart.learn.prototype import fit_prototypes


@given(st.integers(2, 6), st.integers(1, 5), st.integers(0, 99))
def test_the_answer_is_the_nearest_mean(num_classes, each, seed):
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.arange(num_classes), each)
    X = rng.normal(size=(len(targets), 7)).astype(np.float32)
    folds = make_folds(targets, [str(row) for row in range(len(targets))])
    found = fit_prototypes(X, targets, num_classes, folds)
    means = np.stack([X[targets == label].mean(axis=0) for label in range(num_classes)])
    asked = rng.normal(size=(20, 7)).astype(np.float32)
    distance = np.square(asked[:, None] - means[None]).sum(axis=2)
    np.testing.assert_array_equal(found.head.logits(asked).argmax(axis=1), distance.argmin(axis=1))
    assert len(found.rows) == (len(targets) if each > 1 else 0)


def test_a_left_out_picture_is_not_in_its_own_mean():
    X = np.array([[0.0], [10.0], [6.5], [7.0]], dtype=np.float32)
    targets = np.array([0, 0, 1, 1])
    found = fit_prototypes(X, targets, 2, np.array([0, 1, 2, 3]))
    # Without the 0, class 0 is at 10, and 0 is nearer to 6.75; without the 10, class 0 is at 0, and 10 nearer to 6.75.
    assert found.out_of_fold.argmax(axis=1).tolist() == [1, 1, 1, 1]


def test_the_scale_of_the_features_does_not_count():
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], 3)
    X = (rng.normal(size=(9, 5)) + targets[:, None]).astype(np.float32)
    folds = make_folds(targets, [str(row) for row in range(9)])
    one, thousand = (fit_prototypes(scale * X, targets, 3, folds).out_of_fold for scale in (1, 1000))
    np.testing.assert_allclose(one, thousand, rtol=1e-3, atol=1e-3)
