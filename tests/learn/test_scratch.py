from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.errors import InterruptedRunError
from tellapart.events import Decision, Epoch, Event, Progress, RangeTest, Steps
from tellapart.images import Preprocess, prepare
from tellapart.learn.mirroring import mirroring
from tellapart.learn.rungs import Fitted, Head, Pictures
from tellapart.learn.schedule import Decay, learning_rate
from tellapart.learn.torch_scratch import scratch
from tellapart.recipe import Recipe
from tellapart.runtime.session import Session


def write(folder: Path, count: int, seed: int, *, side: int = 12, grey: bool = False) -> Pictures:
    """Pictures of two classes: noise that is brighter at the top, or at the bottom. Every third has a twin."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    files, digests = [], []
    ramp = np.linspace(-50, 50, side)[:, None, None]
    for i, target in enumerate(targets):
        channels = 1 if grey else 3
        levels = 128 + ramp * (1 if target else -1) + rng.normal(0, 30, (side, side, channels))
        pixels = np.clip(levels, 0, 255).astype(np.uint8)
        files.append(folder / f"{i}.png")
        Image.fromarray(pixels[..., 0] if grey else pixels).save(files[-1])
        digests.append(hashlib.sha256(files[-1].read_bytes()).hexdigest())
    groups = [digests[i - 2] if i % 3 == 2 else digests[i] for i in range(count)]
    return Pictures(tuple(files), tuple(digests), tuple(groups), targets)


def run(
    steps: Steps[Fitted], see: Callable[[Event], BaseException | None] = lambda _: None
) -> tuple[Fitted, list[Event]]:
    events: list[Event] = []
    try:
        event = next(steps)
        while True:
            events.append(event)
            error = see(event)
            event = next(steps) if error is None else steps.throw(error)
    except StopIteration as end:
        fitted: Fitted = end.value
        return fitted, events


def begun(
    train: Pictures, val: Pictures, left: Callable[[], float] = lambda: 1e4, *, grey: bool = False, **options: object
) -> Steps[Fitted]:
    recipe = Recipe.of(**{"epochs": 6, **options})
    return scratch(train, val, 2, Preprocess(image_size=32), recipe, left, shorter_px=12, grey=grey)


Made = tuple[Pictures, Pictures, Fitted, list[Event]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("two")
    train, val = write(folder / "train", 90, 1), write(folder / "val", 20, 2)
    return train, val, *run(begun(train, val))


def decisions(events: list[Event]) -> dict[str, object]:
    return {event.name: event.value for event in events if isinstance(event, Decision)}


def test_what_is_easy_is_learned(made: Made) -> None:
    _, val, fitted, _ = made
    found = fitted.head.logits(fitted.embeddings["val"]).argmax(1)
    assert (found == val.targets).mean() >= 0.95


def test_numbers_come_from_the_graph_that_ships(made: Made) -> None:
    train, _, fitted, _ = made
    session = Session(fitted.trunk)
    for row in (0, 17, 89):
        image = prepare(train.files[row], fitted.preprocess)[None]
        assert np.array_equal(session.run(image)["embedding"][0], fitted.embeddings["train"][row])
    assert fitted.preprocess.image_size == 12
    assert 0.4 < fitted.preprocess.mean[0] < 0.6
    assert fitted.method == "scratch"


def test_mean_and_deviation_are_those_of_the_training_pictures_alone(tmp_path: Path, made: Made) -> None:
    train, _, fitted, _ = made
    pixels = np.concatenate([prepare(file, fitted.preprocess) for file in train.files]) / 255
    assert np.allclose(fitted.preprocess.mean, pixels.mean((0, 1)), atol=1e-4)
    assert np.allclose(fitted.preprocess.std, pixels.std((0, 1)), atol=1e-3)
    bright = write(tmp_path / "bright", 20, 2)
    for file in bright.files:
        Image.fromarray(np.asarray(Image.open(file)) // 4 + np.uint8(190)).save(file)
    again, _ = run(begun(train, bright, epochs=1))
    assert (again.preprocess.mean, again.preprocess.std) == (fitted.preprocess.mean, fitted.preprocess.std)


def test_every_training_picture_is_predicted_by_a_model_that_saw_neither_it_nor_its_twin(made: Made) -> None:
    train, _, fitted, events = made
    assert sorted(fitted.out_of_fold.rows.tolist()) == list(range(len(train)))
    assert fitted.held_out.size == 0
    hits = fitted.out_of_fold.logits.argmax(1) == train.targets[fitted.out_of_fold.rows]
    assert hits.mean() > 0.8
    stages = {event.stage for event in events if isinstance(event, Progress)}
    assert {"scratch.fold1", "scratch.fold2", "scratch.fold3"} <= stages


def test_curves_are_those_of_the_network_that_ships(made: Made) -> None:
    *_, fitted, events = made
    assert [event for event in events if isinstance(event, Epoch)] == list(fitted.epochs)
    assert len(fitted.epochs) <= 6


def test_the_peak_rate_is_found_by_rising_rates_and_its_curve_is_told(made: Made) -> None:
    *_, fitted, events = made
    (test,) = [event for event in events if isinstance(event, RangeTest)]
    assert len(test.lrs) == len(test.losses) >= 12
    assert all(late > early for early, late in itertools.pairwise(test.lrs))
    assert fitted.details["lr"] == test.lr == decisions(events)["scratch.lr"]
    assert "rising rates" in next(e.evidence for e in events if isinstance(e, Decision) and e.name == "scratch.lr")


@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
def test_a_rate_and_a_schedule_that_are_asked_for_are_those_of_the_fit(made: Made, schedule: str) -> None:
    train, val, *_ = made
    fitted, events = run(begun(train, val, lr=0.03, schedule=schedule))
    assert fitted.details["lr"] == decisions(events)["scratch.lr"] == 0.03
    assert not [event for event in events if isinstance(event, RangeTest)]
    shape: tuple[float, Decay] = (0.2, "linear") if schedule == "wsd" else (0.0, "cosine")
    total = decisions(events)["scratch.steps"]
    assert isinstance(total, int)
    for epoch in fitted.epochs[:2]:  # later, where nearly all is told right, the end is nearer
        assert epoch.lr == pytest.approx(learning_rate((epoch.step - 1) / total, 0.15, *shape))


def test_choices_are_told_with_their_evidence(made: Made) -> None:
    *_, events = made
    told = decisions(events)
    assert told["scratch.image_size"] == 12
    assert told["scratch.flip"] is True
    assert told["scratch.precision"] == "float32"
    assert all(event.evidence for event in events if isinstance(event, Decision))


def test_the_same_seed_gives_the_same_bits_whatever_the_threads_that_decode(made: Made) -> None:
    train, val, fitted, _ = made
    again, _ = run(begun(train, val, threads=1))
    assert again.trunk == fitted.trunk
    assert isinstance(again.head, Head)
    assert isinstance(fitted.head, Head)
    assert np.array_equal(again.head.weight, fitted.head.weight)
    assert np.array_equal(again.out_of_fold.logits, fitted.out_of_fold.logits)


def test_grey_pictures_get_a_network_of_one_channel(tmp_path: Path) -> None:
    train, val = write(tmp_path / "train", 40, 3, grey=True), write(tmp_path / "val", 20, 4, grey=True)
    fitted, _ = run(begun(train, val, grey=True, epochs=4, flip="off"))
    assert fitted.details["channels"] == 1
    image = np.stack([prepare(file, fitted.preprocess) for file in val.files])
    found = Session(fitted.trunk).run(image)["embedding"]
    assert np.allclose(found, fitted.embeddings["val"], atol=1e-3)
    assert (fitted.head.logits(found).argmax(1) == val.targets).mean() >= 0.9


def test_with_much_to_validate_on_a_slice_is_held_out_of_all_learning(tmp_path: Path) -> None:
    train, val = write(tmp_path / "train", 120, 5, side=8), write(tmp_path / "val", 500, 6, side=8)
    fitted, _ = run(begun(train, val, epochs=2, image_size=8))
    rows = fitted.held_out
    assert 8 <= len(rows) <= 16
    assert np.array_equal(fitted.out_of_fold.rows, rows)
    assert abs(train.targets[rows].mean() - 0.5) < 0.15
    of_the_slice = {train.groups[row] for row in rows}
    assert not of_the_slice & {train.groups[row] for row in range(len(train)) if row not in set(rows.tolist())}
    expected = fitted.head.logits(fitted.embeddings["train"][rows])
    assert np.allclose(fitted.out_of_fold.logits, expected, atol=1e-3)
    for row in rows:  # other pixels under the same name change nothing
        Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(train.files[row])
    again, _ = run(begun(train, val, epochs=2, image_size=8))
    assert again.trunk == fitted.trunk


def test_of_many_pictures_some_have_embeddings_and_all_are_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = write(tmp_path / "train", 300, 5, side=8), write(tmp_path / "val", 500, 6, side=8)
    every, _ = run(begun(train, val, epochs=2, image_size=8))
    monkeypatch.setattr("tellapart.learn.torch_last._LOOKED_AT", 50)
    fitted, _ = run(begun(train, val, epochs=2, image_size=8))
    rows = fitted.looked_at
    assert every.looked_at is None
    assert rows is not None
    assert fitted.trunk == every.trunk
    assert 50 <= len(rows) < 150
    assert np.array_equal(fitted.embeddings["train"], every.embeddings["train"][rows])
    assert np.array_equal(rows[fitted.held_out], every.held_out)
    assert np.array_equal(rows[fitted.out_of_fold.rows], every.out_of_fold.rows)
    assert np.array_equal(fitted.out_of_fold.logits, every.out_of_fold.logits)
    assert fitted.variations is not None
    first = prepare(train.files[rows[fitted.variations.rows[0]]], fitted.preprocess)
    assert np.array_equal(fitted.variations.pictures[0, 0], first)


@pytest.mark.promise
def test_little_time_makes_a_narrower_network_that_begins_with_small_pictures(tmp_path: Path) -> None:
    train, val = write(tmp_path / "train", 1300, 5, side=24), write(tmp_path / "val", 500, 6, side=24)

    def decided(seconds: float) -> dict[str, object]:
        events: list[Event] = []

        def see(event: Event) -> BaseException | None:
            events.append(event)
            last = isinstance(event, Decision) and event.name == "scratch.steps"
            return InterruptedRunError(2) if last else None

        steps = begun(train, val, lambda: seconds, epochs=1, image_size=24)
        with pytest.raises(InterruptedRunError):
            run(steps, see)
        return decisions(events)

    much, little = decided(1e6), decided(1.0)
    assert much["scratch.widths"] == [64, 128, 128]
    assert much["scratch.hurry"] is False
    assert "scratch.smaller" not in much
    assert little["scratch.widths"] == [32, 128, 128]
    assert little["scratch.hurry"] is True
    assert 0.0 < little["scratch.smaller"] <= 1.0  # type: ignore[operator]


def test_a_network_looks_both_ways_round_only_where_labels_survive_it(tmp_path: Path) -> None:
    train, val = write(tmp_path / "train", 120, 5, side=8), write(tmp_path / "val", 500, 6, side=8)
    for flip in ("off", "on"):
        fitted, events = run(begun(train, val, epochs=2, image_size=8, flip=flip))
        told = [event for event in events if isinstance(event, Decision) and event.name == "scratch.mirrored_too"]
        assert len(told) == 1
        assert fitted.details["mirrored_too"] is told[0].value
        if flip == "off":
            assert told[0].value is False
        else:
            assert "looking both ways round" in told[0].evidence
        found = fitted.head.logits(fitted.embeddings["train"][fitted.held_out])
        assert np.allclose(fitted.out_of_fold.logits, found, atol=1e-3)


def test_out_of_fold_predictions_know_nothing_of_labels_that_are_chance(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    rng = np.random.default_rng(0)
    targets, files, digests = np.repeat(rng.integers(0, 2, 60), 2), [], []
    for i in range(120):  # pairs of twins
        files.append(tmp_path / "noise" / f"{i}.png")
        Image.fromarray(np.random.default_rng(i // 2).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(files[-1])
        digests.append(hashlib.sha256(str(i).encode()).hexdigest())
    train = Pictures(tuple(files), tuple(digests), tuple(str(i // 2) for i in range(120)), targets)
    fitted, _ = run(begun(train, train.take(np.empty(0, np.int64)), epochs=30, image_size=8, flip="off"))
    seen = fitted.head.logits(fitted.embeddings["train"]).argmax(1) == targets
    unseen = fitted.out_of_fold.logits.argmax(1) == targets[fitted.out_of_fold.rows]
    assert seen.mean() > 0.9
    assert unseen.mean() < 0.7


def test_an_interruption_gives_the_best_so_far_at_once(made: Made) -> None:
    train, val, *_ = made
    thrown: list[float] = []

    def stop(event: Event) -> BaseException | None:
        if isinstance(event, Progress) and event.stage == "scratch" and event.done == 12 and not thrown:
            thrown.append(time.perf_counter())
            return InterruptedRunError(2)
        return None

    fitted, _ = run(begun(train, val), stop)
    assert time.perf_counter() - thrown[0] < 5.0
    assert fitted.details["interrupted"] is True
    assert 1 <= len(fitted.epochs) < 6
    assert fitted.out_of_fold.rows.size == 0
    assert fitted.embeddings["val"].shape == (len(val), fitted.head.shape[0])


def test_an_interruption_among_the_folds_keeps_the_folds_that_are_done(made: Made) -> None:
    train, val, whole, _ = made

    def stop(event: Event) -> BaseException | None:
        return InterruptedRunError(2) if isinstance(event, Progress) and event.stage == "scratch.fold2" else None

    fitted, _ = run(begun(train, val), stop)
    assert fitted.details["interrupted"] is True
    assert fitted.trunk == whole.trunk
    count = len(fitted.out_of_fold.rows)
    assert 0 < count < len(train)
    assert np.array_equal(fitted.out_of_fold.logits, whole.out_of_fold.logits[:count])


def test_an_interruption_before_there_is_anything_passes(made: Made) -> None:
    train, val, *_ = made
    with pytest.raises(InterruptedRunError):
        run(begun(train, val), lambda event: InterruptedRunError(15) if isinstance(event, Progress) else None)


def test_the_time_holds_and_what_there_is_no_time_for_is_said(made: Made) -> None:
    train, val, *_ = made
    ends = time.perf_counter() + 5.0
    fitted, events = run(begun(train, val, lambda: ends - time.perf_counter(), epochs=100_000))
    assert time.perf_counter() < ends + 1.0
    assert decisions(events)["scratch.steps"] != 100_000
    assert fitted.epochs[-1].val_loss is not None


def test_flips_are_left_out_where_handedness_tells_classes_apart() -> None:
    rng = np.random.default_rng(0)
    targets = np.arange(200) % 2
    pixels = rng.integers(0, 80, (200, 16, 16, 3))
    for picture, target in zip(pixels, targets, strict=True):
        picture[4:12, slice(9, 14) if target else slice(2, 7)] += 120
    arrows = mirroring(pixels.clip(0, 255).astype(np.uint8), targets)
    assert not arrows.helps
    assert arrows.accuracy > 0.9
    assert arrows.mirrored_accuracy < 0.6
    upright = np.swapaxes(pixels, 1, 2).clip(0, 255).astype(np.uint8)
    assert mirroring(upright, targets).helps
    assert not mirroring(upright[:8], targets[:8]).helps


def test_pictures_that_are_not_varied_are_not_shown_as_varied(tmp_path: Path) -> None:
    train, val = write(tmp_path / "train", 40, 1), write(tmp_path / "val", 20, 2)
    fitted, _ = run(begun(train, val, augment="none", epochs=1))
    assert fitted.variations is None
    assert "augment_share" not in fitted.details


@pytest.mark.parametrize("balance", ["weights", "sampler", "logit"])
def test_it_learns_from_strongly_varied_and_mixed_pictures_of_uneven_classes(tmp_path: Path, balance: str) -> None:
    train, val = write(tmp_path / "train", 90, 1), write(tmp_path / "val", 20, 2)
    train = train.take(np.flatnonzero((train.targets == 0) | (np.arange(90) % 8 == 1)))
    fitted, events = run(begun(train, val, augment="strong", balance=balance, epochs=20))
    assert (fitted.head.logits(fitted.embeddings["val"]).argmax(1) == val.targets).mean() >= 0.8
    assert decisions(events)["scratch.augment"] == "strong"
    assert decisions(events)["scratch.balance"] == balance
    shown = fitted.variations
    assert shown is not None
    assert "TrivialAugment" in shown.words
    assert shown.share is not None
    assert 0 < shown.share <= 1
    assert shown.pictures.shape[:2] == (6, 7)
    first = prepare(train.files[int(shown.rows[0])], fitted.preprocess)
    assert np.array_equal(shown.pictures[0, 0], first), "the first of a row is the picture as it is"
    assert not (shown.pictures[:, 1:] == shown.pictures[:, :1]).all(axis=(2, 3, 4)).any()
