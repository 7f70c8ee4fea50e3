from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.images import Preprocess, prepare
from tellapart.learn import torch_activations
from tellapart.learn.augmentation import Augment
from tellapart.learn.draws import picture_keys
from tellapart.learn.majority import colour_trunk
from tellapart.learn.rungs import Pictures
from tellapart.learn.torch_activations import Activations, activations, view_of
from tellapart.runtime.session import Session

HOW = Augment(True, 4, 0)
SEES = Preprocess(image_size=32)


def made(run: Any, pictures: Pictures, cache: Path, views: int = 3) -> Activations:
    steps = activations(colour_trunk(), SEES, pictures, HOW, views, cache, 2, "embedding")
    return run(steps)  # type: ignore[no-any-return]


def test_views_are_what_the_graph_makes_of_them_in_half_precision(
    run: Any, photo_pictures: Pictures, tmp_path: Path
) -> None:
    found = made(run, photo_pictures, tmp_path)
    assert found.values.dtype == np.float16
    session, keys = Session(colour_trunk()), picture_keys(photo_pictures.digests)
    for row, view in ((0, 0), (5, 1), (40, 2)):
        square = prepare(photo_pictures.files[row], SEES)
        seen = view_of(square, keys[row : row + 1], view, HOW)
        assert (view == 0) == np.array_equal(seen, square)
        expected = session.run(seen[None], ["embedding"])["embedding"][0]
        assert np.allclose(found.values[view, row], expected, rtol=2e-3, atol=1e-3)


def test_a_picture_goes_through_all_of_its_views_and_validation_sees_it_as_it_is(
    run: Any, photo_pictures: Pictures, tmp_path: Path
) -> None:
    found, keys = made(run, photo_pictures, tmp_path), picture_keys(photo_pictures.digests)
    rows = [np.array([7, 2]), np.array([11])]
    assert [part.shape[0] for part in found.batches(rows)] == [2, 1]
    assert np.array_equal(next(found.batches(rows)).numpy(), found.values[0, [7, 2]].astype(np.float32))
    seen = {tuple(next(found.varied(rows, [keys[part] for part in rows], 0, epoch))[0].tolist()) for epoch in range(3)}
    assert seen == {tuple(found.values[view, 7].astype(np.float32).tolist()) for view in range(3)}


def test_what_was_computed_is_not_computed_again_and_an_interruption_loses_little(
    run: Any, photo_pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_activations, "_SHOW_SECONDS", 0.0)
    steps = activations(colour_trunk(), SEES, photo_pictures, HOW, 2, tmp_path, 1, "embedding")
    for _ in range(20):
        next(steps)
    steps.close()
    opened: list[Path] = []

    def counted(file: Path, *rest: Any) -> Any:
        opened.append(file)
        return prepare(file, SEES)

    monkeypatch.setattr(torch_activations, "checked_picture", counted)
    whole = made(run, photo_pictures, tmp_path, 2)
    assert len(opened) <= len(photo_pictures) - 19
    again = made(run, photo_pictures, tmp_path, 2)
    assert len(opened) <= len(photo_pictures) - 19
    assert np.array_equal(whole.values, again.values)
    monkeypatch.undo()
    assert np.array_equal(made(run, photo_pictures, tmp_path / "fresh", 2).values, whole.values)


def test_values_that_went_missing_or_were_damaged_are_computed_again(
    run: Any, photo_pictures: Pictures, tmp_path: Path
) -> None:
    whole = made(run, photo_pictures, tmp_path).values.copy()
    (file,) = (tmp_path / "activations").glob("*.npy")
    file.unlink()
    assert np.array_equal(made(run, photo_pictures, tmp_path).values, whole)
    file.write_bytes(b"not an array")
    assert np.array_equal(made(run, photo_pictures, tmp_path).values, whole)


def test_the_cache_stays_within_its_bounds_and_the_oldest_go(
    run: Any, photo_pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(run, photo_pictures, tmp_path, 2)
    first = set((tmp_path / "activations").iterdir())
    monkeypatch.setattr(torch_activations, "MOST_BYTES", 5_000)
    made(run, photo_pictures.take(np.arange(10)), tmp_path, 2)
    assert not first & set((tmp_path / "activations").iterdir())
