"""`--distill`: the cheapest network learns what the best model says, and ships where that is not clearly worse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import tellapart
from tellapart.driving import finish
from tellapart.errors import RecipeError
from tellapart.events import Decision, Event, Note, Recall
from tellapart.ladder.choose import Candidate, Ground, candidate
from tellapart.ladder.clock import Clock
from tellapart.ladder.deliver import deliver
from tellapart.ladder.distil import distil
from tellapart.ladder.ensemble import ensemble
from tellapart.ladder.rungs import Rungs
from tellapart.learn.linear import fit_linear
from tellapart.learn.rungs import FloatArray, OutOfFold
from tellapart.recipe import Recipe
from tellapart.report import LadderRow
from tellapart.runtime.bundle import Bundle
from tests.conftest import write_photos_without_labels
from tests.ladder.test_ensemble import ground_of, made, rungs

__all__ = ["rungs"]

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"

Told = tuple[LadderRow, Candidate | None, list[Event]]


def dearer(one: Candidate) -> Candidate:
    """Return the same model in a graph that takes its time: an idle convolution beside what it sees."""
    model = onnx.load_model_from_string(one.fitted.trunk)
    graph = model.graph
    rng = np.random.default_rng(0)
    wide = rng.normal(size=(256, graph.node[2].output and len(numpy_helper.to_array(graph.initializer[0])), 5, 5))
    deep = rng.normal(size=(256, 256, 5, 5))
    for name, array in (("wide", wide), ("deep", deep), ("none", np.zeros(1))):
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    for node in graph.node:
        node.input[:] = ["busy" if name == "feature_map" else name for name in node.input]
    nodes = [
        helper.make_node("Conv", ["feature_map", "wide"], ["work0"], pads=[2, 2, 2, 2]),
        helper.make_node("Conv", ["work0", "deep"], ["work1"], pads=[2, 2, 2, 2]),
        helper.make_node("ReduceMean", ["work1"], ["work2"], keepdims=0),
        helper.make_node("Mul", ["work2", "none"], ["nothing"]),
        helper.make_node("Add", ["feature_map", "nothing"], ["busy"]),
    ]
    before, after = list(graph.node[:3]), list(graph.node[3:])
    del graph.node[:]
    graph.node.extend([*before, *nodes, *after])
    return dataclasses.replace(one, fitted=dataclasses.replace(one.fitted, trunk=model.SerializeToString()))


def probe(rungs: Rungs, planes: list[int], dear: bool = False) -> Candidate:
    found = made(rungs, planes)
    fitted = dataclasses.replace(found.fitted, details={"penalty": 0.03, "flip": False})
    found = dataclasses.replace(found, fitted=fitted)
    return dearer(found) if dear else found


def distilled(rungs: Rungs, tried: list[Candidate], champion: Candidate, ground: Ground | None = None) -> Told:
    seen: list[Event] = []
    steps = distil(rungs.run, rungs, tried, champion, ground or ground_of(rungs))
    row, ships = finish(steps, seen.append)
    return row, ships, seen


def test_the_cheapest_network_is_taught_by_the_ensemble_and_ships(rungs: Rungs) -> None:
    tried = [probe(rungs, [0, 1], dear=True), probe(rungs, [2])]
    together = finish(ensemble(rungs.run, rungs, tried, tried[0], ground_of(rungs)))
    assert together.better
    champion = together.candidate
    assert champion is not None
    row, ships, seen = distilled(rungs, tried, champion)
    assert ships is not None
    assert (row.method, row.backbone, row.chosen) == ("distill", "b", True)
    assert ships.fitted.details["taught_by"] == ["probe (rg)", "probe (b)"]
    # Held against the same network by labels alone, and against its teacher, with what each costs.
    assert "distill (b) minus that of probe (b)" in row.words
    assert "distill (b) minus that of ensemble (rg + b)" in row.words
    assert "ms a picture on one thread and" in row.words
    decided = {event.name: event for event in seen if isinstance(event, Decision)}
    assert decided["distill"].value is True
    assert decided["distill"].evidence == row.words
    assert set(decided["distill_student"].value) == {"ensemble (rg + b)", "probe (rg)", "probe (b)"}
    bundle = finish(deliver(rungs.run, rungs.manifest, rungs.pictures, ships, 1))
    assert bundle.card.method == "distill"
    assert bundle.card.backbone == "b"
    assert len(bundle.session.run(np.zeros((1, 8, 8, 3), np.uint8))["embedding"][0]) == 1


def test_it_says_of_pictures_left_out_what_it_says_of_new_ones(rungs: Rungs) -> None:
    tried = [probe(rungs, [0, 1, 2], dear=True), probe(rungs, [2])]
    _, ships, _ = distilled(rungs, tried, tried[0])
    assert ships is not None
    truth, val = rungs.pictures["train"].targets[ships.out_of_fold_rows], rungs.pictures["val"].targets
    assert len(truth) == len(rungs.pictures["train"])
    left_out = -np.log(ships.out_of_fold_probs()[np.arange(len(truth)), truth]).mean()
    fresh = -np.log(ships.val_probs[np.arange(len(val)), val])
    assert abs(left_out - fresh.mean()) < 3 * fresh.std() / np.sqrt(len(val))


def test_there_is_nothing_to_teach_where_the_best_is_the_cheapest(rungs: Rungs) -> None:
    tried = [probe(rungs, [0], dear=True), probe(rungs, [0, 1, 2])]
    row, ships, seen = distilled(rungs, tried, tried[1])
    assert ships is None
    assert row.skipped is not None
    assert "there is no smaller one to teach" in row.skipped
    assert any(isinstance(event, Note) and "probe (rgb) ships" in event.text for event in seen)


def many(rungs: Rungs, lying: bool) -> tuple[Rungs, list[Candidate], Ground]:
    """Two models of 600 training and 600 validation pictures; the dear one learned its network, and may lie."""
    rng = np.random.default_rng(0)
    base, n = probe(rungs, [2]), 600
    targets = {split: np.arange(n) % 2 for split in ("train", "val")}
    files = (Path("none.png"),) * n
    pictures = dict(rungs.pictures)
    for split, found in targets.items():
        named = tuple(f"{split}{number}" for number in range(n))
        pictures[split] = dataclasses.replace(  # type: ignore[index]
            rungs.pictures["train"], files=files, digests=named, groups=named, targets=found.astype(np.int64)
        )
    seen: dict[str, FloatArray] = {
        split: (0.1 * (2.0 * found[:, None] - 1.0) + rng.normal(size=(n, 200))).astype(np.float32)
        for split, found in targets.items()
    }
    linear = finish(fit_linear(seen["train"], pictures["train"].targets, 2, np.arange(n) % 5))
    rows = {split: np.arange(n, dtype=np.int64) for split in ("train", "val")} | {"test": np.empty(0, np.int64)}
    ground = Ground(pictures["train"].targets, pictures["val"].targets, balanced=False)
    fitted = dataclasses.replace(
        base.fitted,
        head=linear.head,
        embeddings=seen,
        held_out=np.arange(n, dtype=np.int64),
        out_of_fold=OutOfFold(linear.rows, linear.out_of_fold),
        details={"penalty": linear.penalty},
    )
    truly = seen["train"].mean(axis=1) * 0.2 * 200  # the logarithm of the odds
    said = -2.0 * (2.0 * targets["train"] - 1.0) + rng.normal(size=n) if lying else truly / 2
    tuned = dataclasses.replace(
        dearer(base).fitted,
        method="finetune",
        backbone="large",
        head=linear.head,
        embeddings=seen,
        held_out=np.empty(0, np.int64),
        out_of_fold=OutOfFold(np.arange(n), np.stack([-said, said], 1).astype(np.float32)),
    )
    tried = [candidate(one, ground, rows, 1.0) for one in (fitted, tuned)]  # type: ignore[arg-type]
    if lying:
        tried[1] = dataclasses.replace(tried[1], temperature=1.0)
    return dataclasses.replace(rungs, pictures=pictures), tried, ground


def test_a_network_that_learned_from_the_pictures_teaches_what_it_said_of_them_unseen(rungs: Rungs) -> None:
    there, tried, ground = many(rungs, lying=False)
    row, ships, _ = distilled(there, tried, tried[1], ground)
    assert ships is not None
    assert (ships.fitted.method, row.chosen) == ("distill", True)
    assert ships.fitted.details["taught_by"] == ["finetune (large)"]
    assert len(ships.fitted.out_of_fold.rows) == 60  # a slice: there are 600 validation pictures


def test_clearly_worse_than_by_labels_the_same_network_by_labels_ships(rungs: Rungs) -> None:
    there, tried, ground = many(rungs, lying=True)
    row, ships, seen = distilled(there, tried, tried[1], ground)
    assert ships is tried[0]
    assert not row.chosen
    assert row.words.startswith("The log loss of distill (b) minus that of probe (b) is +")
    assert "Clearly worse than by labels alone: probe (b), which is as small, ships." in row.words
    assert [event.value for event in seen if isinstance(event, Decision) and event.name == "distill"] == [False]


def test_nan_is_told_and_never_ships(rungs: Rungs) -> None:
    there, tried, ground = many(rungs, lying=False)
    lost = dataclasses.replace(tried[1], temperature=float("nan"))  # and so all that it answers
    row, ships, seen = distilled(there, [tried[0], lost], lost, ground)
    assert ships is None
    assert row.skipped == "the best model gave answers that are not finite numbers"
    assert any(isinstance(event, Note) and event.text.endswith("finetune (large) ships.") for event in seen)


def test_out_of_time_the_best_model_stays_and_a_run_that_goes_on_stops_there_too(rungs: Rungs) -> None:
    tried = [probe(rungs, [0, 1, 2], dear=True), probe(rungs, [2])]
    late = dataclasses.replace(rungs, run=dataclasses.replace(rungs.run, clock=Clock(600.0, 599.9)))
    row, ships, seen = distilled(late, tried, tried[0])
    assert ships is None
    assert row.skipped == "the budget was used up"
    cut = [event for event in seen if isinstance(event, Decision) and event.name == "distill.out_of_time"]
    assert len(cut) == 1
    steps = distil(rungs.run, rungs, tried, tried[0], ground_of(rungs))
    try:
        while True:
            event = next(steps)
            if isinstance(event, Recall) and event.name == "distill.out_of_time":
                event.decided.extend(cut)
    except StopIteration as end:
        row, ships = end.value
    assert ships is None
    assert row.skipped == "the budget was used up"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "--distill got --effort balanced; it goes with --effort best"),
        (
            {"effort": "best", "method": "scratch"},
            "--distill got --method scratch; it goes with --method auto or probe",
        ),
        ({"effort": "best", "backbone": "mobilenetv2_100"}, "--distill got --backbone mobilenetv2_100"),
    ],
)
def test_what_leaves_no_smaller_network_is_refused(options: dict[str, str], told: str) -> None:
    with pytest.raises(RecipeError, match=told) as refused:
        Recipe.of(distill=True, **options)
    assert refused.value.code == "nothing_to_distill"
    assert refused.value.exit_code == 2


def test_without_weights_the_run_says_that_there_was_no_network_to_teach(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run = tellapart.train(
        photos, out=tmp_path / "run", budget="60s", effort="best", distill=True, image_size=8, threads=1, epochs=1
    )
    assert run.summary is not None
    [row] = [row for row in run.summary.ladder if row.method == "distill"]
    assert row.skipped is not None
    assert "no pretrained network" in row.skipped
    assert run.summary.method != "distill"


@pytest.mark.promise
@pytest.mark.weights
def test_a_run_ships_one_small_network_with_pictures_without_a_label_and_its_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not WEIGHTS.is_dir():
        pytest.skip(f"needs the backbones in {WEIGHTS}")
    monkeypatch.setenv("TELLAPART_WEIGHTS", str(WEIGHTS))
    write_photos_without_labels(tmp_path / "photos")
    options = {"method": "probe", "effort": "best", "distill": True, "image_size": 64, "budget": "5m"}
    run = tellapart.train(tmp_path / "photos", out=tmp_path / "run", **options)  # type: ignore[arg-type]
    assert run.summary is not None
    row = run.summary.ladder[-1]
    assert row.method == "distill"
    assert row.skipped is None
    assert "ms a picture on one thread" in row.words
    assert "4 pictures without a label were learned from too." in row.words
    assert run.bundle is not None
    card = Bundle(run.bundle).card
    shipped = run.summary.method if row.chosen else "probe"
    assert (card.method, card.backbone) == (shipped, row.backbone)
    sizes = {folder.parent.name: folder.stat().st_size for folder in WEIGHTS.glob("*/model.safetensors")}
    assert row.backbone == min(sizes, key=lambda name: sizes[name])
    assert run.result["test"]["n"] > 0
