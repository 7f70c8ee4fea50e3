from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.learn.draws import uniform
from tellapart.learn.sampling import evenly_drawn
from tellapart.learn.torch_mix import Mix, mixed


def keys_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 2**63, count).astype(np.uint64)


def inputs_of(shape: str, count: int) -> torch.Tensor:
    rng = np.random.default_rng(count)
    if shape == "pictures":
        return torch.from_numpy(rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))
    size = (count, 5, 6, 6) if shape == "maps" else (count, 7)
    return torch.from_numpy(rng.normal(size=size).astype(np.float32))


@settings(deadline=None, max_examples=80)
@given(
    st.sampled_from(["pictures", "maps", "embeddings"]),
    st.integers(1, 20),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.integers(0, 3),
)
def test_mixed_pictures_keep_their_form_and_their_targets_sum_to_one(
    shape: str, count: int, mixup: float, cutmix: float, epoch: int
) -> None:
    inputs, keys = inputs_of(shape, count), keys_of(count)
    targets = torch.arange(count) % 4
    how = Mix(4, mixup, cutmix)
    found, soft = mixed(inputs, targets, keys, 0, epoch, how)
    assert found.shape == inputs.shape
    assert found.dtype == inputs.dtype
    assert soft.shape == (count, 4)
    assert torch.allclose(soft.sum(1), torch.ones(count))
    assert bool((soft.gather(1, targets[:, None]) >= 0.5 - 1e-6).all())
    again, same = mixed(inputs, targets, keys, 0, epoch, how)
    assert torch.equal(found, again)
    assert torch.equal(soft, same)


def test_nothing_is_mixed_at_strength_zero() -> None:
    inputs, keys, targets = inputs_of("pictures", 9), keys_of(9), torch.arange(9) % 3
    found, soft = mixed(inputs, targets, keys, 0, 0, Mix(3))
    assert torch.equal(found, inputs)
    assert torch.equal(soft, torch.nn.functional.one_hot(targets, 3).float())


def test_mixup_blends_with_the_picture_before_by_the_share_of_its_target() -> None:
    count = 50
    inputs, keys, targets = inputs_of("maps", count), keys_of(count), torch.arange(count) % 2
    found, soft = mixed(inputs, targets, keys, 1, 2, Mix(2, mixup=1.0))
    share = 0.5 + 0.5 * uniform(1, 2, keys, 21)
    for row in range(count):
        expected = share[row] * inputs[row] + (1 - share[row]) * inputs[row - 1]
        assert torch.allclose(found[row], expected.float(), atol=1e-5)
        if targets[row] != targets[row - 1]:
            assert float(soft[row, targets[row]]) == pytest.approx(share[row], abs=1e-6)


@pytest.mark.parametrize("shape", ["pictures", "maps"])
def test_cutmix_pastes_a_box_of_the_picture_before_and_its_target_is_the_share_of_pixels(shape: str) -> None:
    count = 50
    inputs, keys, targets = inputs_of(shape, count), keys_of(count), torch.arange(count) % 2
    found, soft = mixed(inputs, targets, keys, 1, 2, Mix(2, cutmix=1.0))
    axis = -1 if shape == "pictures" else 1
    boxes = 0
    for row in range(count):
        pasted = (found[row] != inputs[row]).any(axis - 1 if axis == 1 else axis)
        assert torch.equal(found[row].movedim(axis - 1 if axis == 1 else axis, -1)[pasted],
                           inputs[row - 1].movedim(axis - 1 if axis == 1 else axis, -1)[pasted])  # fmt: skip
        if targets[row] != targets[row - 1]:
            assert float(soft[row, targets[row - 1]]) == pytest.approx(float(pasted.float().mean()), abs=0.02)
            boxes += bool(pasted.any())
    assert boxes > 20


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=4), st.integers(0, 4))
def test_drawn_evenly_every_class_comes_equally_often_and_every_picture_in_its_turn(
    counts: list[int], epoch: int
) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    keys = keys_of(len(targets))
    places, names = evenly_drawn(keys, targets, 0, epoch)
    each = -(-len(targets) // len(counts))
    assert np.bincount(targets[places]).tolist() == [each] * len(counts)
    assert len(set(names.tolist())) == len(names), "a picture that comes again is varied in another way"
    times = np.bincount(places, minlength=len(targets))
    for label in range(len(counts)):
        own = times[targets == label]
        assert own.max() - own.min() <= 2  # the end of one round and the beginning of another
    seen = [evenly_drawn(keys, targets, 0, number)[0] for number in range(max(counts))]
    assert set(np.concatenate(seen).tolist()) == set(range(len(targets)))
