from __future__ import annotations

import dataclasses
import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tellapart import judge
from tellapart.errors import InterruptedRunError, OutOfTimeError, RecipeError
from tellapart.events import Decision, Epoch, Event, Note, Progress, RangeTest, Recall
from tellapart.images import prepare
from tellapart.learn.augmentation import preset
from tellapart.learn.backbones_export import Graph
from tellapart.learn.balancing import balancing
from tellapart.learn.draws import picture_keys
from tellapart.learn.folds import parts
from tellapart.learn.linear import fit_path
from tellapart.learn.probe import probe
from tellapart.learn.rungs import Fitted, GraphHead, Pictures
from tellapart.learn.torch_activations import view_of
from tellapart.learn.torch_checkpoint import Checkpoints
from tellapart.learn.torch_export import load_trunk
from tellapart.learn.torch_finetune import finetune
from tellapart.learn.torch_stages import blocks
from tellapart.recipe import Recipe
from tellapart.runtime.session import Session

Run = Callable[..., Any]


def stripes(folder: Path, count: int, seed: int) -> Pictures:
    """Pictures of three classes: stripes that stand, lie or lean, in noise; mean colours tell nothing."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    y, x = np.mgrid[:64, :64]
    files = []
    for index, target in enumerate(targets):
        along = (x, y, (x + y) / 1.4)[target]
        wave = np.sin(along / rng.uniform(1.2, 2.0) + rng.uniform(0, 6))
        pixels = 128 + 40 * wave[..., None] + rng.normal(0, 30, (64, 64, 3))
        files.append(folder / f"{index}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(files[-1])
    digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    groups = tuple(digests[i - 3] if i % 9 == 4 else digests[i] for i in range(count))
    return Pictures(tuple(files), digests, groups, targets.astype(np.int64))


class Ground:
    def __init__(self, run: Run, graph: Graph, folder: Path, num_train: int = 66, num_val: int = 45) -> None:
        self.run, self.graph, self.cache = run, graph, folder / "cache"
        self.train, self.val = stripes(folder / "train", num_train, 1), stripes(folder / "val", num_val, 2)
        self.probe = self.probed()

    def probed(self) -> Fitted:
        how = self.graph.preprocess("squash"), self.train, self.val, 3, Recipe.of(flip="off"), self.cache
        return self.run(probe(self.graph, *how, threads=1))  # type: ignore[no-any-return]

    def tuned(self, seen: list[Event] | None = None, left: Callable[[], float] = lambda: 1e4, **options: Any) -> Fitted:
        return self.run(self.steps(left, **options), seen)  # type: ignore[no-any-return]

    def steps(self, left: Callable[[], float] = lambda: 1e4, **options: Any) -> Any:
        recipe = Recipe.of(**{"epochs": 8, "flip": "off", "lr": 6e-3, **options})
        return finetune(self.probe, self.graph.folder, self.train, self.val, 3, recipe, self.cache, left, 1)


@pytest.fixture(scope="module")
def ground(run: Run, exported: tuple[Graph, Path], tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(run, exported[0], tmp_path_factory.mktemp("stripes"))


@pytest.fixture(scope="module")
def made(ground: Ground) -> tuple[Fitted, list[Event]]:
    seen: list[Event] = []
    return ground.tuned(seen, tune="last", bn_policy="train"), seen


def thrown_into(steps: Any, here: Callable[[Event], bool]) -> Fitted:
    """Run `steps`, with one interruption, at the first event that is `here`."""
    thrown = False
    try:
        event = next(steps)
        while True:
            now = not thrown and here(event)
            thrown = thrown or now
            event = steps.throw(InterruptedRunError(2)) if now else next(steps)
    except StopIteration as end:
        assert thrown
        fitted: Fitted = end.value
    return fitted


def told(seen: list[Event]) -> dict[str, Decision]:
    return {event.name: event for event in seen if isinstance(event, Decision)}


def right(fitted: Fitted, val: Pictures) -> float:
    return float((fitted.head.logits(fitted.embeddings["val"]).argmax(1) == val.targets).mean())


def test_it_learns_what_the_probe_could_not(ground: Ground, made: tuple[Fitted, list[Event]]) -> None:
    fitted, seen = made
    assert right(fitted, ground.val) > right(ground.probe, ground.val) + 0.15
    assert [event for event in seen if isinstance(event, Epoch)] == list(fitted.epochs)
    assert told(seen)["finetune.cut"].value["from"] == fitted.details["tuned_from"] != "input"
    assert all(event.evidence for event in told(seen).values())


def test_numbers_come_from_the_graph_that_ships_and_a_feature_map_with_them(
    ground: Ground, made: tuple[Fitted, list[Event]]
) -> None:
    fitted, _ = made
    session = Session(fitted.trunk)
    assert "feature_map" in session.outputs
    for row in (0, 31):
        image = prepare(ground.train.files[row], fitted.preprocess)[None]
        assert np.array_equal(session.run(image)["embedding"][0], fitted.embeddings["train"][row])
    logits = fitted.head.logits(fitted.embeddings["val"])
    losses = -judge.log_softmax(logits / judge.fit_temperature(logits, ground.val.targets))
    shipped = float(losses[np.arange(len(ground.val)), ground.val.targets].mean())
    said = dict(part.split(": ") for part in told(made[1])["finetune.blend"].evidence.split(", ")[1:])
    assert shipped == pytest.approx(float(said[f"{fitted.details['blend']:g}"]), abs=0.03)


def test_what_ships_is_the_mix_of_probe_and_tuned_weights_that_validation_finds_best(
    made: tuple[Fitted, list[Event]],
) -> None:
    blend = told(made[1])["finetune.blend"]
    losses = {float(share): float(loss) for share, loss in (one.split(": ") for one in blend.evidence.split(", ")[1:])}
    assert set(losses) >= {0.0, 1.0}  # the probe's own weights and the tuned ones are among them
    assert losses[float(str(made[0].details["blend"]))] == min(losses.values())


def test_batch_norm_stays_frozen_where_statistics_of_these_pictures_spoil_what_the_head_was_fitted_on(
    ground: Ground,
) -> None:
    seen: list[Event] = []
    fitted = ground.tuned(seen, tune="last", epochs=1)
    [told] = [event for event in seen if isinstance(event, Decision) and event.name == "finetune.bn_policy"]
    assert told.value == fitted.details["bn_policy"]
    own, new = map(float, re.findall(r"\d+\.\d{3}", told.evidence))
    assert told.value == ("train" if new <= own else "frozen")
    assert own == pytest.approx(tempered_loss(ground.probe, ground.val), abs=0.02), "what the probe has"
    assert [name_of(event) for event in seen].index("finetune.bn_policy") < [name_of(event) for event in seen].index(
        "finetune"
    ), "before the first step"


def name_of(event: Event) -> str:
    return str(getattr(event, "name", getattr(event, "stage", "")))


def tempered_loss(fitted: Fitted, pictures: Pictures) -> float:
    logits = fitted.head.logits(fitted.embeddings["val"])
    temperature = judge.fit_temperature(logits, pictures.targets)
    return float(-np.log(judge.softmax(logits / temperature))[np.arange(len(logits)), pictures.targets].mean())


@pytest.mark.parametrize("policy", ["frozen", "eval_stats", "train"])
def test_batch_norm_does_what_is_asked_for(ground: Ground, policy: str) -> None:
    fitted = ground.tuned(tune="last", bn_policy=policy, epochs=1)
    assert fitted.details["bn_policy"] == policy


def test_predictions_out_of_fold_are_by_models_that_saw_neither_the_picture_nor_its_group(
    ground: Ground, made: tuple[Fitted, list[Event]]
) -> None:
    fitted, seen = made
    assert sorted(fitted.out_of_fold.rows.tolist()) == list(range(len(ground.train)))
    assert fitted.held_out.size == 0
    folds = {event.stage for event in seen if isinstance(event, Progress) and "fold" in event.stage}
    assert folds == {"finetune.fold1", "finetune.fold2", "finetune.fold3"}


def test_the_probe_beside_models_of_folds_is_fitted_on_what_they_saw(
    ground: Ground, made: tuple[Fitted, list[Event]]
) -> None:
    held, embeddings = made[0].out_of_fold, ground.probe.embeddings["train"]
    folds, _ = parts(ground.train.targets, ground.train.groups, len(ground.val), Recipe.of().seed)
    penalty = ground.probe.details["penalty"]
    assert held.before is not None
    assert isinstance(penalty, float)
    for fold in range(3):
        rest = np.flatnonzero(folds != fold)
        way = balancing(str(ground.probe.details["balance"]), ground.train.targets[rest], 3)
        steps = fit_path(embeddings[rest], ground.train.targets[rest], 3, [penalty], way.weights)
        head = way.adjusted(ground.run(steps)[0])
        inside = folds[held.rows] == fold
        assert np.array_equal(held.before[inside], head.logits(embeddings[held.rows[inside]]))


def test_labels_that_are_chance_are_not_known_out_of_fold(ground: Ground) -> None:
    chance = np.random.default_rng(0).integers(0, 3, len(ground.train))
    other = Ground.__new__(Ground)
    other.__dict__.update(ground.__dict__, train=dataclasses.replace(ground.train, targets=chance))
    other.probe = other.probed()
    fitted = other.tuned(tune="last")
    unseen = fitted.out_of_fold.logits.argmax(1) == chance[fitted.out_of_fold.rows]
    assert unseen.mean() < 0.55


@pytest.fixture(scope="module")
def chance(ground: Ground) -> Ground:
    """Pictures whose labels are chance: all that is learned of them is learned by heart."""
    targets = np.random.default_rng(0).integers(0, 3, len(ground.train))
    other = Ground.__new__(Ground)
    other.__dict__.update(ground.__dict__, train=dataclasses.replace(ground.train, targets=targets))
    other.probe = other.probed()
    return other


def test_what_overfits_is_tried_again_on_mixed_pictures_and_validation_decides(chance: Ground) -> None:
    seen: list[Event] = []
    fitted = chance.tuned(seen, tune="last", epochs=20)
    said = told(seen)
    assert 0 < said["finetune.mixed.steps"].value <= said["finetune.steps"].value, "no more passes than asked for"
    mixed, plain = map(float, re.findall(r"\d+\.\d{3}", said["finetune.mixup"].evidence))
    assert said["finetune.mixup"].value == fitted.details["mixup"] == (0.5 if mixed < plain else 0.0)
    kept = said["finetune.mixed.blend" if mixed < plain else "finetune.blend"]
    assert fitted.details["blend"] == kept.value
    assert [event for event in seen if isinstance(event, Epoch)], "the first fit's are shown"


def test_what_was_asked_for_is_not_tried_in_another_way(chance: Ground) -> None:
    seen: list[Event] = []
    fitted = chance.tuned(seen, tune="last", epochs=20, augment="light")
    assert "finetune.mixed.steps" not in told(seen)
    assert fitted.details["mixup"] == 0.0


def test_an_interruption_of_the_second_fit_keeps_the_first(chance: Ground) -> None:
    steps = chance.steps(tune="last", epochs=20)
    fitted = thrown_into(steps, lambda event: isinstance(event, Progress) and event.stage == "finetune.mixed")
    assert fitted.details["interrupted"] is True
    assert fitted.details["mixup"] == 0.0
    assert fitted.out_of_fold.rows.size == 0


def test_a_second_fit_that_fails_costs_nothing(chance: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(inputs: Any, targets: Any, *_: Any) -> Any:
        return inputs * float("nan"), targets

    monkeypatch.setattr("tellapart.learn.torch_batches.mixed", spoilt)
    seen: list[Event] = []
    fitted = chance.tuned(seen, tune="last", epochs=20)
    assert [event.text for event in seen if isinstance(event, Note) and "mixed pictures" in event.text]
    assert fitted.details["mixup"] == 0.0
    assert fitted.out_of_fold.rows.size


@pytest.mark.promise
def test_a_run_that_was_cut_off_in_the_second_fit_goes_on_to_the_same_bits(chance: Ground, tmp_path: Path) -> None:
    def run(folder: Path, recorded: list[Decision], until: int) -> tuple[Fitted | None, list[Decision]]:
        recipe = Recipe.of(epochs=20, flip="off", lr=6e-3, tune="last")
        kept = Checkpoints(folder, {}, 1e-9)
        args = chance.probe, chance.graph.folder, chance.train, chance.val, 3, recipe, chance.cache, lambda: 1e4, 1
        steps, said = finetune(*args, checkpoints=kept), list[Decision]()
        try:
            while True:
                event = next(steps)
                said += [event] if isinstance(event, Decision) else []
                if isinstance(event, Recall):
                    event.decided.extend(one for one in recorded if one.name == event.name)
                if isinstance(event, Progress) and event.stage == "finetune.mixed" and event.done == until:
                    steps.close()
                    return None, said
        except StopIteration as end:
            return end.value, said

    whole, _ = run(tmp_path / "whole", [], -1)
    _, recorded = run(tmp_path / "cut", [], 7)
    again, _ = run(tmp_path / "cut", recorded, -1)
    assert whole is not None
    assert again is not None
    assert again.trunk == whole.trunk
    assert np.array_equal(again.out_of_fold.logits, whole.out_of_fold.logits)


def test_the_same_seed_gives_the_same_bits_from_a_warm_cache_too(
    ground: Ground, made: tuple[Fitted, list[Event]]
) -> None:
    cut = made[0].details["tuned_from"]
    again = ground.tuned(tune="last", bn_policy="train")
    assert again.details["tuned_from"] == cut
    assert again.trunk == made[0].trunk
    assert np.array_equal(again.out_of_fold.logits, made[0].out_of_fold.logits)


@pytest.mark.parametrize("head", ["mlp", "cosine"])
def test_other_heads_ship_as_what_they_were_trained_as(ground: Ground, head: str) -> None:
    fitted = ground.tuned(tune="head", head=head, epochs=4)
    assert isinstance(fitted.head, GraphHead)
    assert fitted.trunk == ground.probe.trunk
    assert right(fitted, ground.val) >= right(ground.probe, ground.val) - 0.15


def test_everything_is_tuned_where_that_is_asked_for_with_pooling_and_statistics_as_asked_for(ground: Ground) -> None:
    fitted = ground.tuned(tune="all", pooling="gem", bn_policy="eval_stats", schedule="cosine", epochs=2)
    assert (fitted.details["tuned_from"], fitted.details["bn_policy"]) == ("input", "eval_stats")
    assert fitted.embeddings["train"].shape == ground.probe.embeddings["train"].shape


def test_the_rate_comes_from_a_range_test_whose_curve_is_told(ground: Ground) -> None:
    seen: list[Event] = []
    fitted = ground.tuned(seen, tune="last", lr=None, epochs=2)
    (test,) = [event for event in seen if isinstance(event, RangeTest)]
    assert len(test.lrs) == len(test.losses) >= 12
    assert test.lr == told(seen)["finetune.lr"].value == fitted.details["lr"]


def test_nothing_has_to_be_set_apart_to_tune(ground: Ground) -> None:
    other = Ground.__new__(Ground)
    other.__dict__.update(ground.__dict__, val=ground.val.take(np.empty(0, np.int64)))
    other.probe = other.probed()
    fitted = other.tuned(tune="last", epochs=2)
    assert fitted.embeddings["val"].shape == (0, fitted.embeddings["train"].shape[1])
    assert fitted.details["blend"] == 1.0


def test_a_disk_with_little_room_is_not_filled_with_activations(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.files.free_bytes", lambda _: 1_000)
    seen: list[Event] = []
    ground.tuned(seen, epochs=1)
    assert told(seen)["finetune.cut"].value == {"from": "input", "views": 0}, "nothing is kept for it"


def test_the_time_holds_and_too_little_of_it_is_said(ground: Ground) -> None:
    seen: list[Event] = []
    with pytest.raises(OutOfTimeError):
        ground.tuned(seen, left=lambda: 5.0)
    assert "a longer --budget" in told(seen)["finetune.cut"].evidence
    ends = time.perf_counter() + 18.0
    ground.tuned(left=lambda: ends - time.perf_counter(), epochs=100_000, tune="last")
    assert time.perf_counter() < ends + 1.0


def test_an_interruption_keeps_the_best_so_far(ground: Ground) -> None:
    steps = ground.steps(tune="last")
    fitted = thrown_into(
        steps, lambda event: isinstance(event, Progress) and event.stage == "finetune" and event.done == 12
    )
    assert fitted.details["interrupted"] is True
    assert fitted.out_of_fold.rows.size == 0


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_of_the_last_blocks_are_tuned_as_are_named(ground: Ground, count: int) -> None:
    fitted = ground.tuned(tune=count, epochs=1)
    trunk = load_trunk(ground.graph.folder, ground.probe.preprocess.image_size)
    names = blocks(trunk.model)
    assert fitted.details["tuned_from"] == names[-count]
    seen: list[Event] = []
    late = ground.tuned(seen, tune=count, epochs=1, left=lambda: 6.0)
    assert late.details["tuned_from"] == names[-count], "what is named is done, time or not"
    assert told(seen)["finetune.cut"].evidence == f"--tune {count}"


def test_more_blocks_than_there_are_is_one_sentence(ground: Ground) -> None:
    with pytest.raises(RecipeError, match=r"--tune got 99, and .* has \d+ blocks") as error:
        ground.tuned(tune=99)
    assert "from 1 to" in str(error.value.next)


def test_no_room_for_what_goes_into_the_blocks_named_is_one_sentence(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.files.free_bytes", lambda _: 1000)
    with pytest.raises(RecipeError, match=r"--tune got 3; what goes into blocks\.\d takes .* GB") as error:
        ground.tuned(tune=3)
    assert error.value.code == "no_room_for_views"


def test_a_named_cut_that_was_decided_stands_whatever_room_there_is_by_now(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[Event] = []
    ground.tuned(cut, tune=3, epochs=1)
    decided = told(cut)["finetune.cut"]
    monkeypatch.setattr("tellapart.files.free_bytes", lambda _: 1000)
    again: list[Event] = []
    for event in ground.steps(tune=3, epochs=1):
        again.append(event)
        if isinstance(event, Recall) and event.name == "finetune.cut":
            event.decided.append(decided)
    assert told(again)["finetune.cut"].value == decided.value


@pytest.mark.parametrize("tune", ["last", "all"])
def test_it_learns_from_strongly_varied_views_mixed_above_the_cut(ground: Ground, tune: str) -> None:
    seen: list[Event] = []
    fitted = ground.tuned(seen, tune=tune, augment="strong", balance="logit", epochs=3)
    assert right(fitted, ground.val) >= right(ground.probe, ground.val) - 0.1
    assert told(seen)["finetune.augment"].value == "strong"
    assert told(seen)["finetune.balance"].value == "logit"
    shown = fitted.variations
    assert shown is not None
    assert (shown.share is None) is (tune == "last"), "views of what is frozen are made once, not in each step"
    square = prepare(ground.train.files[int(shown.rows[0])], fitted.preprocess)
    assert np.array_equal(shown.pictures[0, 0], square)
    key = picture_keys([ground.train.digests[int(shown.rows[0])]])
    if tune == "last":
        view = view_of(square, key, 1, preset("strong", square.shape[0], flip=False, erases=False))
        assert np.array_equal(shown.pictures[0, 1], view)
