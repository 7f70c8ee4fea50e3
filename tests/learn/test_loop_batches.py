from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tellapart.images import Preprocess
from tellapart.images.guarded import prepare_apart
from tellapart.learn import torch_batches
from tellapart.learn.augmentation import Augment
from tellapart.learn.draws import bits, picture_keys, uniform
from tellapart.learn.torch_augment import augmented
from tellapart.learn.torch_batches import Held, Samples, Streamed, Varied, decode_all, epoch_batches

FILL = torch.tensor([9, 8, 7], dtype=torch.uint8)


def keys_of(count: int) -> np.ndarray:
    return picture_keys([hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(count)])


def pixels_of(count: int, side: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(count).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def plain_splitmix(value: int) -> int:
    """The finaliser of SplitMix64 in Python's own integers."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
    return value ^ (value >> 31)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6), st.integers(0, 2**64 - 1), st.integers(0, 10))
def test_draws_are_those_of_the_definition(seed: int, epoch: int, key: int, purpose: int) -> None:
    golden, counter = 0x9E3779B97F4A7C15, 0
    for part in (seed, purpose, epoch):
        counter = plain_splitmix((counter + golden + part) % 2**64)
    expected = plain_splitmix(plain_splitmix((key + golden) % 2**64) ^ counter)
    assert int(bits(seed, epoch, np.array([key], np.uint64), purpose)[0]) == expected


def test_draws_are_even_and_those_of_different_epochs_seeds_and_purposes_have_nothing_in_common() -> None:
    keys = keys_of(20_000)
    base = uniform(0, 0, keys, 0)
    assert abs(base.mean() - 0.5) < 0.01
    assert np.histogram(base, 10, (0, 1))[0].min() > 1800
    for other in (uniform(1, 0, keys, 0), uniform(0, 1, keys, 0), uniform(0, 0, keys, 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.03


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 5))
def test_an_epoch_has_every_picture_once_in_batches_of_like_size(count: int, size: int, epoch: int) -> None:
    samples = Samples(Varied(Held(torch.zeros(0))), np.zeros(count, np.int64), keys_of(count), np.arange(count))
    parts = [rows for rows, _ in epoch_batches(samples, size, 3, epoch)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) <= 1.5 * size + 1


def test_the_order_is_drawn_anew_each_epoch_and_hangs_on_the_pictures_not_on_their_places() -> None:
    count = 50
    keys, backwards = keys_of(count), keys_of(count)[::-1].copy()
    rows = np.arange(count)
    one = Samples(Varied(Held(torch.zeros(0))), np.zeros(count, np.int64), keys, rows)
    other = Samples(Varied(Held(torch.zeros(0))), np.zeros(count, np.int64), backwards, rows)

    def order(samples: Samples, seed: int, epoch: int) -> np.ndarray:
        return np.concatenate([part for part, _ in epoch_batches(samples, 8, seed, epoch)])

    assert keys[order(one, 0, 4)].tolist() == backwards[order(other, 0, 4)].tolist()
    assert order(one, 0, 4).tolist() != order(one, 0, 5).tolist()
    assert order(one, 0, 4).tolist() != order(one, 1, 4).tolist()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(0, 9), st.integers(0, 3), st.booleans(), st.integers(0, 4))
def test_what_happens_to_a_picture_does_not_depend_on_the_batch_it_is_in(
    count: int, epoch: int, shift: int, flip: bool, cut: int
) -> None:
    pixels, keys, how = pixels_of(count), keys_of(count), Augment(flip, shift, cut)
    together = augmented(pixels, keys, 5, epoch, how, FILL)
    which = count // 2
    alone = augmented(pixels[which : which + 1], keys[which : which + 1], 5, epoch, how, FILL)
    assert torch.equal(together[which], alone[0])
    assert torch.equal(augmented(pixels, keys, 5, epoch, how, FILL), together)


def test_a_varied_picture_is_a_crop_of_the_reflected_picture_mirrored_or_not() -> None:
    count, side, shift = 400, 8, 2
    pixels, keys = pixels_of(count, side), keys_of(count)
    varied = augmented(pixels, keys, 0, 1, Augment(True, shift, 0), FILL).numpy()
    seen = set()
    for before, after in zip(pixels.numpy(), varied, strict=True):
        padded = np.pad(before, ((shift, shift), (shift, shift), (0, 0)), mode="reflect")
        matches = [
            (y, x, mirrored)
            for y in range(2 * shift + 1)
            for x in range(2 * shift + 1)
            for mirrored in (False, True)
            if np.array_equal(padded[y : y + side, x : x + side][:, :: -1 if mirrored else 1], after)
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 2 * (2 * shift + 1) ** 2


def test_no_variation_leaves_pictures_as_they_are_and_a_cut_paints_one_square() -> None:
    pixels, keys = pixels_of(30), keys_of(30)
    assert torch.equal(augmented(pixels, keys, 0, 0, Augment(False, 0, 0), FILL), pixels)
    painted = augmented(pixels, keys, 0, 0, Augment(False, 0, 3), FILL)
    changed = (painted == FILL).all(3).sum((1, 2))
    assert changed.max() == 9
    assert changed.min() >= 4
    kept = ~(painted == FILL).all(3)
    assert torch.equal(painted[kept], pixels[kept])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for i in range(20):
        paths.append(folder / f"{i}.png")
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (11, 13, 3), dtype=np.uint8)).save(paths[-1])
    return tuple(paths)


@pytest.mark.parametrize("channels", [1, 3])
def test_case_103_pictures_are_the_same_held_or_streamed_on_any_number_of_threads(
    files: tuple[Path, ...], channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = Preprocess(image_size=8)

    def decoded(threads: int) -> Held | Streamed:
        steps = decode_all(files, preprocess, channels, threads)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: Held | Streamed = end.value
                return found

    held = [decoded(threads) for threads in (1, 4)]
    monkeypatch.setattr(torch_batches, "HELD_BYTES", 100)
    streamed = [decoded(threads) for threads in (1, 4)]
    assert all(isinstance(source, Held) for source in held)
    assert all(isinstance(source, Streamed) for source in streamed)
    rows = [np.array([3, 1, 4]), np.array([15, 9])]
    first, *others = [[part.numpy() for part in source.batches(rows)] for source in held + streamed]
    assert first[0].shape == (3, 8, 8, channels)
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_many_pictures_are_the_same_decoded_in_threads_or_in_other_processes(
    files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_batches, "_MANY", 10)
    monkeypatch.setattr(torch_batches, "_TIMED", 3)
    monkeypatch.setattr(torch_batches, "_RUN", 2)
    asked: list[int] = []
    real = prepare_apart

    def counted(run: list[Path], *rest: Any) -> list[np.ndarray]:
        asked.append(len(run))
        return real(run, *rest)

    monkeypatch.setattr(torch_batches, "prepare_apart", counted)
    preprocess = Preprocess(image_size=8)

    def decoded(threads: int) -> torch.Tensor:
        steps = decode_all(files, preprocess, 3, threads)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: Held = end.value
                return found.pixels

    plain = decoded(1)
    assert torch.equal(decoded(2), plain)
    assert not asked, "there is too little to do to start processes for it"
    monkeypatch.setattr(torch_batches, "_WORTH_SECONDS", 0.0)
    assert torch.equal(decoded(2), plain)
    assert asked
